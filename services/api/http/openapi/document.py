"""The OpenAPI document for a deployment's settings."""

import json
from typing import Any

from services.api.http.bodies import REPORT_BYTES, SMALL_BYTES
from services.api.http.openapi import (
    agents,
    dead_letters,
    events,
    keys,
    overview,
    plans,
    quotas,
    records,
    responses,
    submission,
)
from services.api.http.openapi.operations import JSON, STATUS_OF
from services.api.http.openapi.paths import paths
from services.api.http.openapi.shapes import ref
from services.api.http.settings import HttpConfig
from services.api.submission.request import Bounds
from shared.runtime.http_protocol import HEAD_BYTES, BoundedProtocol

VERSION = "1.0.0"

ABOUT = """\
POST a Docker image and a time. At that time an EC2 Spot instance is launched and runs the \
container; after a Spot interruption another one does. The instance is terminated as soon as the \
job is over.

Every error is JSON with a `message` that names the field and says what is right. An unknown path \
is answered with 404, another method with 405 and `Allow`; HEAD is answered as GET would be. A \
parameter that the route does not have is a 400. So is one of one value that is given twice, and a \
second `Authorization`, `Host`, `Idempotency-Key`, `Last-Event-ID`, `Content-Type` or \
`Content-Length`. A body is read as JSON in UTF-8, not compressed, whatever its Content-Type is; \
no member is given twice, and a whole number has neither a point nor an exponent. Times are in \
UTC; names of durations end in `_seconds`, of money in `_usd`. \
Every answer has an `X-Request-Id`, which the log lines of the request have too: the request's \
own, if it is of 1 to 64 letters, digits, `.`, `_` and `-` and begins with a letter or digit. \
Responses may get more fields: ignore those that you do not know.\
"""


def document(config: HttpConfig, bounds: Bounds) -> dict[str, Any]:
    """Make the document of an API with these settings."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "docker-job",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths(config),
        "components": {
            "schemas": responses.schemas()
            | records.schemas()
            | dead_letters.schemas()
            | overview.schemas()
            | quotas.schemas()
            | events.schemas()
            | keys.schemas()
            | submission.schemas(bounds)
            | plans.schemas(bounds)
            | agents.schemas(),
            "responses": _responses(config),
            "securitySchemes": _security(),
        },
    }


def text(config: HttpConfig, bounds: Bounds) -> str:
    """Encode the document, as it is served and written to docs/openapi.json."""
    return json.dumps(document(config, bounds), indent=2, ensure_ascii=False) + "\n"


def _security() -> dict[str, Any]:
    def bearer(form: str, about: str) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": form, "description": about}

    return {
        "apiKey": bearer(
            "djk_…",
            "A user's key. Its scope (`read`, `submit`, `admin`) includes the scopes before it. "
            "`read` and `submit` see the jobs of the key's project alone, `admin` those of all. "
            "Until the first key is made the API is open.",
        ),
        "bootstrapToken": bearer(
            "64 hexadecimal digits", "For the claim of one attempt; its instance has it."
        ),
        "attemptToken": bearer(
            "64 hexadecimal digits", "Made by the agent, which claimed its attempt with it."
        ),
    }


def _responses(config: HttpConfig) -> dict[str, Any]:
    """Make the responses other than success; `operations.STATUS_OF` has the statuses."""
    meanings = _meanings(config)
    return {name: _response(name, meanings[name]) for name in STATUS_OF}


def _response(name: str, meaning: str) -> dict[str, Any]:
    schemas = {"AttemptOver": "Over", "NotReady": "NotReady"}
    response: dict[str, Any] = {"description": meaning}
    headers = {
        "401": ("WWW-Authenticate", {"type": "string"}),
        "429": ("Retry-After", {"type": "integer", "minimum": 1}),
        "503": ("Retry-After", {"type": "integer", "minimum": 1}),
    }
    if STATUS_OF[name] in headers:
        header, schema = headers[STATUS_OF[name]]
        response["headers"] = {header: {"schema": schema}}
    return response | {"content": {JSON: {"schema": ref(schemas.get(name, "Error"))}}}


_MEANINGS = {
    "MalformedRequest": "The request is not HTTP/1.1, its length is unclear, or a parameter or "
    "header is unknown or given twice.",
    "BadRequest": "A field or parameter is wrong: the message names it and says what is right.",
    "Unauthorized": "The API key is missing, unknown or revoked.",
    "NoAgent": "The token is missing or unknown, or the signature is invalid.",
    "Forbidden": "The API key's scope does not grant this, or it does not see the project that "
    "is asked for; or a web page of another origin sent the request (`Origin`, "
    "`Sec-Fetch-Site`), and it is no read with a key.",
    "WebPage": "A web page of another origin sent the request (`Origin`, `Sec-Fetch-Site`).",
    "NotYours": "The token is another job's, or the signature not that of an instance of this "
    "deployment.",
    "NoSuchJob": "There is no job with this id, or it is one of a project that the key does "
    "not see: nothing tells the two apart.",
    "NoSuchBuild": "No release of this deployment had an agent with this hash of late.",
    "NoSuchLetter": "No service has reported a dead letter with this id.",
    "AlreadyOver": "The job is over and cannot be cancelled.",
    "NotRemovable": "The job is not finished, or an instance of it is not known to be "
    "terminated: the message says what the removal waits for.",
    "AttemptOver": "The attempt is over, or another agent has it: stop the container.",
    "KeyConflict": "The Idempotency-Key was used with another body.",
    "NoSuchKey": "There is no valid API key with this prefix.",
    "KeyNeeded": "Without that key nobody could manage keys over HTTP: the message names what "
    "to do first.",
    "LetterInBroker": "The letter is in the broker's dead queue: the operators' command, which "
    "the message names, handles these.",
    "WrongHost": "There is no API key yet, and `Host` is neither loopback nor configured.",
    "TooMany": "Too many requests or followers, or too many jobs wait: wait for `Retry-After` "
    "seconds.",
    "JobQuotaReached": "Too many requests or followers, or too many jobs wait: wait for "
    "`Retry-After` seconds. Without that header a quota of live jobs is reached: the message names "
    "it, and nothing was scheduled.",
    "Crashed": "An internal error; the log has it under the answer's `X-Request-Id`.",
    "Unavailable": "The database or STS does not answer, the service is stopping, or requests "
    "use up its memory: try again.",
    "NotReady": "`message` says what is wrong, `missing` names the parts.",
}
"""The meanings that are the same with all settings."""


def _meanings(config: HttpConfig) -> dict[str, str]:
    slow = f"The request's head did not come within {BoundedProtocol.head_seconds:g} s"
    return _MEANINGS | {
        "HeadTooSlow": f"{slow}.",
        "TooSlow": f"{slow}, or its body did not within {config.body.seconds:g} s.",
        "TooLarge": f"The body is larger than {config.body.size} bytes.",
        "LargerThanSmall": f"The body is larger than {min(SMALL_BYTES, config.body.size)} bytes.",
        "LargerThanReport": f"The body is larger than {min(REPORT_BYTES, config.body.size)} bytes.",
        "HeadTooLarge": f"The request's head, or its trailers, are larger than {HEAD_BYTES} bytes.",
    }
