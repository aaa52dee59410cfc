"""The parameters and schemas of daily totals."""

from services.api.http.openapi import listing
from services.api.http.openapi.operations import parameter
from services.api.http.openapi.shapes import Schema, a_list, an_object, described, ref, typed
from services.api.jobs.totals import DayTotal

OF_A_DAY = {
    "day": "The day (UTC) on which the jobs finished.",
    "status": "Their status.",
    "jobs": "The number of jobs.",
    "attempts": "The attempts of these jobs.",
    "interruptions": "The attempts that ended with a Spot interruption.",
    "billed_seconds": "The seconds of their instances that are paid for.",
    "cost_usd": "The cost of these attempts, as far as it is known; null: none of it is.",
    "unknown_costs": "The attempts with an instance whose cost is not known (yet).",
}
"""The fields of a `DayTotal`, in the same order."""


def parameters() -> list[Schema]:
    """Return the parameters of the route."""
    day: Schema = {"type": "string", "format": "date"}
    about = {
        "from": "The first day (UTC); by default 29 days before `to`.",
        "to": "The last day, included; by default today.",
    }
    days = [parameter("query", name, about[name], day) for name in about]
    return [*days, listing.project()]


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    properties = {
        name: described(about, _number(name) if name in _NUMBERS else typed(DayTotal, name))
        for name, about in OF_A_DAY.items()
    }
    properties["day"]["format"] = "date"
    return {
        "DayTotal": an_object(properties, about="Jobs that finished on one day with one status."),
        "Totals": a_list(ref("DayTotal")),
    }


_NUMBERS = {name for name in OF_A_DAY if name not in ("day", "status")}


def _number(name: str) -> Schema:
    return {"type": ["number", "null"] if name == "cost_usd" else "integer", "minimum": 0}
