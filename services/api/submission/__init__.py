"""`POST /schedule`: the request, its times and capacity, intake and idempotency."""
