"""The routes: the parameters, body and responses of each."""

from typing import Any

from services.api.http.openapi import (
    dead_letters,
    events,
    keys,
    listing,
    logs,
    overview,
    plans,
    quotas,
    records,
    reruns,
)
from services.api.http.openapi.operations import (
    AGENTS,
    USERS,
    WITH_BODY,
    WITH_REPORT,
    WITH_SMALL_BODY,
    answer,
    header,
    job_id,
    json_of,
    operation,
    parameter,
)
from services.api.http.openapi.shapes import ref
from services.api.http.settings import HttpConfig
from services.api.submission.request import JobRequest


def paths(config: HttpConfig) -> dict[str, Any]:
    """Describe the routes of `web.py`; HEAD is answered like GET."""
    return {
        "/schedule": {"post": _schedule()},
        "/plan": {"post": plans.plan()},
        "/list": {"get": _list(config.list_page)},
        "/status/{id}": {"get": _status()},
        "/jobs/{id}": {"delete": _cancel()},
        "/jobs/{id}/logs": {"get": _logs()},
        "/jobs/{id}/rerun": reruns.path(),
        "/events": {"get": _events()},
        "/jobs/{id}/record": {"delete": _remove()},
        "/totals": {"get": _totals()},
        **dead_letters.paths(),
        **keys.paths(),
        **overview.paths(config),
        **quotas.paths(),
        "/agent/claim": {"post": _claim()},
        "/agent/jobs/{id}/report": {"post": _report()},
        "/callback/{id}": {"put": _callback()},
        "/agent/agent.py": {"get": _agent_file()},
        "/agent/builds/{sha256}": {"get": _agent_build()},
        "/healthz": {"get": _health("alive", "Check that the process answers.", "Alive")},
        "/readyz": {"get": _health("ready", "Check readiness.", "Ready", "NotReady")},
        "/openapi.json": {"get": _description()},
    }


def _schedule() -> dict[str, Any]:
    jobs = {"oneOf": [ref("JobRequest"), ref("JobRequests")]}
    created = {
        "description": "Accepted and durable. For an array: all jobs, in the same order.",
        "headers": {"Location": header("The path of the job's status (of a single job).")},
        "content": json_of({"oneOf": [ref("JobDetail"), ref("JobDetails")]}),
    }
    return operation(
        "schedule",
        "Schedule one job, or an array of jobs, all or none.",
        "submit",
        ("KeyConflict", *WITH_BODY, *USERS, "JobQuotaReached"),
        {"201": created},
        parameters=[reruns.KEY],
        requestBody={"required": True, "content": json_of(jobs, example=JobRequest.EXAMPLE)},
    )


def _list(most: int) -> dict[str, Any]:
    listed = {
        "description": "Newest first.",
        "headers": {"Link": header('`rel="next"`: the next page, if there is one.')},
        "content": json_of(ref("Jobs")),
    }
    return operation(
        "list",
        "List jobs, newest first; all filters must match.",
        "read",
        ("BadRequest", *USERS),
        {"200": listed},
        parameters=listing.parameters(most),
    )


def _status() -> dict[str, Any]:
    return operation(
        "status",
        "Show a job with its attempts.",
        "read",
        ("NoSuchJob", *USERS),
        {"200": answer("The job.", "JobDetail")},
        parameters=[job_id()],
    )


def _cancel() -> dict[str, Any]:
    return operation(
        "cancel",
        "Cancel a job at any stage.",
        "submit",
        ("NoSuchJob", "AlreadyOver", *USERS),
        {"200": answer("The job.", "JobDetail")},
        parameters=[job_id()],
    )


def _logs() -> dict[str, Any]:
    return operation(
        "logs",
        "Show the container's log.",
        "read",
        ("NoSuchJob", "BadRequest", *USERS),
        logs.answers(),
        parameters=[job_id(), *logs.parameters()],
    )


def _events() -> dict[str, Any]:
    return operation(
        "events",
        "Stream the changes of jobs.",
        "read",
        ("BadRequest", *USERS),
        events.answers(),
        parameters=events.parameters(),
    )


def _remove() -> dict[str, Any]:
    return operation(
        "remove",
        "Remove the record of a finished job, with its attempts, logs and secrets.",
        "admin",
        ("NoSuchJob", "NotRemovable", *USERS),
        {"204": {"description": "Removed. It still counts in the daily totals."}},
        parameters=[job_id()],
    )


def _totals() -> dict[str, Any]:
    return operation(
        "totals",
        "Show daily totals of finished jobs and their cost, those of removed records included.",
        "read",
        ("BadRequest", *USERS),
        {"200": answer("In the order of the days; days without jobs are left out.", "Totals")},
        parameters=records.parameters(),
    )


def _claim() -> dict[str, Any]:
    claim = {"oneOf": [ref("Claim"), ref("RoleClaim")]}
    return operation(
        "claim",
        "Claim the attempt of the agent's instance; get the job.",
        None,
        (*WITH_SMALL_BODY, *AGENTS),
        {
            "200": answer("The job; a repeated claim gets it again.", "Assignment"),
            "202": answer("Not yet; the claim counts as a heartbeat.", "Wait"),
        },
        security=[{"bootstrapToken": []}, {}],
        requestBody={"required": True, "content": json_of(claim)},
    )


def _report() -> dict[str, Any]:
    return operation(
        "report",
        "Report a heartbeat, with a phase and log lines.",
        None,
        ("NoSuchJob", *WITH_REPORT, *AGENTS),
        {"200": {"description": "Recorded.", "content": json_of({"type": "object"})}},
        security=[{"attemptToken": []}],
        parameters=[job_id()],
        requestBody={"required": True, "content": json_of(ref("Report"))},
    )


def _callback() -> dict[str, Any]:
    callback = {"oneOf": [ref("Interrupted"), ref("Failed"), ref("Done")]}
    recorded = "Recorded; a repeated callback changes nothing."
    return operation(
        "callback",
        "Report an interruption notice or the end of an attempt.",
        None,
        ("NoSuchJob", *WITH_SMALL_BODY, *AGENTS),
        {"200": answer(recorded, "CallbackRecorded")},
        security=[{"attemptToken": []}],
        parameters=[job_id()],
        requestBody={"required": True, "content": json_of(callback)},
    )


def _agent_file() -> dict[str, Any]:
    file = _file("The agent of this release, which is not secret.")
    return operation("agentFile", "Get the agent as a file.", None, (), {"200": file})


def _agent_build() -> dict[str, Any]:
    schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    sha256 = parameter("path", "sha256", "The file's hash.", schema) | {"required": True}
    return operation(
        "agentBuild",
        "Get the agent with this hash, of this release or one of the last.",
        None,
        ("NoSuchBuild", "TooMany"),
        {"200": _file("That agent. It never changes.", **{"Cache-Control": header("Forever.")})},
        parameters=[sha256],
    )


def _file(about: str, **more: Any) -> dict[str, Any]:
    return {
        "description": about,
        "headers": {
            "ETag": header("The hash, quoted."),
            "X-Docker-Job-SHA256": header("The file's hash."),
            **more,
        },
        "content": {"application/zip": {"schema": {"contentMediaType": "application/zip"}}},
    }


def _health(name: str, summary: str, schema: str, *refusals: str) -> dict[str, Any]:
    about = {"alive": "The process answers.", "ready": "Database and bus answer."}[name]
    return operation(name, summary, None, refusals, {"200": answer(about, schema)})


def _description() -> dict[str, Any]:
    own = {"description": "OpenAPI 3.1.", "content": json_of({"type": "object"})}
    summary = "Get this document."
    return operation("description", summary, None, ("WrongHost",), {"200": own})
