"""The end of a job: its exit code as that of the command, and the summary. Pure."""

from collections.abc import Sequence

from docker_job.cli.output.figures import duration, instant, money
from docker_job.documents import Attempt, Job

FAILED, TIMED_OUT, CANCELLED = 125, 124, 130
"""Of jobs without an exit code of their own: those of `docker run`, `timeout` and Ctrl-C."""


def exit_code(job: Job) -> int:
    """Return the exit code of a job that is over, for the command: 0 only if it is DONE."""
    if job.status == "DONE":
        return 0
    if job.status == "CANCELLED":
        return CANCELLED
    if _cause(job) == "timed_out":
        return TIMED_OUT
    # The code of a process is a byte: Windows' containers alone have larger ones.
    return (job.exit_code or FAILED) & 0xFF or FAILED


def summary(job: Job) -> str:
    """Render how the job ended, how long it took, on what, what it cost."""
    last = job.attempts[-1] if job.attempts else None
    count = len(job.attempts)
    parts = [
        ended(job),
        _took(job),
        _instance(last),
        _cost(job),
        f"{count} attempts" if count > 1 else "",
        _terminated(job, last),
    ]
    return " · ".join(filter(None, parts))


def ended(job: Job) -> str:
    """Render how it ended: `exited 0`, `timed out after 2h`, `cancelled`, `failed: …`."""
    code = job.exit_code
    if job.status == "DONE":
        return "exited 0"
    if job.status == "CANCELLED":
        return "cancelled" if code is None else f"cancelled (exited {code})"
    if _cause(job) == "timed_out":
        limit = job.timeout_seconds
        return f"timed out after {duration(limit)}" if limit else "timed out"
    if code is not None:
        return f"exited {code}"
    message = (job.error_message or "").strip().splitlines()
    return f"failed: {message[0]}" if message else "failed"


def is_settled(job: Job) -> bool:
    """Return whether every instance of the job is known to be terminated."""
    return all(each.instance_gone_at for each in job.attempts if each.instance_id)


def _took(job: Job) -> str:
    begun, end = job.scheduled_for, job.finished_at
    if begun is None or end is None:
        return ""
    total = duration(max(0.0, (end - begun).total_seconds()))
    ran = sum(_ran(each) for each in job.attempts)
    return f"{total} (ran {duration(ran)})" if ran else total


def _ran(attempt: Attempt) -> float:
    return sum(float(each["seconds"]) for each in attempt.phases if each["phase"] == "running")


def _instance(attempt: Attempt | None) -> str:
    if attempt is None or not attempt.instance_type:
        return ""
    market = "Spot" if attempt.market == "spot" else attempt.market
    where = " ".join(filter(None, (attempt.instance_type, market, attempt.zone)))
    return f"{where} (simulated)" if attempt.runtime == "simulated" else where


def _cost(job: Job) -> str:
    """Render the cost; while an instance is not known to be terminated, what it is by its price."""
    bought = [each for each in job.attempts if each.instance_id]
    costs = [_paid(each, each.hourly_price_usd, each.cost_usd) for each in bought]
    whole = _sum(costs)
    if whole is None:
        return "cost not known"
    if not whole:
        return ""
    compared = [_paid(e, e.on_demand_hourly_price_usd, e.on_demand_usd) for e in bought]
    on_demand = _sum(compared) or 0.0
    cost = money(whole)
    about = "" if is_settled(job) or cost.startswith("<") else "about "
    beside = f" ({money(on_demand)} on demand)" if on_demand > whole else ""
    return f"{about}{cost} USD{beside}"


def _paid(attempt: Attempt, hourly: float | None, known: float | None) -> float | None:
    """Return what an attempt costs: as billed, else by its prices from its launch to its end.

    None: a price is not known. Earlier releases of the API have no prices beside the instance's.
    """
    if known is not None:
        return known
    if hourly is None or attempt.billed_seconds is not None:
        return None
    end = attempt.instance_gone_at or attempt.ended_at
    launched = next((e["entered_at"] for e in attempt.phases if e["phase"] == "booting"), None)
    since = instant(launched)
    if end is None or since is None:
        return 0.0
    whole = _sum([hourly, *attempt.other_prices.values()])
    if whole is None:
        return None
    return whole * max(0.0, (end - since).total_seconds()) / 3600


def _sum(parts: Sequence[float | None]) -> float | None:
    """Return the sum; None: a part is not known."""
    known = [each for each in parts if each is not None]
    return sum(known) if len(known) == len(parts) else None


def _terminated(job: Job, attempt: Attempt | None) -> str:
    if attempt is None or attempt.instance_gone_at is None or job.finished_at is None:
        return ""
    seconds = (attempt.instance_gone_at - job.finished_at).total_seconds()
    return f"instance terminated {max(0.0, seconds):.1f} s after the end"


def _cause(job: Job) -> str | None:
    return next((each.cause for each in job.attempts if each.number == job.attempt), None)
