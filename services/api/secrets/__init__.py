"""Secrets at rest: sealed with their job."""
