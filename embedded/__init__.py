"""All four services in one process, on an embedded Postgres and the memory bus."""
