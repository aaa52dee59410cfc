"""The parts of a route's description: parameters, body and responses."""

from typing import Any

from services.api.http.openapi.shapes import LARGEST_ID, Schema, ref, whole

JSON = "application/json"
TEXT: Schema = {"type": "string"}

EVERYWHERE = (
    "MalformedRequest", "WebPage", "HeadTooSlow", "HeadTooLarge", "Crashed", "Unavailable",
)  # fmt: skip
WITH_BODY = ("BadRequest", "TooSlow", "TooLarge")
WITH_SMALL_BODY = ("BadRequest", "TooSlow", "LargerThanSmall")
WITH_REPORT = ("BadRequest", "TooSlow", "LargerThanReport")
USERS = ("Unauthorized", "Forbidden", "WrongHost", "TooMany")
AGENTS = ("NoAgent", "NotYours", "AttemptOver", "TooMany")

STATUS_OF = {
    "MalformedRequest": "400",
    "BadRequest": "400",
    "Unauthorized": "401",
    "NoAgent": "401",
    "Forbidden": "403",
    "WebPage": "403",
    "NotYours": "403",
    "NoSuchJob": "404",
    "NoSuchLetter": "404",
    "NoSuchBuild": "404",
    "NoSuchKey": "404",
    "HeadTooSlow": "408",
    "TooSlow": "408",
    "AlreadyOver": "409",
    "NotRemovable": "409",
    "AttemptOver": "409",
    "KeyConflict": "409",
    "LetterInBroker": "409",
    "KeyNeeded": "409",
    "TooLarge": "413",
    "LargerThanSmall": "413",
    "LargerThanReport": "413",
    "WrongHost": "421",
    "TooMany": "429",
    "JobQuotaReached": "429",
    "HeadTooLarge": "431",
    "Crashed": "500",
    "Unavailable": "503",
    "NotReady": "503",
}
"""The statuses of the responses in the components; of two with one status the later counts."""


def operation(
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


def answer(about: str, schema: str) -> dict[str, Any]:
    """Describe an answer whose body has *schema* of the components."""
    return {"description": about, "content": json_of(ref(schema))}


def json_of(schema: Schema, **more: Any) -> dict[str, Any]:
    """Describe a body of JSON."""
    return {JSON: {"schema": schema, **more}}


def header(about: str) -> dict[str, Any]:
    """Describe a header of an answer."""
    return {"description": about, "schema": TEXT}


def parameter(place: str, name: str, about: str, schema: Schema) -> dict[str, Any]:
    """Describe a parameter; *place* is `query`, `header` or `path`."""
    return {"name": name, "in": place, "description": about, "schema": schema}


def job_id() -> dict[str, Any]:
    """Describe the id in the path."""
    about = "The job's number."
    return parameter("path", "id", about, whole(1, LARGEST_ID)) | {"required": True}
