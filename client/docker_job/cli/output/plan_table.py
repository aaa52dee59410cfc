"""The plan of a job that is not scheduled, as `run --dry-run` shows it."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from docker_job.cli.output.figures import (
    NOTHING,
    age,
    clock,
    count,
    duration,
    instant,
    money,
    rough,
)
from docker_job.cli.output.render import Column, Format, Row, show, write

if TYPE_CHECKING:
    from rich.console import Console

FROM = {
    "expected_seconds": "the expected {}",
    "timeout_seconds": "the time limit of {}",
    "max_lifetime_seconds": "an instance's longest life, {} (--timeout gives a closer figure)",
}

COLUMNS: Sequence[Column] = (
    Column("#", lambda each: str(each["place"]), is_right=True, name="Place"),
    Column("TYPE", lambda each: str(each["instance_type"])),
    Column("ZONE", lambda each: each.get("zone") or NOTHING),
    Column("MARKET", lambda each: {"spot": "Spot"}.get(each["market"], "on demand")),
    Column("USD/H", lambda each: money(each.get("hourly_price_usd")), name="Price", is_right=True),
    Column(
        "ON DEMAND",
        lambda each: money(each.get("on_demand_hourly_price_usd")),
        name="OnDemand",
        is_right=True,
    ),
    Column("COST", lambda each: money(each.get("cost_usd")), is_right=True),
    Column("VCPUS", lambda each: count(each.get("vcpus")), is_right=True),
    Column("MEMORY", lambda each: memory(each.get("memory_mib")), is_right=True),
    Column("GPUS", lambda each: count(each.get("gpus") or None), is_right=True),
    Column("ARCH", lambda each: each.get("architecture") or NOTHING),
)


def show_plan(plan: Row, now: datetime, form: Format, console: "Console") -> None:
    """Print where the job would be tried, in this order, and what it would cost."""
    if form.kind == "json":
        show([plan], [], Format("lines"), console)
        return
    if form.kind == "table" and form.template is None:
        write(console, "".join(f"{line}\n" for line in sentences(plan, now)) + "\n")
    if plan.get("choices"):
        show(plan["choices"], COLUMNS, form, console)


def sentences(plan: Row, now: datetime) -> list[str]:
    """Render what a plan says beside its choices."""
    lines = [f"Nothing is scheduled: a plan. {_start(plan, now)}"]
    if plan.get("message"):
        return [*lines, _sentence(str(plan["message"]))]
    cost = f"It would cost {money(plan.get('cost_usd'))} USD"
    if plan.get("on_demand_cost_usd") is not None:
        cost += f" ({money(plan['on_demand_cost_usd'])} on demand)"
    seconds, source = plan.get("expected_seconds"), str(plan.get("expected_from"))
    if seconds is not None:
        cost += f" for {FROM.get(source, '{}').format(duration(seconds))}"
    lines.append(_sentence(cost))
    if plan.get("prices_as_of"):
        lines.append(f"Prices are {age(plan['prices_as_of'], now).removesuffix(' ago')} old.")
    if plan.get("list_prices_as_of"):
        table = f"the built-in table of {plan['list_prices_as_of']}"
        lines.append(f"All but Spot prices are from {table}: AWS's list could not be read.")
    return lines


def memory(mib: int | None) -> str:
    """Render a size as docker does: `8GiB`."""
    if mib is None:
        return NOTHING
    return f"{mib / 1024:g}GiB" if mib >= 1024 else f"{mib}MiB"


def _start(plan: Row, now: datetime) -> str:
    at = instant(plan.get("likely_start_at"))
    if at is None:
        return "When it would start is not known."
    seconds = (at - now).total_seconds()
    when = f"in about {rough(seconds)}" if seconds >= 1 else "at once"
    return f"It would likely start {when}, at {clock(at, now)}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
