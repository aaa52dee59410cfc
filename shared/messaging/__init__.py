"""Outbox and relay, inbox and consumer, parked events and dead letters."""
