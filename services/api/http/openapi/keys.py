"""The routes, parameters and schemas of API keys and the audit trail."""

from typing import Any

from msgspec import Struct

from services.api.audit.acts import ACTIONS
from services.api.audit.store import Entry
from services.api.http.openapi.operations import (
    USERS,
    WITH_SMALL_BODY,
    answer,
    header,
    json_of,
    operation,
    parameter,
)
from services.api.http.openapi.shapes import (
    LARGEST_ID,
    Schema,
    a_list,
    an_object,
    described,
    one_of,
    ref,
    typed,
    whole,
)
from services.api.http.openapi.times import TIME
from services.api.http.routes.audit import DEFAULT_ENTRIES, MOST_ENTRIES
from services.api.http.routes.keys import EXAMPLE
from services.api.http.times import FORMS
from services.api.keys.access import SCOPES
from services.api.keys.names import NAME_LENGTH, PROJECT
from services.api.keys.service import CreatedKey, ListedKey
from shared.events.requirements import DEFAULT_PROJECT

OF_A_KEY = {
    "prefix": "Its public part, by which it is listed and revoked.",
    "name": "Its owner or purpose.",
    "scope": "`read` reads; `submit` also schedules and cancels; `admin` does everything.",
    "project": "Whose jobs it sees; a key of scope `admin` sees those of all projects.",
    "created_at": "The time when it was made.",
    "last_used_at": "The time of its last use, to the minute; null: never.",
    "revoked_at": "The time from which on it is refused; null: it is valid.",
}
"""The fields of a `ListedKey`, in the same order."""

OF_AN_ENTRY = {
    "id": "Counts up; a number may be left out.",
    "at": "The time of the commit's transaction.",
    "action": "What was done.",
    "key": "The prefix of the API key; null: there was no key yet, or a command on the machine "
    "did it.",
    "key_name": "The key's name.",
    "project": "The key's project.",
    "address": "The client's address; `local command`: a command on the machine; empty: unknown.",
    "job_id": "The job that it was done to, whose record may be removed since.",
    "subject": "What else it was done to: the prefix of a key, the id of an event.",
}
"""The fields of an `Entry`, in the same order."""

NAME: Schema = {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH}
PROJECT_NAME: Schema = {"type": "string", "pattern": f"^{PROJECT}$"}


def paths() -> dict[str, Any]:
    """Describe the routes."""
    return {
        "/keys": {"get": _list(), "post": _create()},
        "/keys/{prefix}": {"delete": _revoke()},
        "/audit": {"get": _audit()},
    }


def _list() -> dict[str, Any]:
    return operation(
        "listKeys",
        "List the API keys without their secrets, revoked ones too, the oldest first.",
        "admin",
        ("BadRequest", *USERS),
        {"200": answer("The keys.", "ApiKeys")},
    )


def _create() -> dict[str, Any]:
    return operation(
        "createKey",
        "Make an API key. The first one must have the scope `admin`.",
        "admin",
        ("KeyNeeded", *WITH_SMALL_BODY, *USERS),
        {"201": answer("The key; its text is shown this one time.", "CreatedApiKey")},
        requestBody={
            "required": True,
            "content": json_of(ref("ApiKeyRequest"), example=EXAMPLE),
        },
    )


def _revoke() -> dict[str, Any]:
    prefix: Schema = {"type": "string", "pattern": "^[^/]+$"}
    return operation(
        "revokeKey",
        "Revoke an API key for good; other processes refuse it within five seconds.",
        "admin",
        ("NoSuchKey", "KeyNeeded", "BadRequest", *USERS),
        {"204": {"description": "Revoked."}},
        parameters=[parameter("path", "prefix", "The key's.", prefix) | {"required": True}],
    )


def _audit() -> dict[str, Any]:
    entries = {
        "description": "The newest first.",
        "headers": {"Link": header('`rel="next"`: the next page, if there is one.')},
        "content": json_of(ref("AuditEntries")),
    }
    name: Schema = {"type": "string", "minLength": 1, "pattern": r"^[^\u0000]*$"}
    limit = whole(1, MOST_ENTRIES, default=DEFAULT_ENTRIES)
    return operation(
        "audit",
        "List who did what, from where and when, newest first; all filters must match.",
        "admin",
        ("BadRequest", *USERS),
        {"200": entries},
        parameters=[
            parameter("query", "job", "Done to this job.", whole(1, LARGEST_ID)),
            parameter("query", "key", "Done with the API key of this prefix.", name),
            parameter("query", "project", "Done with a key of this project.", name),
            parameter("query", "action", "Of this kind.", one_of(ACTIONS)),
            parameter("query", "since", f"From this time on: {FORMS}.", TIME),
            parameter("query", "until", "Before this time, in the same forms.", TIME),
            parameter("query", "limit", "A page's size.", limit),
            parameter("query", "cursor", "As in `Link`.", whole(1, LARGEST_ID)),
        ],
    )


def schemas() -> dict[str, Schema]:
    """Return the schemas by their names."""
    wanted = {
        "name": described(OF_A_KEY["name"], NAME),
        "scope": described(OF_A_KEY["scope"], one_of(SCOPES, default="submit")),
        "project": described(OF_A_KEY["project"], {**PROJECT_NAME, "default": DEFAULT_PROJECT}),
    }
    created = {"key": described("Its text: send it as `Authorization: Bearer …`.", NAME)}
    created |= {
        name: described(OF_A_KEY[name], _of(CreatedKey, name))
        for name in CreatedKey.__struct_fields__
        if name != "key"
    }
    listed = {name: described(about, _of(ListedKey, name)) for name, about in OF_A_KEY.items()}
    entry = {name: described(about, _of(Entry, name)) for name, about in OF_AN_ENTRY.items()}
    return {
        "ApiKeyRequest": an_object(wanted, "scope", "project") | {"additionalProperties": False},
        "CreatedApiKey": an_object(created, about="A new API key."),
        "ApiKey": an_object(listed, about="An API key without its secret."),
        "ApiKeys": a_list(ref("ApiKey")),
        "AuditEntry": an_object(entry, about="One act."),
        "AuditEntries": a_list(ref("AuditEntry")),
    }


def _of(struct: type[Struct], name: str) -> Schema:
    if name == "scope":
        return one_of(SCOPES)
    return one_of(ACTIONS) if name == "action" else typed(struct, name)
