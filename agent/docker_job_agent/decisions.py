"""Decisions about the final callback: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .errors import MAX_ERROR_CHARACTERS
from .tails import printable

# The causes for which a container is stopped before it ends by itself.
OVER = "over"
TERMINATED = "terminated"
TIMED_OUT = "timed out"
INTERRUPTED = "interrupted"


class Outcome(NamedTuple):
    """The container's end; `exit_code` is None if it never ran or the code is unknown."""

    exit_code: int | None
    note: str = ""
    stopped: bool = True  # False: it may still run
    again: bool = False  # the machine ended it, or could not run it: the job goes on elsewhere
    pull: str = ""  # "failed", or "refused" (another try cannot help), if the image is unavailable


def error_message(tail: Iterable[str], outcome: Outcome) -> str:
    """Return the text for the job's owner: why it could not run, or its last lines."""
    text = "\n".join(tail).strip()[-MAX_ERROR_CHARACTERS:]
    note = printable(outcome.note)
    if outcome.exit_code is None:  # an engine's error may quote a whole command
        return note[-MAX_ERROR_CHARACTERS:] or text or "the container could not run"
    text = text or f"exited with code {outcome.exit_code}"
    return f"{note}\n{text}" if note else text


def decide_final_callback(
    cause: str | None, outcome: Outcome, tail: Iterable[str], timeout_seconds: float | None
) -> dict[str, Any] | None:
    """Return the body of the final callback, None if none is due.

    A machine that ends the container by itself interrupts the attempt, without a notice. After an
    interruption, `stopped` promises that a replacement may start its container. If the
    container may still run, there is no callback: the cloud confirms the instance's termination.
    """
    if cause in (OVER, TERMINATED):
        return None
    code: dict[str, Any] = {} if outcome.exit_code is None else {"exit_code": outcome.exit_code}
    if cause == TIMED_OUT:
        message = f"timed out after {timeout_seconds or 0:g} seconds"
        if not outcome.stopped:
            code["stopped"] = False
        return {"failed": "", "error_message": message, "timed_out": True, **code}
    if outcome.exit_code == 0:
        return {"exit_code": 0}
    if cause == INTERRUPTED or outcome.again:
        return _interruption(outcome, code) if outcome.stopped else None
    if outcome.pull:
        code["pull_failed"] = True
    if outcome.pull == "refused":
        code["for_good"] = True
    if not outcome.stopped:
        code["stopped"] = False  # another attempt must wait for the instance's termination
    return {"failed": "", "error_message": error_message(tail, outcome), **code}


def _interruption(outcome: Outcome, code: dict[str, Any]) -> dict[str, Any]:
    reason = {"error_message": error_message((), outcome)} if outcome.again else {}
    return {"schedule": "", "stopped": True, **code, **reason}


LATE_SECONDS = 30.0


def decide_wait_for_ec2(
    action: str, taken_at: float | None, free_until: float | None, now: float
) -> float:
    """Return for how many seconds the machine stays on, so that EC2 takes it and bills nothing.

    "If Amazon EC2 interrupts the Spot Instance: interrupted in the first hour: no charge"; if it is
    terminated by its owner, the seconds used are charged. EC2 may be late by `LATE_SECONDS`. Times
    are monotonic; None: not known, or not free.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html
    """
    if action != "terminate" or taken_at is None or free_until is None or taken_at >= free_until:
        return 0.0
    return max(0.0, taken_at + LATE_SECONDS - now)


def decide_exit_callback(outcome: Outcome) -> dict[str, Any] | None:
    """Return the callback with the exit code of an attempt that is over, None if it is unknown."""
    if outcome.exit_code is None or not outcome.stopped:
        return None
    if outcome.exit_code == 0:
        return {"exit_code": 0}
    return {"failed": "", "error_message": "stopped", "exit_code": outcome.exit_code}
