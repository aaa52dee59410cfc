"""Every statement that claims or changes rows among many, and its arguments.

A statement is listed here once: in `PLACES`, to be run, or in `ELSEWHERE`, with the reason why no
plan of it can go astray.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from operations.wiring import SERVICES
from tests.support.rows.statements import statements_of, store_modules
from tests.support.rows.waiting_rows import BATCH, FIRST, LEASE, NOW

SHARED = tuple(
    f"shared.messaging.{name}" for name in ("store", "parked", "dead_letters", "dead_letter_report")
)
CLAIMS_OR_CHANGES = re.compile(
    r"\bUPDATE\b|\bDELETE\b|\bFOR SHARE\b|SELECT min\(\w+\) FROM|<= \$1\b"
)

LATER = "2026-01-01T00:01:00Z"
PAST = "2025-12-01T00:00:00Z"
TOKEN = "00000000-0000-0000-0000-000000000002"

Value = str | int | None | list[str] | list[int]


@dataclass(frozen=True)
class Claim:
    """A statement by its name, the arguments as Postgres' text, and how many rows are meant."""

    statement: str
    args: tuple[Value, ...]
    batch: int = BATCH


def literal(value: Value) -> str:
    """*value* as a parameter of EXECUTE."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "'{" + ",".join("NULL" if each == "NULL" else f'"{each}"' for each in value) + "}'"
    return f"'{value}'"


def statements() -> dict[str, str]:
    """Every SQL constant of the stores and of what they share, by its qualified name."""
    found = statements_of(*SHARED)
    for service in SERVICES:
        found |= statements_of(*store_modules(service.NAME))
    return found


def spread(count: int, start: int = FIRST) -> list[int]:
    """*count* numbers of what waits."""
    return list(range(start, start + count))


def times(value: str | int, count: int = BATCH) -> list[str]:
    """*value*, *count* times."""
    return [str(value)] * count


IDS = spread(BATCH)
OLD_IDS = spread(BATCH, 1)
ONES, TWOS = times(1), times(2)

SHARED_CLAIMS = (
    Claim("shared.messaging.store.LEASE_OUTBOX", (NOW, LATER, TOKEN, BATCH)),
    Claim("shared.messaging.store.MARK_PUBLISHED", (spread(BATCH, 20_000), NOW)),
    Claim("shared.messaging.store.RELEASE_OUTBOX", (spread(BATCH, 20_000), TOKEN)),
    Claim("shared.messaging.store.POSTPONE_OUTBOX", (spread(BATCH, 20_000), times(LATER), TOKEN)),
    Claim("shared.messaging.store.PRUNE_OUTBOX", (NOW, BATCH)),
    Claim("shared.messaging.store.PRUNE_INBOX", (NOW, BATCH)),
    Claim("shared.messaging.parked.PRUNE_DEAD", (NOW, BATCH)),
    Claim("shared.messaging.parked.LEASE_PARKED", (NOW, LATER, 100), batch=100),
    Claim("shared.messaging.parked.NEXT_PARKED", (), batch=1),
)

_SCHEDULER = "services.scheduler.store."
SCHEDULER_CLAIMS = (
    Claim(f"{_SCHEDULER}FIRE_DUE", (NOW, BATCH)),
    Claim(f"{_SCHEDULER}NEXT_DUE", (), batch=1),
    Claim(f"{_SCHEDULER}FIND_TIMERS", (IDS, ONES)),
    Claim(f"{_SCHEDULER}CANCEL_TIMERS", (IDS, ONES, NOW, ["waiting"])),
    Claim(f"{_SCHEDULER}PRUNE_SETTLED", (NOW, BATCH)),
)

_LAUNCHES = "services.launcher.store.launches."
_KNOWN = "services.launcher.store.known_launches."
_BATCHES = "services.launcher.store.batches."
_PAUSES = "services.launcher.store.pauses."
_CHARGES = "services.launcher.store.charges."
_HOLDS = "services.launcher.store.holds."
_WATERMARK = "services.launcher.store.watermark."
LAUNCHER_CLAIMS = (
    Claim(f"{_LAUNCHES}LOCK_DUE", (NOW, BATCH)),
    Claim(f"{_LAUNCHES}LEASE_WANTED", (IDS, ONES, LATER, TOKEN, NOW)),
    Claim(f"{_PAUSES}HOLD_BACK", (NOW, 3, "paused", PAST, BATCH, None)),
    Claim(f"{_LAUNCHES}LOCK_WANTED", (IDS, ONES)),
    Claim(
        f"{_BATCHES}SAVE_INTENT",
        (IDS, ONES, times("t"), times("{}"), NOW, f"waiting-{FIRST + 10}", LATER),
    ),
    Claim(f"{_LAUNCHES}GIVE_UP", (IDS, ONES, NOW, ["wanted", "asked"])),
    Claim(f"{_BATCHES}CLAIM_BATCHES", (NOW, LATER, TOKEN, BATCH, "0.125", 100)),
    Claim(f"{_BATCHES}LAUNCHES_OF", ([f"waiting-{FIRST + 10 * n}" for n in range(BATCH // 10)],)),
    Claim(f"{_BATCHES}HOLD_BATCH", (f"waiting-{FIRST}", LEASE), batch=1),
    Claim(f"{_BATCHES}LOCK_ASKED", (f"waiting-{FIRST}",), batch=10),
    Claim(
        f"{_LAUNCHES}SAVE_ANSWERS",
        (
            *(IDS, TWOS, times("launched"), ONES, times("NULL"), times("NULL"), times(0)),
            *(times("NULL"), times("NULL"), times("i-1"), times(NOW), ONES, times(NOW)),
            *(times("NULL"), times("NULL")),
        ),
    ),
    Claim(f"{_KNOWN}FIND_LAUNCHES", (IDS, ONES)),
    Claim(f"{_KNOWN}FIND_NUMBERED", (1, BATCH, BATCH)),
    Claim(f"{_BATCHES}CLOSE_BATCH", (f"waiting-{FIRST}", None, NOW), batch=1),
    Claim(f"{_WATERMARK}OLDEST_ASKED", (), batch=1),
    Claim(f"{_LAUNCHES}NEXT_DUE", (None,), batch=2),
    Claim(f"{_LAUNCHES}PRUNE_SETTLED", (NOW, BATCH)),
    Claim(f"{_LAUNCHES}PRUNE_BATCHES", (NOW, BATCH)),
    Claim(
        f"{_HOLDS}HOLD_LAUNCHES",
        (
            *(IDS, ONES, times(LATER), times("a"), times("b"), ONES, times(1), NOW),
            times("true"),
        ),
    ),
    Claim(f"{_HOLDS}RELEASE_HELD", (IDS, ONES, NOW)),
    Claim(f"{_CHARGES}DROP_CHARGES", (IDS, ONES)),
    Claim(f"{_CHARGES}LOCK_CHARGES", (IDS, ONES)),
    Claim(f"{_CHARGES}END_CHARGES", (IDS, ONES, times("i"), times(NOW), times(1), NOW)),
    Claim(f"{_CHARGES}CLAIM_QUESTIONS", (NOW, NOW, BATCH, "2 minutes", "1 hour")),
    Claim(f"{_CHARGES}PRUNE_CHARGES", (PAST, BATCH)),
)

_INSTANCES = "services.reaper.store.instances."
_ABSENCES = "services.reaper.store.absences."
_NOTICES = "services.reaper.store.notices."
_READS = "services.reaper.store.console_reads."
_UNKNOWN = "services.reaper.store.unknown_instances."
RUNNING = [f"running-{id_}" for id_ in IDS]
ENDING = [f"ending-{id_}" for id_ in IDS]
REAPER_CLAIMS = (
    Claim(f"{_INSTANCES}END_INSTANCES_OF", (IDS, ONES)),
    Claim("services.reaper.store.terminations.FIND_TERMINATIONS", (IDS, ONES)),
    Claim(f"{_INSTANCES}CLAIM_ENDING", (NOW, LATER, TOKEN, BATCH)),
    Claim(f"{_INSTANCES}POSTPONE", (ENDING, times(LATER), LEASE)),
    Claim(f"{_INSTANCES}LOCK_LIVING", (ENDING,)),
    Claim(
        f"{_INSTANCES}RECORD_TERMINATED",
        (ENDING, times("done"), times(NOW), times(60), times(0), NOW, times("{}")),
    ),
    Claim(f"{_INSTANCES}NEXT_ENDING", (), batch=1),
    Claim(f"{_INSTANCES}MARK_MISSING", (RUNNING, NOW)),
    Claim(f"{_INSTANCES}CLEAR_MISSING", (RUNNING,)),
    Claim(f"{_ABSENCES}CLAIM_MISSING", (NOW, LATER, BATCH)),
    Claim(f"{_ABSENCES}LOCK_MISSING", (RUNNING,)),
    Claim(f"{_ABSENCES}SAVE_NOT_FOUND", (RUNNING, times(60), NOW)),
    Claim(f"{_ABSENCES}CLEAR_NOT_FOUND", (RUNNING,)),
    Claim(f"{_INSTANCES}END_LIVES", (RUNNING, NOW, "lifetime")),
    Claim(f"{_INSTANCES}PRUNE_INSTANCES", (NOW, BATCH)),
    Claim(f"{_INSTANCES}PRUNE_ENDED_ATTEMPTS", (NOW, BATCH)),
    Claim(f"{_UNKNOWN}ADD_SIGHTINGS", (RUNNING, NOW)),
    Claim(f"{_UNKNOWN}PRUNE_SIGHTINGS", (NOW, BATCH)),
    Claim(f"{_NOTICES}CLAIM_UNPUBLISHED", (NOW,)),
    Claim(f"{_NOTICES}PRUNE_NOTICES", (NOW, BATCH)),
    Claim("services.reaper.store.consoles.FIND_UNREAD", (RUNNING,)),
    Claim("services.reaper.store.consoles.PRUNE_CONSOLES", (NOW, BATCH)),
    Claim(
        "services.reaper.store.consoles.KEEP_CONSOLES",
        (ENDING, times("a"), NOW, "[", times(1), times("false")),
    ),
    Claim(f"{_READS}CLAIM_READS", (NOW, LATER, BATCH)),
    Claim(f"{_READS}POSTPONE_READS", (ENDING, times(LATER))),
    Claim(f"{_READS}END_READS", (ENDING,)),
    Claim(f"{_READS}NEXT_READ", (), batch=1),
    Claim(f"{_READS}FIND_ENDS", (ENDING,)),
)

_API = "services.api."
TOKENS = ["\\\\x" + sha256(str(id_).encode()).hexdigest() for id_ in IDS]
API_CLAIMS = (
    Claim(f"{_API}jobs.store.OVERDUE", (NOW, BATCH)),
    Claim(f"{_API}jobs.store.NEXT_CHECK", (), batch=1),
    Claim(f"{_API}jobs.overdue_store.OLDEST_UNSENT", (), batch=1),
    Claim(f"{_API}jobs.overdue_store.FIND_OVERDUE", (NOW, NOW, BATCH, ["scheduled"])),
    Claim(f"{_API}jobs.overdue_store.FIND_UNCONFIRMED", (PAST, NOW, NOW, BATCH)),
    Claim(f"{_API}jobs.overdue_store.MARK_ASKED", (IDS, TWOS, times(LATER), NOW)),
    Claim(f"{_API}jobs.store.LOCK_JOB", (FIRST,), batch=1),
    Claim(f"{_API}jobs.store.BEAT", (FIRST, 1, NOW, "a"), batch=1),
    Claim(f"{_API}jobs.unit_of_work.LOCK_JOBS", (IDS,)),
    Claim(
        f"{_API}jobs.unit_of_work.SAVE",
        (
            *(IDS, times("RUNNING"), ONES, times("NULL"), times("NULL"), times("NULL")),
            *("[]", [], [], [], NOW, IDS, [], [], [], [], []),
        ),
    ),
    Claim(f"{_API}jobs.unit_of_work.LOCK_FREE_JOBS", (IDS,)),
    Claim(f"{_API}jobs.store.BEAT_FREE", (TOKENS, NOW, 3600, IDS, times("a"))),
    Claim(f"{_API}jobs.store.BEAT_LOCKED", (IDS, ONES, NOW, times("a"))),
    Claim(
        f"{_API}logs.store.KEEP_BATCHES",
        (
            *(IDS, ONES, TWOS, times("[]"), ONES, ONES, ONES, ONES),
            *(times("NULL"), times(0), times(0), ONES, NOW, times("NULL"), times("NULL")),
        ),
    ),
    Claim(f"{_API}jobs.retention_store.FINISHED_WITH_LOGS", (PAST, 0, NOW, BATCH)),
    Claim(f"{_API}jobs.retention_store.FINISHED_WITHOUT_LOGS", (PAST, 0, NOW, BATCH)),
    Claim(f"{_API}jobs.retention_store.LOCK_FREE_IDS", (IDS,)),
    Claim(f"{_API}jobs.retention_store.REMOVE_LOG_BATCHES", (OLD_IDS, BATCH)),
    Claim(f"{_API}jobs.retention_store.REMOVE_LOG_TAILS", (OLD_IDS, BATCH)),
    Claim(f"{_API}jobs.retention_store.MARK_LOGS_REMOVED", (OLD_IDS, NOW)),
    Claim(f"{_API}jobs.retention_store.FIND_KEYED", (OLD_IDS,)),
    # It visits the rows of nine tables.
    Claim(f"{_API}jobs.retention_store.REMOVE_JOBS", (OLD_IDS,), batch=9 * BATCH),
    Claim(f"{_API}changes.store.NUMBER", (9 * FIRST, BATCH)),
    Claim(f"{_API}changes.store.READ_PAGE", (FIRST, BATCH)),
    Claim(f"{_API}changes.store.PRUNE", (0, NOW, BATCH)),
    Claim(f"{_API}jobs.totals.ADD_TOTALS", (OLD_IDS,)),
    Claim(f"{_API}jobs.totals.ADD_SAVINGS", (OLD_IDS, ["lost"])),
    Claim(f"{_API}jobs.totals.ADD_PROJECT_TOTALS", (OLD_IDS, ["lost"], "other")),
    Claim(f"{_API}submission.idempotency_store.PRUNE_KEYS", (NOW, BATCH)),
    Claim(f"{_API}audit.store.PRUNE_ENTRIES", (NOW, BATCH)),
    Claim(f"{_API}agents.store.PRUNE_PROOFS", (PAST,), batch=1),
)

PLACES: dict[str, tuple[str, tuple[str, ...], Sequence[Claim]]] = {
    "shared": ("scheduler", ("outbox", "inbox", "parked"), SHARED_CLAIMS),
    "scheduler": ("scheduler", ("timers",), SCHEDULER_CLAIMS),
    "launcher": ("launcher", ("batches", "charges", "launches"), LAUNCHER_CLAIMS),
    "reaper": (
        "reaper",
        ("instances", "ended_attempts", "notices", "sightings", "console_reads"),
        REAPER_CLAIMS,
    ),
    "api": (
        "api",
        (
            *("jobs", "job_labels", "attempts", "log_batches", "log_tails"),
            *("idempotency_keys", "audit", "used_proofs", "outbox"),
            *("job_changes", "new_job_changes"),
        ),
        API_CLAIMS,
    ),
}

ELSEWHERE = {
    # One row, or none, by its primary key.
    "services.api.jobs.availability_store.LOCK_HEARTBEAT",
    "services.api.jobs.availability_store.TOUCH_WHAT_REPORTS_WRITE",
    "services.api.keys.store.REVOKE_KEY",
    "services.api.submission.idempotency_store.FIND_KEY_OF_RELEASE_BEFORE",
    "services.api.keys.store.TOUCH_KEY",
    "services.api.agents.store.USE_PROOFS",
    "services.api.dead_letters.store.SAVE_LETTERS",
    "services.api.quotas.store.SAVE_QUOTAS",
    "shared.messaging.parked.BEGIN_TRY",
    "shared.messaging.parked.POSTPONE_PARKED",
    "shared.messaging.parked.UNPARK",
    # New rows, or those of their primary keys.
    "services.launcher.store.charges.SAVE_CHARGES",
    "services.api.jobs.consoles.KEEP_CONSOLES",
    # Of a table that has one row.
    "services.api.changes.store.LOCK_COUNTER",
    "services.api.changes.store.LOCK_PRUNED",
    "services.api.jobs.retention_store.KEEP_FROM_NUMBERING",
    "services.api.jobs.availability_store.LOCK_AVAILABILITY",
    "services.api.jobs.availability_store.SAVE_AVAILABILITY",
    # Of a table with a row for each release of the last days.
    "services.api.agents.builds_store.ADD_BUILD",
    "services.api.agents.builds_store.PRUNE_BUILDS",
    "services.api.agents.builds_store.TOUCH_BUILD",
    "services.api.jobs.breaker_store.LOCK_BREAKER",
    "services.api.jobs.breaker_store.SAVE_BREAKER",
    "shared.messaging.dead_letter_report.SAVE_REPORT",
    "services.launcher.store.charges.LOCK_QUOTAS",
    "services.launcher.store.reports.SAVE_REPORT",
    "services.launcher.store.pauses.BEGIN_TRIAL",
    "services.launcher.store.pauses.LOCK_PAUSE",
    "services.launcher.store.pauses.SAVE_PAUSE",
    # Of a table with a row for each setting that is wrong, and by its primary key.
    "services.launcher.store.troubles.REMOVE_TROUBLES",
    "services.launcher.store.troubles.SAVE_TROUBLE",
    # Of a table with the failed boots of the last hour.
    "services.launcher.store.failed_boots.PRUNE_FAILED_BOOTS",
    # Of a table with a row for each method of the port, and by its primary key.
    "services.reaper.store.refused_calls.SAVE",
    "services.launcher.store.pricing.CLAIM_PRICING",
    "services.launcher.store.pricing.SETTLE_PRICING",
    "services.launcher.store.watermark.COUNT_LAUNCHES",
    "services.launcher.store.watermark.LOCK_LAUNCH_COUNT",
    "services.reaper.store.missed_launches.CLEAR_GAP",
    "services.reaper.store.missed_launches.SAVE_GAP",
    "services.reaper.store.missed_launches.SKIP_MISSING",
    "services.reaper.store.unknown_instances.RAISE_WATERMARK",
    "services.reaper.store.listings.LOCK_LISTING",
    "services.reaper.store.listings.SAVE_LISTING",
    # All whose time limits passed since the last minute.
    "services.launcher.store.charges.END_LATE",
    # All that it names is meant: what was received since the last pass, or an operator's choice.
    "services.api.jobs.availability_store.PRUNE_OUTAGES",
    "services.api.offers.store.PRUNE_OFFERS",
    "services.reaper.store.instances.END_INSTANCES_OF_ENDED",
    "services.reaper.store.listings.POSTPONE_MISSING",
    "services.reaper.store.listings.POSTPONE_SIGHTINGS",
    "services.reaper.store.missed_launches.MISSING_RUNS",
    "services.reaper.store.unknown_instances.ADVANCE_RECEIVED",
    "services.reaper.store.unknown_instances.FORGET_RECEIVED",
    "shared.messaging.dead_letters.DROP_PARKED",
    "shared.messaging.dead_letters.REDRIVE_PARKED",
}
"""What no claim is, and why."""
