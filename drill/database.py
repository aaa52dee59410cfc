"""Postgres seen by its superuser: its states, and the events that had no effect."""

from collections.abc import Mapping

from drill.deployment import SERVICES, Deployment

REPEATED = "LaunchesReported"
"""The watermark: it is published again and again, and only the last one counts."""

ROLES = ", ".join(f"'{service}'" for service in SERVICES)
DISCONNECT = f"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename IN ({ROLES})"""  # noqa: S608 - our own text


def make_read_only(deployment: Deployment) -> None:
    """Let the server refuse writes, and drop the services' connections, as a failover does."""
    _set_read_only(deployment, "SET default_transaction_read_only = on")
    deployment.sql(DISCONNECT)


def make_writable(deployment: Deployment) -> None:
    """Let the server take writes again."""
    _set_read_only(deployment, "RESET default_transaction_read_only")


def refuse_logins(deployment: Deployment) -> None:
    """Refuse the services' logins, and drop their connections."""
    _alter_roles(deployment, "NOLOGIN")
    deployment.sql(DISCONNECT)


def accept_logins(deployment: Deployment) -> None:
    """Accept the services' logins again."""
    _alter_roles(deployment, "LOGIN")


def lost_events(deployment: Deployment, readers: Mapping[str, list[str]]) -> int:
    """Count the events that are not published, not received by a reader, or put aside."""
    statement = f"SELECT {' + '.join(_counts(readers))}"
    return int(deployment.sql(statement))


def _set_read_only(deployment: Deployment, change: str) -> None:
    deployment.sql(f"ALTER SYSTEM {change}", writes=True)
    deployment.sql("SELECT pg_reload_conf()", writes=True)


def _alter_roles(deployment: Deployment, change: str) -> None:
    for service in SERVICES:
        deployment.sql(f"ALTER ROLE {service} {change}")


def _counts(readers: Mapping[str, list[str]]) -> list[str]:
    """Return an SQL expression for each count: of each service, and of each pair of services."""
    counts = []
    for service in SERVICES:
        unsent = f"published_at IS NULL AND name <> '{REPEATED}'"
        counts.append(f"(SELECT count(*) FROM {service}.outbox WHERE {unsent})")  # noqa: S608
        counts.append(f"(SELECT count(*) FROM {service}.parked)")  # noqa: S608 - our own names
        for reader, names in readers.items():
            listed = ", ".join(f"'{name}'" for name in names if name != REPEATED)
            counts.append(
                f"(SELECT count(*) FROM {service}.outbox, "  # noqa: S608
                "jsonb_array_elements(convert_from(body, 'UTF8')::jsonb) AS event "
                f"WHERE published_at IS NOT NULL AND name IN ({listed}) AND NOT EXISTS "
                f"(SELECT FROM {reader}.inbox WHERE event_id = (event ->> 'id')::uuid))"
            )
    return counts
