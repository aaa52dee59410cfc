"""The routes: the parameters, body and responses of each."""

from typing import Any

from services.api.http.openapi import events, listing, logs, records
from services.api.http.openapi.shapes import LARGEST_ID, Schema, ref, whole
from services.api.http.routes.jobs import MAX_KEY_LENGTH
from services.api.http.settings import HttpConfig
from services.api.submission.request import JobRequest

JSON = "application/json"
TEXT: Schema = {"type": "string"}

EVERYWHERE = ("MalformedRequest", "HeadTooSlow", "HeadTooLarge", "Crashed", "Unavailable")
WITH_BODY = ("BadRequest", "TooSlow", "TooLarge")
WITH_SMALL_BODY = ("BadRequest", "TooSlow", "LargerThanSmall")
USERS = ("Unauthorized", "Forbidden", "WrongHost", "TooMany")
AGENTS = ("NoAgent", "NotYours", "AttemptOver")

STATUS_OF = {
    "MalformedRequest": "400",
    "BadRequest": "400",
    "Unauthorized": "401",
    "NoAgent": "401",
    "Forbidden": "403",
    "WebPage": "403",
    "NotYours": "403",
    "NoSuchJob": "404",
    "HeadTooSlow": "408",
    "TooSlow": "408",
    "AlreadyOver": "409",
    "NotRemovable": "409",
    "AttemptOver": "409",
    "KeyConflict": "409",
    "TooLarge": "413",
    "LargerThanSmall": "413",
    "WrongHost": "421",
    "TooMany": "429",
    "HeadTooLarge": "431",
    "Crashed": "500",
    "Unavailable": "503",
    "NotReady": "503",
}
"""The statuses of the responses in the components; of two with one status the later counts."""


def paths(config: HttpConfig) -> dict[str, Any]:
    """Describe the routes of `web.py`; HEAD is answered like GET."""
    return {
        "/schedule": {"post": _schedule()},
        "/list": {"get": _list(config.list_page)},
        "/status/{id}": {"get": _status()},
        "/jobs/{id}": {"delete": _cancel()},
        "/jobs/{id}/logs": {"get": _logs()},
        "/events": {"get": _events()},
        "/jobs/{id}/record": {"delete": _remove()},
        "/totals": {"get": _totals()},
        "/agent/claim": {"post": _claim()},
        "/agent/jobs/{id}/report": {"post": _report()},
        "/callback/{id}": {"put": _callback()},
        "/agent/agent.py": {"get": _agent_file()},
        "/healthz": {"get": _health("alive", "Check that the process answers.", "Alive")},
        "/readyz": {"get": _health("ready", "Check readiness.", "Ready", "NotReady")},
        "/openapi.json": {"get": _description()},
    }


def _schedule() -> dict[str, Any]:
    jobs = {"oneOf": [ref("JobRequest"), ref("JobRequests")]}
    created = {
        "description": "Accepted and durable. For an array: all jobs, in the same order.",
        "headers": {"Location": _header("The path of the job's status (of a single job).")},
        "content": _json({"oneOf": [ref("JobDetail"), ref("JobDetails")]}),
    }
    about = (
        "Makes a repeat safe: the same key and body get the first response again, for a week. "
        "With a single job only."
    )
    key = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH}
    return _operation(
        "schedule",
        "Schedule one job, or an array of jobs, all or none.",
        "submit",
        ("KeyConflict", *WITH_BODY, *USERS),
        {"201": created},
        parameters=[_parameter("header", "Idempotency-Key", about, key)],
        requestBody={"required": True, "content": _json(jobs, example=JobRequest.EXAMPLE)},
    )


def _list(most: int) -> dict[str, Any]:
    listed = {
        "description": "Newest first.",
        "headers": {"Link": _header('`rel="next"`: the next page, if there is one.')},
        "content": _json(ref("Jobs")),
    }
    return _operation(
        "list",
        "List jobs, newest first; all filters must match.",
        "read",
        ("BadRequest", *USERS),
        {"200": listed},
        parameters=listing.parameters(most),
    )


def _status() -> dict[str, Any]:
    return _operation(
        "status",
        "Show a job with its attempts.",
        "read",
        ("NoSuchJob", *USERS),
        {"200": _answer("The job.", "JobDetail")},
        parameters=[_job_id()],
    )


def _cancel() -> dict[str, Any]:
    return _operation(
        "cancel",
        "Cancel a job at any stage.",
        "submit",
        ("NoSuchJob", "AlreadyOver", *USERS),
        {"200": _answer("The job.", "JobDetail")},
        parameters=[_job_id()],
    )


def _logs() -> dict[str, Any]:
    return _operation(
        "logs",
        "Show the container's log.",
        "read",
        ("NoSuchJob", "BadRequest", *USERS),
        logs.answers(),
        parameters=[_job_id(), *logs.parameters()],
    )


def _events() -> dict[str, Any]:
    return _operation(
        "events",
        "Stream the changes of jobs.",
        "read",
        ("BadRequest", *USERS),
        events.answers(),
        parameters=events.parameters(),
    )


def _remove() -> dict[str, Any]:
    return _operation(
        "remove",
        "Remove the record of a finished job, with its attempts, logs and secrets.",
        "admin",
        ("NoSuchJob", "NotRemovable", *USERS),
        {"204": {"description": "Removed. It still counts in the daily totals."}},
        parameters=[_job_id()],
    )


def _totals() -> dict[str, Any]:
    return _operation(
        "totals",
        "Show daily totals of finished jobs and their cost, those of removed records included.",
        "read",
        ("BadRequest", *USERS),
        {"200": _answer("In the order of the days; days without jobs are left out.", "Totals")},
        parameters=records.parameters(),
    )


def _claim() -> dict[str, Any]:
    claim = {"oneOf": [ref("Claim"), ref("RoleClaim")]}
    return _operation(
        "claim",
        "Claim the attempt of the agent's instance; get the job.",
        None,
        (*WITH_SMALL_BODY, *AGENTS),
        {
            "200": _answer("The job; a repeated claim gets it again.", "Assignment"),
            "202": _answer("Not yet; the claim counts as a heartbeat.", "Wait"),
        },
        security=[{"bootstrapToken": []}, {}],
        requestBody={"required": True, "content": _json(claim)},
    )


def _report() -> dict[str, Any]:
    return _operation(
        "report",
        "Report a heartbeat, with a phase and log lines.",
        None,
        ("NoSuchJob", *WITH_BODY, *AGENTS),
        {"200": {"description": "Recorded.", "content": _json({"type": "object"})}},
        security=[{"attemptToken": []}],
        parameters=[_job_id()],
        requestBody={"required": True, "content": _json(ref("Report"))},
    )


def _callback() -> dict[str, Any]:
    callback = {"oneOf": [ref("Interrupted"), ref("Failed"), ref("Done")]}
    recorded = "Recorded; a repeated callback changes nothing."
    return _operation(
        "callback",
        "Report an interruption notice or the end of an attempt.",
        None,
        ("NoSuchJob", *WITH_SMALL_BODY, *AGENTS),
        {"200": _answer(recorded, "CallbackRecorded")},
        security=[{"attemptToken": []}],
        parameters=[_job_id()],
        requestBody={"required": True, "content": _json(callback)},
    )


def _agent_file() -> dict[str, Any]:
    file = {
        "description": "The agent, which is not secret.",
        "headers": {
            "ETag": _header("The hash, quoted."),
            "X-Docker-Job-SHA256": _header("The file's hash."),
        },
        "content": {"application/zip": {"schema": {"contentMediaType": "application/zip"}}},
    }
    return _operation("agentFile", "Get the agent as a file.", None, (), {"200": file})


def _health(name: str, summary: str, schema: str, *refusals: str) -> dict[str, Any]:
    about = {"alive": "The process answers.", "ready": "Database and bus answer."}[name]
    return _operation(name, summary, None, refusals, {"200": _answer(about, schema)})


def _description() -> dict[str, Any]:
    own = {"description": "OpenAPI 3.1.", "content": _json({"type": "object"})}
    summary = "Get this document."
    return _operation("description", summary, None, ("WebPage", "WrongHost"), {"200": own})


def _operation(
    name: str,
    summary: str,
    scope: str | None,
    refusals: tuple[str, ...],
    answers: dict[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Describe a method of a route; *scope* is the API key's, None if it needs none."""
    security = more.pop("security", []) if scope is None else [{"apiKey": [scope]}, {}]
    refused = {STATUS_OF[each]: _response(each) for each in (*EVERYWHERE, *refusals)}
    return {
        "operationId": name,
        "summary": summary,
        "security": security,
        **more,
        "responses": dict(sorted((answers | refused).items())),
    }


def _response(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/responses/{name}"}


def _answer(about: str, schema: str) -> dict[str, Any]:
    return {"description": about, "content": _json(ref(schema))}


def _json(schema: Schema, **more: Any) -> dict[str, Any]:
    return {JSON: {"schema": schema, **more}}


def _header(about: str) -> dict[str, Any]:
    return {"description": about, "schema": TEXT}


def _parameter(place: str, name: str, about: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "description": about, "schema": schema}


def _job_id() -> dict[str, Any]:
    about = "The job's number."
    return _parameter("path", "id", about, whole(1, LARGEST_ID)) | {"required": True}
