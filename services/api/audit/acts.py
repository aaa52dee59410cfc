"""Acts of callers, as the audit table and the log have them."""

from collections.abc import Sequence
from typing import Literal, get_args

from msgspec import Struct

from shared.log import get_logger

_log = get_logger(service="api", part="audit")

Action = Literal[
    "job.schedule",
    "job.rerun",
    "job.cancel",
    "job.remove",
    "key.create",
    "key.revoke",
    "deadletter.redrive",
    "deadletter.drop",
]
ACTIONS: tuple[str, ...] = get_args(Action)

_LOGGED: dict[Action, str] = {
    "job.schedule": "job accepted",
    "job.rerun": "job accepted",
    "job.cancel": "job cancelled",
    "job.remove": "record removed",
    "key.create": "API key created",
    "key.revoke": "API key revoked",
    "deadletter.redrive": "redrive of a dead letter asked",
    "deadletter.drop": "drop of a dead letter asked",
}

JOBS_OF_A_LINE = 40
"""The most jobs that one log line names.

A line beyond 4 KiB (PIPE_BUF) may be torn by one of another process on the same pipe.
"""


class Actor(Struct, frozen=True, kw_only=True):
    """The actor: an API key (*key* is its prefix), or anyone while there is none.

    *address* is that of the client; it is empty if it is unknown.
    """

    key: str | None = None
    key_name: str | None = None
    project: str | None = None
    address: str = ""


LOCAL_COMMAND = Actor(address="local command")
"""The actor of a command on the machine of the API."""


def log(
    actor: Actor,
    action: Action,
    job_ids: Sequence[int] = (),
    subject: str | None = None,
    request_ids: Sequence[str | None] = (),
) -> None:
    """Log an act that is committed: a line for each forty of *job_ids*.

    *request_ids*: those of the jobs, in their order, where the log's context does not have it.
    """
    given = {name: value for name, value in _fields(actor, subject).items() if value}
    for start in range(0, max(1, len(job_ids)), JOBS_OF_A_LINE):
        end = start + JOBS_OF_A_LINE
        lists = {"jobs": job_ids[start:end], "request_ids": request_ids[start:end]}
        named = {name: list(each) for name, each in lists.items() if each}
        _log.info(_LOGGED[action], action=action, **named, **given)


def _fields(actor: Actor, subject: str | None) -> dict[str, str | None]:
    return {
        "key": actor.key,
        "key_name": actor.key_name,
        "project": actor.project,
        "address": actor.address,
        "subject": subject,
    }
