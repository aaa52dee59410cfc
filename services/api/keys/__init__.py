"""API keys: scopes, rate limits, the commands that make them, and their SQL."""
