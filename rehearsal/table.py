"""The tables of the report: the events with their times, and the costs. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rehearsal.checks import DIGITS, LINES, billed_usd, leaked_seconds
from rehearsal.outcome import Outcome
from shared.events.events import (
    AttemptEnded,
    Event,
    InstanceInterrupted,
    InstanceLaunched,
    InstanceRequested,
    InstanceTerminated,
    JobFinished,
    JobScheduled,
    JobStarted,
    LaunchDelayed,
    LaunchRefused,
)

EVENT_COLUMNS = ("seconds", "event", "service", "job", "attempt", "instance", "what")
BILL_COLUMNS = (
    *("instance", "job", "attempt", "what", "lived", "billed", "API USD", "ledger USD"),
    *("itself", "IPv4", "disk", "leaked"),
)


def event_table(outcome: Outcome) -> str:
    """Return the table of events, each with the seconds since the POST."""
    places: dict[tuple[int | None, int | None], str] = {}
    rows = []
    for each in outcome.events:
        event = each.event
        job, attempt = getattr(event, "job_id", None), getattr(event, "attempt", None)
        instance = getattr(event, "instance_id", None)
        if isinstance(event, InstanceLaunched):
            places[job, attempt] = event.instance_id
        rows.append(
            (
                f"{_since(outcome.posted_at, each.at):7.2f}",
                type(event).__name__,
                each.by,
                _text(job),
                _text(attempt),
                instance or places.get((job, attempt), ""),
                describe_event(event),
            )
        )
    return table(EVENT_COLUMNS, rows)


def describe_event(event: Event) -> str:
    """Return an event's content, without the ids."""
    match event:
        case JobScheduled():
            text = f"due {event.due_at:%H:%M:%S.%f}"[:-4]
        case InstanceRequested():
            text = f"capacity: {event.requirements.capacity}"
        case InstanceLaunched():
            text = (
                f"{event.market} {event.instance_type} in {event.zone} at "
                f"{_usd(event.hourly_price_usd, digits=4)} USD an hour"
            )
        case LaunchDelayed() | LaunchRefused():
            text = event.message
        case JobStarted():
            text = "its container runs"
        case InstanceInterrupted():
            text = f"EC2's notice: {event.kind}"
        case AttemptEnded():
            text = event.cause
        case InstanceTerminated():
            text = f"{event.cause}; {event.billed_seconds} s billed, {_usd(event.cost_usd)} USD"
        case JobFinished():
            text = f"{event.status}, exit code {event.exit_code}"
        case _:
            text = ""
    return text


def bill_table(outcome: Outcome) -> str:
    """Return the table of instances, each with its cost in the API and in the ledger, by lines."""
    attempts = outcome.attempts
    rows = []
    for bill in outcome.bills:
        ours = attempts.get(bill.instance_id, {})
        rows.append(
            (
                bill.instance_id,
                _text(ours.get("job_id")),
                _text(ours.get("number")),
                f"{bill.market} {bill.instance_type}",
                f"{bill.seconds:.1f} s",
                f"{bill.billed_seconds:.0f} s",
                _usd(ours.get("cost_usd")),
                _usd(billed_usd(bill)),
                *(_usd(getattr(bill, name)) for name in LINES),
                f"{leaked_seconds(bill, attempts):.1f} s",
            )
        )
    return table(BILL_COLUMNS, rows)


def summary(outcome: Outcome) -> str:
    """Return the jobs' costs beside the account's bill."""
    attempts = outcome.attempts
    ledger = sum(billed_usd(each) for each in outcome.bills)
    leaked = sum(leaked_seconds(each, attempts) for each in outcome.bills)
    lines = {
        "cost_usd": _usd(outcome.sum_of("cost_usd")),
        "of that wasted": _usd(outcome.sum_of("wasted_usd")),
        "on demand": f"{_usd(outcome.sum_of('on_demand_usd'))}, the price without Spot",
        "ledger": f"{_usd(ledger)}, the cloud's bill for this account",
        "leaked": f"{leaked:.1f} s, in which instances ran without an attempt",
    }
    return "\n".join(f"  {name:<15} {text}" for name, text in lines.items())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format rows as a table with aligned columns."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _since(start: datetime, at: datetime) -> float:
    return (at - start).total_seconds()


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _usd(amount: float | None, digits: int = DIGITS) -> str:
    return "unknown" if amount is None else f"{amount:.{digits}f}"
