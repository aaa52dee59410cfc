"""The routes: what each takes, and with which statuses it answers."""

from typing import Any

from services.api.http.openapi.shapes import LARGEST_ID, Schema, one_of, ref, whole
from services.api.http.routes.jobs import MAX_KEY_LENGTH
from services.api.http.settings import HttpConfig
from services.api.jobs.model import STATUSES
from services.api.submission.request import JobRequest

JSON = "application/json"

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
"""The status of each response in the components. Of two at one route the later counts."""


def paths(config: HttpConfig) -> dict[str, Any]:
    """Every route of `service.py`; HEAD is answered wherever GET is."""
    return _jobs(config) | _of_a_job() | _agents() | _rest()


def _jobs(config: HttpConfig) -> dict[str, Any]:
    jobs = {"oneOf": [ref("JobRequest"), ref("JobRequests")]}
    accepted = {
        "description": "Accepted and durable. Of an array: all of them, in order.",
        "headers": {
            "Location": _header("Where the job's status is (of a single job).", {"type": "string"})
        },
        "content": _json({"oneOf": [ref("JobDetail"), ref("JobDetails")]}),
    }
    listed = {
        "description": "Newest first.",
        "headers": {
            "Link": _header('`rel="next"`: the next page, where there is one.', {"type": "string"})
        },
        "content": _json(ref("Jobs")),
    }
    most = config.list_page
    limit = {"anyOf": [whole(1, most), {"const": "all"}], "default": most}
    label = {"type": "array", "items": {"type": "string", "pattern": r"^[^:\u0000]+:[^\u0000]*$"}}
    return {
        "/schedule": {
            "post": _operation(
                "schedule",
                "Schedule one job, or an array of jobs, all or none.",
                "submit",
                ("KeyConflict", *WITH_BODY, *USERS),
                {"201": accepted},
                parameters=[
                    _parameter(
                        "header",
                        "Idempotency-Key",
                        "Makes repeating safe: the same key and body get the first answer again, "
                        "for a week. Goes with a single job.",
                        {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
                    )
                ],
                requestBody={"required": True, "content": _json(jobs, example=JobRequest.EXAMPLE)},
            )
        },
        "/list": {
            "get": _operation(
                "list",
                "Jobs, newest first.",
                "read",
                ("BadRequest", *USERS),
                {"200": listed},
                parameters=[
                    _parameter("query", "limit", "A page's size; `all` streams everything.", limit),
                    _parameter(
                        "query", "cursor", "Jobs before this id: see `Link`.", whole(1, LARGEST_ID)
                    ),
                    _parameter("query", "status", "In any case.", one_of(STATUSES)),
                    _parameter(
                        "query", "label", "`name:value`; several must all fit, at most 50.", label
                    ),
                ],
            )
        },
    }


def _of_a_job() -> dict[str, Any]:
    shown = {"200": _answer("The job.", "JobDetail")}
    follow: Schema = {"anyOf": [whole(0, 1), {"type": "boolean"}], "default": 0}
    text = {
        "description": "The lines as they were printed; with `follow` server-sent events: `data` "
        "is a `LogLine` in JSON, `id` where to go on from, and the event `end` brings `status` and "
        "`exit_code`.",
        "content": {
            "text/plain; charset=utf-8": {"schema": {"type": "string"}},
            "text/event-stream; charset=utf-8": {},  # 3.1 cannot describe an event
        },
    }
    return {
        "/status/{id}": {
            "get": _operation(
                "status",
                "One job with each of its attempts.",
                "read",
                ("NoSuchJob", *USERS),
                shown,
                parameters=[_job_id()],
            )
        },
        "/jobs/{id}": {
            "delete": _operation(
                "cancel",
                "Cancel a job at any stage.",
                "submit",
                ("NoSuchJob", "AlreadyOver", *USERS),
                shown,
                parameters=[_job_id()],
            )
        },
        "/jobs/{id}/logs": {
            "get": _operation(
                "logs",
                "What the container printed.",
                "read",
                ("NoSuchJob", "BadRequest", *USERS),
                {"200": text},
                parameters=[
                    _job_id(),
                    _parameter("query", "follow", "Stream until the job is over.", follow),
                    _parameter(
                        "header",
                        "Last-Event-ID",
                        "With `follow`: go on behind this one.",
                        {"type": "string", "pattern": r"^[0-9]{1,9}\.[0-9]{1,9}$"},
                    ),
                ],
            )
        },
    }


def _agents() -> dict[str, Any]:
    claim = {"oneOf": [ref("Claim"), ref("RoleClaim")]}
    callback = {"oneOf": [ref("Interrupted"), ref("Failed"), ref("Done")]}
    claimed = {
        "200": _answer(
            "The job is the agent's; the same claim again is answered alike.", "Assignment"
        ),
        "202": _answer("Not yet; asking counts as a heartbeat.", "Wait"),
    }
    file = {
        "description": "The agent itself, which is no secret.",
        "headers": {
            "ETag": _header("The hash, quoted.", {"type": "string"}),
            "X-Docker-Job-SHA256": _header("The file's hash.", {"type": "string"}),
        },
        "content": {"application/zip": {"schema": {"contentMediaType": "application/zip"}}},
    }
    return {
        "/agent/claim": {
            "post": _operation(
                "claim",
                "Claim the attempt of the agent's instance; get the job.",
                None,
                (*WITH_SMALL_BODY, *AGENTS),
                claimed,
                security=[{"bootstrapToken": []}, {}],
                requestBody={"required": True, "content": _json(claim)},
            )
        },
        "/agent/jobs/{id}/report": {
            "post": _operation(
                "report",
                "A heartbeat, a phase and log lines in one.",
                None,
                ("NoSuchJob", *WITH_BODY, *AGENTS),
                {"200": {"description": "Recorded.", "content": _json({"type": "object"})}},
                security=[{"attemptToken": []}],
                parameters=[_job_id()],
                requestBody={"required": True, "content": _json(ref("Report"))},
            )
        },
        "/callback/{id}": {
            "put": _operation(
                "callback",
                "Report an interruption notice or the end of an attempt.",
                None,
                ("NoSuchJob", *WITH_SMALL_BODY, *AGENTS),
                {
                    "200": _answer(
                        "Recorded; the same callback again changes nothing.", "CallbackRecorded"
                    )
                },
                security=[{"attemptToken": []}],
                parameters=[_job_id()],
                requestBody={"required": True, "content": _json(callback)},
            )
        },
        "/agent/agent.py": {
            "get": _operation("agentFile", "The agent as a file.", None, (), {"200": file})
        },
    }


def _rest() -> dict[str, Any]:
    own = {"description": "OpenAPI 3.1.", "content": _json({"type": "object"})}
    ready = {"200": _answer("Database and bus answer.", "Ready")}
    alive = {"200": _answer("The process answers: nothing more is claimed.", "Alive")}
    return {
        "/healthz": {"get": _operation("alive", "Is the process alive?", None, (), alive)},
        "/readyz": {"get": _operation("ready", "Is it ready?", None, ("NotReady",), ready)},
        "/openapi.json": {
            "get": _operation(
                "description", "This document.", None, ("WebPage", "WrongHost"), {"200": own}
            )
        },
    }


def _operation(
    name: str,
    summary: str,
    scope: str | None,
    refusals: tuple[str, ...],
    answers: dict[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """One method of a route; *scope* is the API key's, None where none is asked for."""
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


def _header(about: str, schema: Schema) -> dict[str, Any]:
    return {"description": about, "schema": schema}


def _parameter(place: str, name: str, about: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "description": about, "schema": schema}


def _job_id() -> dict[str, Any]:
    about = "The job's number."
    return _parameter("path", "id", about, whole(1, LARGEST_ID)) | {"required": True}
