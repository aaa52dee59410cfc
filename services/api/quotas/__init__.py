"""What the quotas allow and what is used of them, as the launcher reports it, for users."""
