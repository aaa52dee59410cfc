"""The drill: outages of a compose deployment with running jobs, and what each of them cost.

It stands outside of the product, as its operator and its users do: it calls `docker compose`, the
HTTP API, `psql` and `rabbitmqctl`, and imports nothing of the services. What happened is read from
the engine (which containers really started), from the API (what users see) and from the services'
tables (events that had no effect).
"""
