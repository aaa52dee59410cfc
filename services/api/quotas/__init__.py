"""Quotas for users: the limits and their use, as the launcher reports it."""
