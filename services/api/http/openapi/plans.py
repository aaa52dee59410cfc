"""The plan of a job: the route, its body and its answer."""

from typing import Any

from services.api.http.openapi.operations import USERS, WITH_BODY, answer, json_of, operation
from services.api.http.openapi.shapes import Schema, a_list, an_object, described, ref, typed
from services.api.http.openapi.structs import of_struct
from services.api.http.openapi.submission import job_request
from services.api.offers.decisions import MOST_CHOICES
from services.api.offers.model import Expectation, JobPlan, PlannedChoice
from services.api.offers.request import EXPECTED
from services.api.submission.request import Bounds, JobRequest

OF_A_PLAN = {
    "scheduled_for": "When it would be due.",
    "capacity": "Its capacity, or the deployment's.",
    "likely_start_at": "When its container would likely run; null: not known, or nothing fits.",
    "likely_start_seconds": "The seconds from the due time until then.",
    "likely_start_from": "Where that is from: the median of the last jobs that are DONE, or the "
    "default of the launcher's cloud.",
    "expected_seconds": "How long the container is taken to run.",
    "expected_from": "The field or setting that says so.",
    "prices_as_of": "When the launcher published these prices; null: it has published none.",
    "cost_usd": "The cost of the first choice; null: not known.",
    "on_demand_cost_usd": "The cost of the same type on demand; null: not known.",
    "list_prices_as_of": "The date of the launcher's own table, if the list prices are from there; "
    "null: they are the cloud's.",
    "message": "Why there are no choices; null: there are some.",
    "choices": "In the order in which they would be tried: the cheapest first, on demand behind "
    f"Spot; at most {MOST_CHOICES}. EC2 also weighs the capacity of Spot pools, which it keeps to "
    "itself.",
}
OF_A_CHOICE = {
    "place": "Its place, from 1.",
    "instance_type": "The type.",
    "zone": "The zone.",
    "market": "The market.",
    "hourly_price_usd": "The price an hour; null: not known.",
    "on_demand_hourly_price_usd": "The same on demand; null: not known.",
    "cost_usd": "The cost here, of the time in which the instance boots too, with its public IPv4 "
    "address and its volume; null: not known.",
    "vcpus": "Its processors.",
    "memory_mib": "Its memory.",
    "gpus": "Its GPUs (NVIDIA).",
    "architecture": "Its processors' architecture.",
}


def plan() -> dict[str, Any]:
    """Describe the route."""
    example = JobRequest.EXAMPLE | {EXPECTED: 600}
    return operation(
        "plan",
        "Show what a job would get and cost. Nothing is scheduled.",
        "read",
        (*WITH_BODY, *USERS),
        {"200": answer("The plan.", "Plan")},
        requestBody={"required": True, "content": json_of(ref("PlanRequest"), example=example)},
    )


def schemas(bounds: Bounds) -> dict[str, Schema]:
    """Return the schemas by their names."""
    choice = {name: described(about, typed(PlannedChoice, name)) for name, about in _CHOICE}
    fields = {name: described(about, typed(JobPlan, name)) for name, about in _PLAN}
    choices = a_list(ref("PlannedChoice"), maxItems=MOST_CHOICES)
    fields["choices"] = described(OF_A_PLAN["choices"], choices)
    return {
        "PlanRequest": _request(bounds),
        "Plan": an_object(fields, about="What a job would get and cost."),
        "PlannedChoice": an_object(choice, about="A type in a zone, on one market."),
    }


_PLAN, _CHOICE = OF_A_PLAN.items(), OF_A_CHOICE.items()


def _request(bounds: Bounds) -> Schema:
    schema = job_request(bounds)
    expected = of_struct(Expectation)["properties"][EXPECTED]
    return schema | {
        "description": "A job as for `POST /schedule`, which is not scheduled.",
        "properties": schema["properties"] | {EXPECTED: _at_most(expected, bounds)},
    }


def _at_most(schema: Schema, bounds: Bounds) -> Schema:
    return schema | {"maximum": bounds.max_lifetime_seconds}
