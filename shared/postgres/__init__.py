"""Postgres: the pool, migrations and wake-ups."""
