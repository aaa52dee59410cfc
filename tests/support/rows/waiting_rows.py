"""Tables full of waiting rows, as in a burst or after an outage.

Of a table first what is settled is added, then what waits. Half of that is due at `NOW`. Nothing is
vacuumed, and analyzed only where a test says so.
"""

from collections.abc import Sequence

from shared.postgres.pool import Connection

NOW = "2026-01-01T00:00:00Z"
LEASE = "00000000-0000-0000-0000-000000000001"
"""Holds the first `BATCH` of what waits."""

FIRST = 1_000_000
"""The number of the first that waits; settled ones are numbered from 1."""

SETTLED_ROWS = 10_000
FEW_ROWS = 60
"""Rows of a quiet day, which autovacuum has analyzed."""

BATCH = 500

SETTLED = {
    "outbox": """
INSERT INTO outbox (batch_id, name, body, created_at, published_at)
SELECT gen_random_uuid(), 'JobScheduled', '', at, at FROM settled
""",
    "inbox": """
INSERT INTO inbox (event_id, name, handled_at) SELECT gen_random_uuid(), 'JobScheduled', at
FROM settled
""",
    "parked": """
INSERT INTO parked (event_id, name, body, state, tries, error, parked_at, due_at)
SELECT gen_random_uuid(), 'JobScheduled', '', 'dead', 6, '', at, at FROM settled
""",
    "timers": """
INSERT INTO timers (job_id, attempt, state, due_at, requirements, trace, settled_at)
SELECT id, 1, 'fired', at, '{}', '', at FROM settled
""",
    "batches": """
INSERT INTO batches (token, size, plan, plan_hash, asked_at, settled_at)
SELECT 'settled-' || id, 10, '{}', '', at, at FROM settled
""",
    "charges": """
INSERT INTO charges (job_id, attempt, vcpus, instance_id, began_at, ends_by, ended_at)
SELECT id, 1, 2, 'settled-' || id, at, at, at FROM settled
""",
    "launches": """
INSERT INTO launches (job_id, attempt, state, requirements, trace, launch_token, params, asked_at,
    batch_token, batch_place, told, settled_at)
SELECT id, 1, 'launched', '{}', '', '', '{}', at, CASE WHEN id <= 5000 THEN 'settled-' || id END,
    1, id, at
FROM settled
""",
    "instances": """
INSERT INTO instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    launched_at, dies_by, end_cause, terminated_at, billed_seconds, settled_at)
SELECT 'settled-' || id, id, 1, '', '', 'terminated', 'spot', at, at, 'done', at, 60, at
FROM settled
""",
    "ended_attempts": """
INSERT INTO ended_attempts (job_id, attempt, cause, ended_at, terminate_after)
SELECT id, 1, 'done', at, at FROM settled
""",
    "notices": """
INSERT INTO notices (instance_id, kind, noticed_at, heard_at, told_at)
SELECT 'settled-' || id, 'interruption', at, at, at FROM settled
""",
    "sightings": """
INSERT INTO sightings (instance_id, first_seen_at, last_seen_at)
SELECT 'settled-' || id, at, at FROM settled
""",
    "console_reads": """
INSERT INTO console_reads (instance_id, due_at) SELECT 'later-' || id, '2100-01-01' FROM settled
""",
    "jobs": """
INSERT INTO jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status, attempt,
    trace, created_at, finished_at)
SELECT id, '', '{}', '{"team": "data"}', at, 'UTC', 'DONE', 1, '', at, at FROM settled
""",
    "job_labels": """
INSERT INTO job_labels (name, value, job_id) SELECT 'team', 'data', id FROM settled
ON CONFLICT DO NOTHING -- a trigger has added them
""",
    "log_batches": """
INSERT INTO log_batches (job_id, attempt, seq, lines) SELECT id, 1, 1, '[]' FROM settled
""",
    "attempts": """
INSERT INTO attempts (job_id, number, state, due_at, entered, cause, ended_at)
SELECT id, 1, 'ended', at, '{}', 'done', at FROM settled
""",
    "log_tails": """
INSERT INTO log_tails (job_id, attempt, seq, lines, starts_at, first_line, received_at)
SELECT id, 1, 1, '[]', 0, 0, at FROM settled
""",
    "idempotency_keys": """
INSERT INTO idempotency_keys (key, body_hash, job_id, answer, created_at)
SELECT id, '', id, '', at FROM settled
""",
    "audit": """
INSERT INTO audit (at, action, address, job_id) SELECT at, 'job.schedule', '', id FROM settled
""",
    "used_proofs": """
INSERT INTO used_proofs (signature, token_hash, expires_at)
SELECT sha256(id::text::bytea), '', at FROM settled
""",
    "job_changes": """
INSERT INTO job_changes (position, job_id, at, status, attempt, phase, reason)
SELECT id, id, at, 'DONE', 1, 'done', '' FROM settled
""",
    "new_job_changes": """
INSERT INTO new_job_changes (job_id, at, status, attempt, phase, reason)
SELECT id, at, 'DONE', 1, 'done', '' FROM settled
""",
}

WAITING = {
    "outbox": """
INSERT INTO outbox (batch_id, name, body, created_at)
SELECT gen_random_uuid(), 'JobScheduled', '', at FROM waiting
""",
    "parked": """
INSERT INTO parked (event_id, name, body, state, tries, error, parked_at, due_at)
SELECT gen_random_uuid(), 'JobScheduled', '', 'waiting', 1, '', at, at FROM waiting
""",
    "timers": """
INSERT INTO timers (job_id, attempt, state, due_at, requirements, trace)
SELECT id, 1, 'waiting', at, '{}', '' FROM waiting
""",
    "batches": """
INSERT INTO batches (token, size, plan, plan_hash, asked_at, due_at, lease_token)
SELECT 'waiting-' || id, 10, '{}', '', at, at, lease FROM waiting WHERE id % 10 = 0
""",
    "charges": """
INSERT INTO charges (job_id, attempt, vcpus, instance_id, began_at, ends_by, ask_at)
SELECT id, 1, 2, 'i', at, at, at FROM waiting
""",
    "launches": """
INSERT INTO launches (job_id, attempt, state, requirements, trace, wanted_at, due_at, lease_token)
SELECT id, 1, 'wanted', '{}', '', at, at, lease FROM waiting;
INSERT INTO launches (job_id, attempt, state, requirements, trace, launch_token, params, asked_at,
    batch_token, batch_place, wanted_at, due_at)
SELECT id, 2, 'asked', '{}', '', '', '{}', at, 'waiting-' || (id - id % 10), id % 10, at, at
FROM waiting
""",
    "instances": """
INSERT INTO instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    launched_at, dies_by)
SELECT 'running-' || id, id, 1, '', '', 'running', 'spot', at, at FROM waiting;
INSERT INTO instances (instance_id, job_id, attempt, launch_token, trace, state, market,
    launched_at, dies_by, end_cause, due_at, lease_token)
SELECT 'ending-' || id, id, 2, '', '', 'ending', 'spot', at, at, 'done', at,
    lease
FROM waiting
""",
    "ended_attempts": """
INSERT INTO ended_attempts (job_id, attempt, cause, ended_at, terminate_after)
SELECT id, 3, 'cancelled', at, at FROM waiting
""",
    "notices": """
INSERT INTO notices (instance_id, kind, noticed_at, heard_at)
SELECT 'unknown-' || id, 'interruption', at, at FROM waiting LIMIT 500
""",
    "console_reads": """
INSERT INTO console_reads (instance_id, due_at) SELECT 'ending-' || id, at FROM waiting
""",
    "jobs": """
INSERT INTO jobs (id, docker_image, env_vars, labels, scheduled_for, timezone, status, attempt,
    trace, created_at)
SELECT id, '', '{}', '{}', at, 'UTC', 'SCHEDULED', 1, '', at FROM waiting
""",
    "attempts": """
INSERT INTO attempts (job_id, number, state, due_at, entered, check_at, token_hash, instance_id)
SELECT id, 1, 'running', at, '{}', at, sha256(id::text::bytea), 'i-' || id FROM waiting;
INSERT INTO attempts (job_id, number, state, due_at, entered)
SELECT id, 2, 'scheduled', at, '{}' FROM waiting
""",
    "log_tails": """
INSERT INTO log_tails (job_id, attempt, seq, lines, starts_at, first_line, received_at)
SELECT id, 1, 1, '[]', 0, 0, at FROM waiting
""",
    "job_changes": """
INSERT INTO job_changes (position, job_id, at, status, attempt, phase, reason)
SELECT id, id, at, 'RUNNING', 1, 'running', '' FROM waiting
""",
    "new_job_changes": """
INSERT INTO new_job_changes (job_id, at, status, attempt, phase, reason)
SELECT id, at, 'RUNNING', 1, 'running', '' FROM waiting
""",
}

SETTLED_NUMBERS = f"""
DROP TABLE IF EXISTS settled;
CREATE TEMPORARY TABLE settled AS
SELECT id, timestamptz '{NOW}' - interval '1 day' - id * interval '1 ms' AS at
FROM generate_series(1, {{rows}}) AS id
"""  # noqa: S608 - our own text
WAITING_NUMBERS = f"""
DROP TABLE IF EXISTS waiting;
CREATE TEMPORARY TABLE waiting AS
SELECT {FIRST} + id AS id, timestamptz '{NOW}' + (id - {{rows}} / 2) * interval '1 ms' AS at,
    CASE WHEN id < {BATCH} THEN uuid '{LEASE}' END AS lease
FROM generate_series(0, {{rows}} - 1) AS id
"""  # noqa: S608 - our own text


async def empty(conn: Connection, schema: str, tables: Sequence[str]) -> None:
    """Empty *tables*, of which nothing is known from now on but what `analyze` finds."""
    await conn.execute(f"SET search_path = {schema}, pg_temp; SET synchronous_commit = off")
    await conn.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
    for table in tables:
        await conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")


async def analyze(conn: Connection, tables: Sequence[str]) -> None:
    """Let the planner know how *tables* are now."""
    for table in tables:
        await conn.execute(f"ANALYZE {table}")


async def fill_settled(conn: Connection, tables: Sequence[str], rows: int = SETTLED_ROWS) -> None:
    """Add what is settled, *rows* of each kind."""
    await conn.execute(SETTLED_NUMBERS.format(rows=rows))
    for table in tables:
        await conn.execute(SETTLED[table])


async def fill_waiting(conn: Connection, tables: Sequence[str], rows: int) -> None:
    """Add what waits, *rows* of each kind."""
    await conn.execute(WAITING_NUMBERS.format(rows=rows))
    for table in tables:
        if table in WAITING:
            await conn.execute(WAITING[table])
