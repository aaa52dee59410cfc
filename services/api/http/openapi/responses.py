"""The schemas of responses to users: the rows' types, and a description of each field."""

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
    "env_vars": "As given, as texts; null in place of each value: the caller's key is of the scope "
    "`read`, which sees the names alone.",
    "scheduled_for": "The time that the given one meant, in UTC.",
    "timezone": "As given, or the default.",
    "resources": "As given; the rest is the deployment's default.",
    "capacity": "As given, or the default.",
    "retries": "As given, or the default.",
    "init": "As given; null: it depends on the image.",
    "stop_signal": "Its name; null: the image's own.",
    "stop_grace_seconds": "As given; null: the deployment's default.",
    "read_only": "As given, or false.",
    "secret_env": "The names only.",
    "rerun_of": "The id of the job that it runs again; null: it is no rerun.",
    "project": "The project of the API key that scheduled it, `default` if there was no key yet; "
    "that of the other job if it is a rerun.",
    "created_by": "The prefix of that key, as `GET /keys` lists it; null: there was no key yet.",
}

OF_A_JOB = {
    "id": "The job's number.",
    **_GIVEN,
    "status": "DONE, FAILED and CANCELLED are final.",
    "status_reason": "Why it is where it is, in one sentence: what it waits for, what it does or "
    "how it ended, and which retry it is.",
    "phase": "The phase of the current attempt (`launching`: due, with no launch reported yet); of "
    "a job that is over, its status in lower case.",
    "phase_detail": "How far the current attempt is in its phase: `pulling 340 of 1,200 MB, 5 of 9 "
    "layers`; null: there is nothing to say.",
    "waiting_because": "The reason why it waits; of a further attempt also which retry it is, and "
    "how the attempt before it ended.",
    "waiting_until": "The time of the next check of that reason; null: it is unknown, or it has "
    "passed.",
    "attempt": "The current attempt's number.",
    "runtime": "The current attempt's.",
    "instance_id": "The current attempt's.",
    "spot_instance_request_id": "The current attempt's.",
    "exit_code": "The container's, once the job is over; null: it has none.",
    "error_message": "The reason of the failure; the last lines of stderr if the container failed "
    "(and of stdout if these are only progress bars or warnings).",
    "created_at": "The time when it was accepted.",
    "started_at": "The time when a container of the job first ran; null: none has.",
    "finished_at": "The time when it got its final status.",
    "duration_seconds": "From `started_at` to `finished_at`, or until now.",
}
"""The fields of a job in every answer, in the same order."""

OF_A_LISTED_JOB = {
    "cost_usd": "The cost of the instances terminated so far; null if a price is not known.",
    "attempts": "The number of its attempts.",
}
"""What only `/list` has, or has in another form."""

OF_AN_ATTEMPT = {
    "number": "Counts from 1.",
    "phase": "Its phase; `ended` when it is over.",
    "phase_detail": "How far it is in that phase.",
    "due_at": "The time at which its instance is to be launched.",
    "cause": "The cause of its end.",
    "exit_code": "The container's; null: it has none, or none yet.",
    "error_message": "The reason of the failure.",
    "boot_failed": "Whether its instance did not boot: no agent on it has ever claimed the job.",
    "console_output": "The end of what its instance has printed, at most 4,000 characters, or in "
    "brackets why that is not known; only if it did not boot or ended by itself. Other programs "
    "than ours print there too: it is no proof of anything.",
    "waiting_because": "The reason why it waits.",
    "runtime": "The agent's runtime: `simulated` runs no container.",
    "instance_id": "The instance.",
    "instance_type": "The instance's type.",
    "zone": "The instance's availability zone.",
    "market": "The market on which the instance was bought.",
    "hourly_price_usd": "The instance's price for an hour at the launch; null: not known.",
    "on_demand_hourly_price_usd": "The on-demand price for an hour; null: not known.",
    "spot_instance_request_id": "The instance's Spot request.",
    "interrupted_at": "The time when the interruption notice was received.",
    "rebalance_at": "The time when a rebalance recommendation was received.",
    "ended_at": "The time when it ended.",
    "instance_gone_at": "The time when the cloud reported the instance as terminated.",
    "billed_seconds": "The seconds that are paid for.",
    "cost_usd": "The cost of the instance with its public IPv4 address and its volume; null, and "
    "never 0, if it is not known (yet).",
    "wasted_usd": "The part of the cost that brought no result: the instance was interrupted, lost "
    "or not needed.",
    "on_demand_usd": "The same on demand.",
    "cost_lines": "What `cost_usd` is the sum of: `instance_usd`, `public_ipv4_usd`, `volume_usd`; "
    "null: not known, or of an earlier release.",
    "other_prices": "Prices for an hour beside the instance's: `public_ipv4_hourly_usd` and "
    "`volume_hourly_usd`; null: not known, or of an earlier "
    "release.",
}
"""The fields of an attempt in `/status`, in the same order, but for `phases`."""


OF_COST_LINES = {
    "instance_usd": "The instance, for `billed_seconds`.",
    "public_ipv4_usd": "Its public IPv4 address, for all of its life; 0: it had none.",
    "volume_usd": "Its root volume, for all of its life.",
}

OF_OTHER_PRICES = {
    "public_ipv4_hourly_usd": "Of its public IPv4 address; 0: it has none.",
    "volume_hourly_usd": "Of its root volume.",
}


_AMOUNTS = {"cost_lines": OF_COST_LINES, "other_prices": OF_OTHER_PRICES}


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    listed = {name: described(about, _of_a_job(name)) for name, about in OF_A_JOB.items()}
    return {
        "Job": an_object(listed | _counted(), about="A job as `GET /list` shows it."),
        "Jobs": a_list(ref("Job")),
        "JobDetail": an_object(
            listed | _detail(), about="A job with its attempts, retry limits and costs."
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
    if name == "env_vars":
        values = nullable({"type": "string"})
        return {"type": "object", "additionalProperties": values}
    if name in _DERIVED:
        return _DERIVED[name]
    if name == "phase":
        ends = sorted(each.lower() for each in TERMINAL)
        return one_of((*dict.fromkeys(PHASES.values()), *ends))
    return typed(Job if name in Job.__struct_fields__ else Attempt, name)


_DERIVED: dict[str, Schema] = {
    "status_reason": {"type": "string"},
    "started_at": nullable(TIMESTAMP),
    "duration_seconds": nullable(SECONDS),
}


def _counted() -> dict[str, Schema]:
    count: Schema = {"type": "integer", "minimum": 1}
    types = {"cost_usd": _usd(), "attempts": count}
    return {name: described(OF_A_LISTED_JOB[name], each) for name, each in types.items()}


def _detail() -> dict[str, Schema]:
    count: Schema = {"type": "integer", "minimum": 0}
    budget = an_object({"used": count, "allowed": count})
    budgets = {
        "interruptions": described(
            "Instances interrupted or lost. Those in a row that did not boot have a limit of "
            "their own besides.",
            budget,
        ),
        "pulls": described(
            "Images that could not be pulled; tried again for some time at least, whatever the "
            "count.",
            budget,
        ),
        "retries": described("Containers that failed: the job's own `retries`.", budget),
    }
    about = (
        "The retry limits: further attempts, used and allowed, by failure cause. No delay "
        f"between two attempts is longer than {LONGEST_SECONDS} s."
    )
    money = {name: described(f"Of all attempts: {_MONEY[name]}", _usd()) for name in _MONEY}
    attempts = described("In the order of their numbers.", a_list(ref("Attempt"), minItems=1))
    return {"budgets": an_object(budgets, about=about), **money, "attempts": attempts}


_MONEY = {
    "cost_usd": "the cost of the instances terminated so far; null if a price is not known.",
    "wasted_usd": "the part of the cost that brought no result.",
    "on_demand_usd": "the on-demand cost of those that were not wasted.",
}


def _usd() -> Schema:
    return {"type": ["number", "null"], "minimum": 0}


_OF_THE_BOOT: dict[str, Schema] = {
    "boot_failed": {"type": "boolean"},
    "console_output": nullable({"type": "string"}),
}


def _attempt() -> Schema:
    def schema(name: str) -> Schema:
        if name == "phase":
            return one_of((*dict.fromkeys(PHASES.values()), "ended"))
        if name in _OF_THE_BOOT:
            return _OF_THE_BOOT[name]
        if name in _AMOUNTS:
            return an_object({part: described(it, _usd()) for part, it in _AMOUNTS[name].items()})
        return _usd() if name.endswith("_usd") else typed(Attempt, name)

    properties = {name: described(about, schema(name)) for name, about in OF_AN_ATTEMPT.items()}
    duration = {
        "phase": one_of(tuple(dict.fromkeys(PHASES.values()))),
        "entered_at": TIMESTAMP,
        "seconds": SECONDS,
    }
    about = "The phases in their order with their durations; the current one up to now."
    properties["phases"] = described(about, a_list(an_object(duration)))
    return an_object(properties, about="One run of a job, on an instance of its own.")


def _others() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    parts = described('"database", "bus", "launches", or "queue <name>".', a_list(text, minItems=1))
    return {
        "Over": an_object(
            {
                "message": text,
                "stop": {"const": True},
                "cause": nullable(typed(Attempt, "cause")),
                "kept": described(
                    "The lines or the exit code were kept all the same.", {"const": True}
                ),
                "settings": described(
                    "Of an agent that gets no job: how much of its free first hour is left.",
                    an_object({"free_if_interrupted_within_seconds": SECONDS}),
                ),
            },
            "kept",
            "settings",
            about="The attempt is over: stop its container.",
        ),
        "Alive": an_object({"status": {"const": "alive"}}),
        "Ready": an_object(
            {"status": {"const": "ready"}, "message": text, "degraded": parts},
            "message",
            "degraded",
            about="Requests are served. `degraded` names what does not work meanwhile.",
        ),
        "NotReady": an_object(
            {"status": {"const": "not ready"}, "message": text, "missing": parts}
        ),
    }
