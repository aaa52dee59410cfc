"""How a container ended, and what the last callback says of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .engine import MAX_ERROR_CHARACTERS
from .situation import INTERRUPTED, OVER, TERMINATED, TIMED_OUT


class Outcome(NamedTuple):
    """How the container ended. `exit_code` is None if it never ran or nobody can say."""

    exit_code: int | None
    note: str = ""
    stopped: bool = True  # False: we could not make sure that it runs no more
    pull: str = ""  # "failed" or "refused" (asking again cannot help) if there was no image to run


def error_message(tail: Iterable[str], outcome: Outcome) -> str:
    """What the job's owner reads: why it could not run, or the last lines that it printed."""
    text = "\n".join(tail).strip()[-MAX_ERROR_CHARACTERS:]
    if outcome.exit_code is None:  # an engine's error may quote a whole command
        return outcome.note[-MAX_ERROR_CHARACTERS:] or text or "the container could not run"
    text = text or f"exited with code {outcome.exit_code}"
    return f"{outcome.note}\n{text}" if outcome.note else text


def decide_final_callback(
    cause: str | None, outcome: Outcome, tail: Iterable[str], timeout_seconds: float | None
) -> dict[str, Any] | None:
    """The body of the last callback; None if nobody waits for one.

    After an interruption "stopped" is a promise that a replacement may start its container, so we
    say nothing if we could not make sure; the cloud will confirm that the instance is gone.
    """
    if cause in (OVER, TERMINATED):
        return None
    if cause == TIMED_OUT:
        message = f"timed out after {timeout_seconds or 0:g} seconds"
        return {"failed": "", "error_message": message, "timed_out": True}
    if outcome.exit_code == 0:
        return {"exit_code": 0}
    code: dict[str, Any] = {} if outcome.exit_code is None else {"exit_code": outcome.exit_code}
    if outcome.pull:
        code["pull_failed"] = True
    if outcome.pull == "refused":
        code["for_good"] = True
    if not outcome.stopped:
        code["stopped"] = False  # another attempt must wait until the instance is gone
    if cause == INTERRUPTED:
        code.pop("pull_failed", None)
        code.pop("for_good", None)
        return {"schedule": "", "stopped": True, **code} if outcome.stopped else None
    return {"failed": "", "error_message": error_message(tail, outcome), **code}


def decide_exit_callback(outcome: Outcome) -> dict[str, Any] | None:
    """The callback of an attempt that is over: how its container exited; None if unknown."""
    if outcome.exit_code is None or not outcome.stopped:
        return None
    if outcome.exit_code == 0:
        return {"exit_code": 0}
    return {"failed": "", "error_message": "stopped", "exit_code": outcome.exit_code}
