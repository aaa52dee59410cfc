"""The schemas of answers to users: the types of the rows, and a description of each field."""

from services.api.http.openapi.shapes import (
    Schema,
    a_list,
    an_object,
    described,
    nullable,
    one_of,
    ref,
    typed,
)
from services.api.jobs.columns import NAMES
from services.api.jobs.model import PHASES, STATUSES, TERMINAL, Attempt, Job
from services.api.jobs.retry_limits import LONGEST_SECONDS

SECONDS: Schema = {"type": "number", "minimum": 0}
TIMESTAMP: Schema = {"type": "string", "format": "date-time"}

_GIVEN = dict.fromkeys(NAMES, "As given.") | {
    "command": "As given; null: the image's own.",
    "env_vars": "As given, as texts.",
    "scheduled_for": "The time that was meant, in UTC.",
    "timezone": "As given, or the default.",
    "resources": "What was asked for; the rest is the deployment's default.",
    "capacity": "As given, or the default.",
    "retries": "As given, or the default.",
    "secret_env": "The names only.",
}

OF_A_JOB = {
    "id": "Its number.",
    **_GIVEN,
    "status": "DONE, FAILED and CANCELLED are final.",
    "phase": "Where its current attempt is (launching: due, with no launch reported yet); of a job "
    "that is over, its status in small letters.",
    "waiting_because": "Why it waits.",
    "waiting_until": "When that is looked at next.",
    "attempt": "The number of its current attempt.",
    "runtime": "Of its current attempt.",
    "instance_id": "Of its current attempt.",
    "spot_instance_request_id": "Of its current attempt.",
    "exit_code": "The container's, once the job is over; null where there was none.",
    "error_message": "Why it failed; the container's last lines where it was that.",
    "created_at": "When it was accepted.",
    "finished_at": "When it came to its last status.",
}
"""The fields of `views.listed`, in its order."""

OF_AN_ATTEMPT = {
    "number": "Counts from 1.",
    "phase": "Where it is; `ended` when it is over.",
    "due_at": "When its instance is to be launched.",
    "cause": "Why it ended.",
    "exit_code": "The container's; null where there is none, or none yet.",
    "error_message": "What went wrong.",
    "waiting_because": "Why it waits.",
    "runtime": "What runs the container: `simulated` runs none.",
    "instance_id": "Its instance.",
    "instance_type": "Its instance's.",
    "zone": "Its instance's availability zone.",
    "market": "How its instance was bought.",
    "hourly_price_usd": "What an hour of its instance cost at the launch; null: not known.",
    "on_demand_hourly_price_usd": "What an hour would have cost on demand; null: not known.",
    "spot_instance_request_id": "Its instance's.",
    "interrupted_at": "When the interruption notice was received.",
    "rebalance_at": "When a rebalance recommendation was received.",
    "ended_at": "When it was over.",
    "instance_gone_at": "When the cloud reported its instance as terminated.",
    "billed_seconds": "What is paid for.",
    "cost_usd": "null: not known (yet). Never 0 for that.",
    "wasted_usd": "Of that: paid for nothing, as the instance was interrupted, lost or of no use.",
    "on_demand_usd": "What the same seconds would have cost on demand.",
}
"""The fields of an attempt in `/status`, in its order; `phases` is besides."""


def schemas() -> dict[str, Schema]:
    """The schemas by their names."""
    listed = {name: described(about, _of_a_job(name)) for name, about in OF_A_JOB.items()}
    return {
        "Job": an_object(listed, about="A job as `GET /list` shows it."),
        "Jobs": a_list(ref("Job")),
        "JobDetail": an_object(
            listed | _detail(), about="A job with its attempts, budgets and costs."
        ),
        "JobDetails": described("In the order of the request.", a_list(ref("JobDetail"))),
        "Attempt": _attempt(),
        "Error": an_object(
            {"message": described("Names the field and says what is right.", {"type": "string"})},
        ),
        **_others(),
    }


def _of_a_job(name: str) -> Schema:
    if name == "resources":
        return ref("Resources")
    if name == "status":
        return one_of(STATUSES)
    if name == "phase":
        ends = sorted(each.lower() for each in TERMINAL)
        return one_of((*dict.fromkeys(PHASES.values()), *ends))
    return typed(Job if name in Job.__struct_fields__ else Attempt, name)


def _detail() -> dict[str, Schema]:
    count: Schema = {"type": "integer", "minimum": 0}
    budget = an_object({"used": count, "allowed": count})
    budgets = {
        "interruptions": described("Instances interrupted or lost.", budget),
        "pulls": described("Images that could not be pulled.", budget),
        "retries": described("Containers that failed: the job's own `retries`.", budget),
    }
    about = (
        "Further attempts that each failure cause has started and may start; no delay "
        f"between two attempts is longer than {LONGEST_SECONDS} s."
    )
    money = {name: described(f"Of all attempts: {_MONEY[name]}", _usd()) for name in _MONEY}
    attempts = described("The first one first.", a_list(ref("Attempt"), minItems=1))
    return {"budgets": an_object(budgets, about=about), **money, "attempts": attempts}


_MONEY = {
    "cost_usd": "of the instances terminated so far; null where the price of one is not known.",
    "wasted_usd": "what brought no result.",
    "on_demand_usd": "what those that were not wasted would have cost on demand.",
}


def _usd() -> Schema:
    return {"type": ["number", "null"], "minimum": 0}


def _attempt() -> Schema:
    def schema(name: str) -> Schema:
        if name == "phase":
            return one_of((*dict.fromkeys(PHASES.values()), "ended"))
        return _usd() if name.endswith("_usd") else typed(Attempt, name)

    properties = {name: described(about, schema(name)) for name, about in OF_AN_ATTEMPT.items()}
    duration = {
        "phase": one_of(tuple(dict.fromkeys(PHASES.values()))),
        "entered_at": TIMESTAMP,
        "seconds": SECONDS,
    }
    about = "How long each phase took, in their order; the one under way up to now."
    properties["phases"] = described(about, a_list(an_object(duration)))
    return an_object(properties, about="One try at running a job, on an instance of its own.")


def _others() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    missing = a_list(one_of(("database", "bus")), minItems=1)
    return {
        "Over": an_object(
            {
                "message": text,
                "stop": {"const": True},
                "cause": nullable(typed(Attempt, "cause")),
                "kept": described("Yet the lines or the exit code were kept.", {"const": True}),
            },
            "kept",
            about="The attempt is over: stop its container.",
        ),
        "Alive": an_object({"status": {"const": "alive"}}),
        "Ready": an_object({"status": {"const": "ready"}}),
        "NotReady": an_object(
            {"status": {"const": "not ready"}, "message": text, "missing": missing}
        ),
    }
