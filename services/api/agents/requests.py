"""The bodies that agents send: from untrusted bytes to a value, or an error that names a field."""

import re
from datetime import datetime
from typing import Any

from services.api.agents.calls import Callback, Report
from services.api.agents.claims import RoleClaim, TokenClaim
from services.api.agents.sts_identity import Proof
from services.api.logs.bounds import Amount, Line
from services.api.submission.request import BadRequest
from shared.events.events import Cause

PHASES = ("pulling", "running", "stopping")
RUNTIMES = ("docker", "simulated")
STREAMS = ("stdout", "stderr", "docker-job")
MAX_MESSAGE = 16_384
MAX_LINE = 65_536
MAX_LINES = 10_000
MAX_HEADERS = 20
MAX_INSTANCE_ID = 200
MAX_WHOLE = 2**31 - 1
MAX_LEFT_OUT = 2**53 - 1  # of a log, in bytes: what every JSON reader takes for a whole number
TOKEN = re.compile(r"[0-9a-f]{64}")


def read_claim(body: Any) -> TokenClaim:
    """Read the body of `POST /agent/claim` with a bootstrap token."""
    fields = _object(body)
    token = _token(fields)
    instance_id = fields.get("instance_id")
    if not isinstance(instance_id, str) or not 1 <= len(instance_id) <= MAX_INSTANCE_ID:
        raise BadRequest(f"instance_id must be a string of 1 to {MAX_INSTANCE_ID} characters")
    return TokenClaim(
        job_id=_whole(fields, "job_id"),
        attempt=_whole(fields, "attempt"),
        instance_id=clean(instance_id),
        token=token,
        runtime=_runtime(fields),
        interrupted=_flag(fields, "interrupted"),
    )


def read_role_claim(body: Any) -> RoleClaim:
    """Read the body of `POST /agent/claim` of an instance that is identified by its role."""
    fields = _object(body)
    token = _token(fields)
    runtime = _runtime(fields)
    identity = _object(fields.get("identity"), "identity")
    headers, signed = identity.get("headers"), identity.get("body")
    if not isinstance(headers, dict) or not all(isinstance(each, str) for each in headers.values()):
        raise BadRequest("identity.headers must be an object of strings")
    if len(headers) > MAX_HEADERS or any(name != name.lower() for name in headers):
        raise BadRequest("identity.headers must have names in small letters, and few of them")
    if not isinstance(signed, str):
        raise BadRequest("identity.body must be a string")
    return RoleClaim(
        proof=Proof(headers, signed),
        token=token,
        runtime=runtime,
        interrupted=_flag(fields, "interrupted"),
    )


def _token(fields: dict[str, Any]) -> str:
    token = fields.get("token")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise BadRequest("token must be 64 hexadecimal digits of the agent's own making")
    return token


def _runtime(fields: dict[str, Any]) -> str:
    runtime = fields.get("runtime")
    if runtime not in RUNTIMES:
        raise BadRequest(f"runtime must be one of {', '.join(RUNTIMES)}")
    return str(runtime)


def read_report(body: Any) -> Report:
    """Read the body of `POST /agent/jobs/{id}/report`."""
    fields = _object(body)
    phase = fields.get("phase")
    if phase is not None and phase not in PHASES:
        raise BadRequest(f"phase must be null or one of {', '.join(PHASES)}")
    rebalance = _flag(fields, "rebalance")
    if rebalance and phase is not None:
        raise BadRequest("rebalance goes without a phase: report that by itself")
    batch = fields.get("logs")
    if batch is None:
        return Report(phase=phase, rebalance=rebalance)
    batch = _object(batch, "logs")
    lines = batch.get("lines")
    if not isinstance(lines, list) or len(lines) > MAX_LINES:
        raise BadRequest(f"logs.lines must be an array of at most {MAX_LINES} lines")
    return Report(
        phase=phase,
        rebalance=rebalance,
        seq=_whole(batch, "seq"),
        lines=tuple(_line(line) for line in lines),
        left_out=_left_out(batch),
    )


def _left_out(batch: dict[str, Any]) -> Amount:
    if batch.get("left_out") is None:
        return Amount()
    fields = _object(batch["left_out"], "logs.left_out")
    return Amount(
        bytes=_whole(fields, "bytes", MAX_LEFT_OUT), lines=_whole(fields, "lines", MAX_LEFT_OUT)
    )


def _line(line: Any) -> Line:
    fields = _object(line, "logs.lines[]")
    at, stream, text = fields.get("at"), fields.get("stream"), fields.get("text")
    if stream not in STREAMS or not isinstance(text, str) or not isinstance(at, str):
        raise BadRequest("logs.lines[] must have at (ISO 8601), stream (stdout, stderr) and text")
    try:
        datetime.fromisoformat(at if at.isprintable() else "")  # it takes NUL for the T
    except ValueError:
        raise BadRequest("logs.lines[].at must be an ISO 8601 time") from None
    return at, stream, clean(text[:MAX_LINE])


def read_callback(body: Any) -> Callback:
    """Read the body of `PUT /callback/{id}`: a key's presence counts, not its value."""
    fields = _object(body)
    if "schedule" in fields and "failed" in fields:
        raise BadRequest("give schedule or failed, not both")
    exit_code = fields.get("exit_code")
    if exit_code is not None and not _is_whole(exit_code):
        raise BadRequest("exit_code must be a whole number")
    message = fields.get("error_message")
    if message is not None and not isinstance(message, str):
        raise BadRequest("error_message must be a string")
    if "schedule" in fields:
        stopped = _flag(fields, "stopped")
        return Callback(cause="interrupted", stopped=stopped, exit_code=exit_code)
    if "failed" in fields:
        text = clean(message or "the container failed")[-MAX_MESSAGE:]
        return Callback(
            cause=_failure(fields),
            stopped=_flag(fields, "stopped", default=True),
            exit_code=exit_code,
            message=text,
            for_good=_flag(fields, "for_good"),
        )
    if exit_code not in (None, 0):
        raise BadRequest("exit_code is not 0: report a container that failed with failed")
    return Callback(cause="done", stopped=True, exit_code=0)


def _failure(fields: dict[str, Any]) -> Cause:
    pull_failed, timed_out = _flag(fields, "pull_failed"), _flag(fields, "timed_out")
    if pull_failed:
        return "pull_failed"
    return "timed_out" if timed_out else "failed"


def clean(text: str) -> str:
    """*text* without NUL, which Postgres refuses."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _object(value: Any, name: str = "the body") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"{name} must be a JSON object")
    return value


def _flag(fields: dict[str, Any], name: str, *, default: bool = False) -> bool:
    """Read a boolean, null as false; refuse all else: the text "false" must not count as true."""
    value = fields.get(name, default)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false")
    return value


def _whole(fields: dict[str, Any], name: str, most: int = MAX_WHOLE) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise BadRequest(f"{name} must be a positive whole number")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_WHOLE
