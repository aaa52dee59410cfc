"""`GET /stats`, `/instances` and `/about`: their parameters and schemas."""

from typing import Any

from msgspec import Struct

from services.api.http.openapi import listing
from services.api.http.openapi.operations import (
    USERS,
    answer,
    header,
    json_of,
    operation,
    parameter,
)
from services.api.http.openapi.shapes import (
    Schema,
    a_list,
    an_object,
    described,
    nullable,
    one_of,
    ref,
    typed,
    whole,
)
from services.api.http.openapi.times import TIME
from services.api.http.routes.instances import CURSOR
from services.api.http.routes.stats import BYS, LABEL, MOST_DAYS
from services.api.http.settings import HttpConfig
from services.api.http.times import FORMS
from services.api.jobs.fields import MAX_LABEL_LENGTH
from services.api.jobs.instances import RunningInstance
from services.api.jobs.model import PHASES
from services.api.jobs.stats import MOST_GROUPS, SECONDS, Stats, StatsAnswer
from services.api.keys.access import SCOPES
from services.api.submission.registries import NETWORKS

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIMESTAMP: Schema = {"type": "string", "format": "date-time"}
SPAN = f"All of it may span {MOST_DAYS} days."

OF_STATS = {
    "jobs": "The number of jobs.",
    "done": "Those that are DONE.",
    "failed": "Those that are FAILED.",
    "cancelled": "Those that are CANCELLED.",
    "attempts": "The attempts of these jobs.",
    "interruptions": "The attempts that ended with a Spot interruption.",
    "billed_seconds": "The seconds of their instances that are paid for.",
    "cost_usd": "The cost of these attempts, as far as it is known; null: none of it is.",
    "unknown_costs": "The attempts with an instance whose cost is not known (yet).",
    "lost_usd": "The part of the cost that brought no result: the instance was interrupted, lost "
    "or not needed.",
    "saved_usd": "The on-demand cost of the attempts that were not lost, less the cost of all; of "
    "attempts for which both are known.",
    "lateness_median_seconds": "From `scheduled_for` to the start of a job's first container: half "
    "of the jobs started sooner. Null: none did, or their records are removed.",
    "lateness_p95_seconds": "The same for 95 of 100 jobs.",
}
"""The fields of `Stats`, in the same order."""

OF_STATS_ANSWER = {
    "since": "The time from which on the jobs finished.",
    "until": "The time before which they finished.",
    "by": "As asked for.",
    "total": "All of them.",
    "groups": "By their keys: days and statuses in order, others with the highest cost first.",
    "removed_jobs": "The jobs that finished on these days, whose records are removed, and that are "
    "not counted here: they are counted by `day`, `status` and `project`, where all of the day is "
    "asked for.",
    "groups_left_out": f"The groups beyond the first {MOST_GROUPS}; the total has them.",
}
"""The fields of `StatsAnswer`, in the same order."""

OF_AN_INSTANCE = {
    "instance_id": "The instance.",
    "instance_type": "Its type; null: its launch is not reported yet, as in the next ones.",
    "zone": "Its availability zone.",
    "market": "The market on which it was bought.",
    "hourly_price_usd": "Its price for an hour at the launch; null: not known.",
    "on_demand_hourly_price_usd": "The on-demand price for an hour; null: not known.",
    "since": "The time of its launch.",
    "job_id": "The job that has it.",
    "job_name": "The name of that job.",
    "attempt": "The number of the attempt that has it.",
    "phase": "The attempt's; `ended`: the instance is not known to be terminated yet.",
    "cost_so_far_usd": "An estimate: the prices at the launch of the instance, its public IPv4 "
    "address and its volume, for the time since then.",
}
"""The fields of a `RunningInstance`, in the same order."""

OF_LIMITS = {
    "max_lifetime_seconds": "No instance lives longer.",
    "jobs_of_a_request": "The jobs in an array for `POST /schedule`.",
    "jobs_of_a_page": "The jobs in a page of `GET /list`.",
    "body_bytes": "The size of a request's body.",
    "log_bytes": "The log that is kept of an attempt: its beginning and its end.",
    "requests_per_second": "The requests of the caller, on average; null: no limit.",
    "requests_at_once": "The requests of the caller after a pause; null: no limit.",
}


def paths(config: HttpConfig) -> dict[str, Any]:
    """Describe the routes."""
    return {
        "/stats": {"get": _stats()},
        "/instances": {"get": _instances(config.list_page)},
        "/about": {"get": _about()},
    }


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    stats = {name: described(about, typed(Stats, name)) for name, about in OF_STATS.items()}
    key = described(
        "The day (UTC), status, value of the label, instance type, image, project, or the API key "
        "that scheduled the jobs (its prefix); null: none.",
        nullable(TEXT),
    )
    parts = {"total": ref("Stats"), "groups": a_list(ref("StatsGroup"))}
    instance = _described(RunningInstance, OF_AN_INSTANCE)
    instance["phase"] |= one_of((*dict.fromkeys(PHASES.values()), "ended"))
    return {
        "Stats": an_object(stats, about="Counts and sums over finished jobs."),
        "StatsGroup": an_object({"key": key, **stats}, about="The jobs with one key."),
        "StatsAnswer": an_object(
            {
                name: described(about, parts.get(name) or typed(StatsAnswer, name))
                for name, about in OF_STATS_ANSWER.items()
            }
        ),
        "Instance": an_object(instance, about="An instance not known to be terminated."),
        "About": _about_schema(),
    }


def _described(struct: type[Struct], fields: dict[str, str]) -> dict[str, Schema]:
    return {name: described(about, typed(struct, name)) for name, about in fields.items()}


def _about_schema() -> Schema:
    key = an_object({"name": TEXT, "scope": one_of(SCOPES), "project": TEXT})
    limits = {name: described(about, COUNT) for name, about in OF_LIMITS.items()}
    for name in ("requests_per_second", "requests_at_once"):
        limits[name] |= {"type": ["number", "null"]}
    return an_object(
        {
            "version": described("The release of docker-job.", TEXT),
            "now": described("The API's clock.", TIMESTAMP),
            "key": described("The caller's API key; null: it gave none.", nullable(key)),
            "compute": described(
                "Where instances are: `ec2`, `docker`, `process` or `sim`; null: the API is not "
                "told.",
                nullable(TEXT),
            ),
            "registries_refused": described(
                "Which registries jobs may not name: those with `loopback`, `link-local` or "
                "`private` addresses.",
                a_list(one_of(tuple(NETWORKS))),
            ),
            "timezone": described("What `10:00` means where a job names no time zone.", TEXT),
            "limits": an_object(limits, about="The limits of this deployment."),
        }
    )


def _stats() -> dict[str, Any]:
    label = {"type": "string", "pattern": rf"^{LABEL}[^\u0000]{{1,{MAX_LABEL_LENGTH}}}$"}
    return operation(
        "stats",
        "Count finished jobs, their cost, loss, savings and lateness, in groups.",
        "read",
        ("BadRequest", *USERS),
        {"200": answer("The total, and the groups that add up to it.", "StatsAnswer")},
        description=f"A job counts where its current attempt ran, and each attempt where that ran. "
        f"More jobs than can be counted in {SECONDS} s are a 400: ask for a shorter time.",
        parameters=[
            parameter(
                "query",
                "since",
                f"Jobs that finished from then on: {FORMS}; by default the beginning of the day "
                f"(UTC) 29 days before `until`. {SPAN}",
                TIME,
            ),
            parameter("query", "until", "Jobs that finished before; by default now.", TIME),
            parameter(
                "query",
                "by",
                "The property that makes the groups; `label:team` groups by the value of the label "
                "`team`.",
                {"anyOf": [one_of(BYS), label], "default": "day"},
            ),
            listing.project(),
        ],
    )


def _instances(most: int) -> dict[str, Any]:
    page = {
        "description": "The oldest first.",
        "headers": {"Link": header('`rel="next"`: the next page, if there is one.')},
        "content": json_of(a_list(ref("Instance"))),
    }
    return operation(
        "instances",
        "List the instances that exist now as far as is known, and what they cost so far.",
        "read",
        ("BadRequest", *USERS),
        {"200": page},
        parameters=[
            parameter("query", "limit", "A page's size.", whole(1, most, default=most)),
            parameter("query", "cursor", "See `Link`.", {"type": "string", "pattern": CURSOR}),
            listing.project(),
        ],
    )


def _about() -> dict[str, Any]:
    return operation(
        "about",
        "Show the release, the clock and the limits of this API, and the caller's key.",
        "read",
        ("BadRequest", *USERS),
        {"200": answer("This API.", "About")},
    )
