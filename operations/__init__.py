"""Commands of an operator: migrate, make secrets, resend, dead letters, AsyncAPI."""
