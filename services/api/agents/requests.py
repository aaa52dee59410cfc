"""The bodies that agents send, each field declared once, and how they are read.

From the declarations come the limits, the messages (see `submission/faults.py`) and the OpenAPI
schemas. A field that is not declared is ignored: an agent may be of a later release.
"""

from typing import Annotated, Any, Literal, TypeVar, get_args

from msgspec import Meta, Struct, ValidationError
from msgspec.json import Decoder
from msgspec.structs import replace

from services.api.agents.calls import Callback, Report
from services.api.agents.log_lines import MAX_WHOLE, LogLines, Positive, as_line, clean
from services.api.agents.sts_identity import Proof
from services.api.jobs.fields import whole
from services.api.logs.bounds import Amount
from services.api.submission.faults import check
from services.api.submission.json_body import BadRequest, decode
from shared.events.causes import Cause

MAX_MESSAGE = 16_384
MAX_DETAIL = 200

Phase = Literal["pulling", "running", "stopping"]
PHASES = get_args(Phase)
Runtime = Literal["docker", "simulated"]

_Flag = bool | None
"""Null is false."""

_NOT_64_DIGITS = "{path} must be 64 hexadecimal digits of the agent's own making"


class _AnyClaim(Struct, frozen=True, kw_only=True):
    token: Annotated[
        str,
        Meta(
            pattern=whole("[0-9a-f]{64}"),
            description="The agent's own secret of 256 bits, made before it claims; afterwards it "
            "is the bearer of the agent's calls.",
            extra={"wrong": _NOT_64_DIGITS, "wrong_type": _NOT_64_DIGITS},
        ),
    ]
    runtime: Annotated[Runtime, Meta(description="What runs the container.")]
    interrupted: Annotated[
        _Flag, Meta(description="The instance is being interrupted: end the attempt.")
    ] = False


class TokenClaim(_AnyClaim, frozen=True, kw_only=True):
    """By the attempt's bootstrap token, the bearer."""

    job_id: Annotated[Positive, Meta(description="The job's number.")]
    attempt: Annotated[Positive, Meta(description="The attempt's number.")]
    instance_id: Annotated[
        str, Meta(min_length=1, max_length=200, description="The agent's instance.")
    ]


class RoleClaim(_AnyClaim, frozen=True, kw_only=True):
    """By the instance's role, where the API's `DOCKER_JOB_INSTANCE_ROLE_ARN` is set."""

    # Such an agent does not know its job yet.

    identity: Annotated[Proof, Meta(description="The parts of a signed request to AWS STS.")]
    instance_id: Annotated[
        Annotated[
            str,
            Meta(
                pattern=whole("i-[0-9a-f]{8,17}"),
                extra={"wrong": "{path} must be an EC2 instance's id, like i-0123456789abcdef0"},
            ),
        ]
        | None,
        Meta(
            description="The agent's instance, which the signature must be of. Claims without one "
            "wait longer while there are many."
        ),
    ] = None


class ReportRequest(Struct, frozen=True, kw_only=True):
    """A heartbeat; perhaps a phase and a batch of log lines with it."""

    phase: Annotated[
        Phase | None,
        Meta(
            description="The phase that the attempt has entered.",
            extra={"wrong": f"{{path}} must be null or one of {', '.join(PHASES)}"},
        ),
    ] = None
    rebalance: Annotated[
        _Flag, Meta(description="EC2 recommends to rebalance; not with a phase.")
    ] = False
    logs: Annotated[LogLines | None, Meta(description="Log lines, if there are any.")] = None
    detail: Annotated[
        str | None,
        Meta(
            description="How far the attempt is in its phase, if that has changed; kept up to "
            f"{MAX_DETAIL} characters. Ignored beside a phase."
        ),
    ] = None


_ExitCode = Annotated[
    Annotated[
        int,
        Meta(ge=-MAX_WHOLE, le=MAX_WHOLE, extra={"wrong": "{path} must be a whole number"}),
    ]
    | None,
    Meta(description="The container's; null if it has none."),
]


class Interrupted(Struct, frozen=True, kw_only=True):
    """The instance is being interrupted."""

    schedule: Annotated[
        Any, Meta(description="Its presence counts, not its value: an interruption notice came.")
    ]
    stopped: Annotated[_Flag, Meta(description="The container is known to have stopped.")] = False
    exit_code: _ExitCode = None
    error_message: Annotated[
        str | None, Meta(description="Why, if it is not the Spot market that interrupts.")
    ] = None


class Failed(Struct, frozen=True, kw_only=True):
    """The container failed, or could not run."""

    failed: Annotated[
        Any, Meta(description="Its presence counts, not its value: the attempt failed.")
    ]
    error_message: Annotated[
        str | None, Meta(description=f"Its last {MAX_MESSAGE} characters are kept.")
    ] = None
    exit_code: _ExitCode = None
    timed_out: Annotated[_Flag, Meta(description="The job's time limit passed.")] = False
    pull_failed: Annotated[_Flag, Meta(description="The image could not be pulled.")] = False
    for_good: Annotated[
        _Flag, Meta(description="The registry has no such image, or denies it.")
    ] = False
    stopped: Annotated[
        _Flag, Meta(description="Left out: true. False or null: the container may still run.")
    ] = True


class Done(Struct, frozen=True, kw_only=True):
    """The container exited with 0."""

    exit_code: Annotated[
        Literal[0] | None,
        Meta(
            description="The container's.",
            extra={
                "wrong": "{path} is not 0: report a container that failed with failed",
                "wrong_type": "{path} must be a whole number",
            },
        ),
    ] = None
    error_message: Annotated[str | None, Meta(description="Ignored.")] = None


_Body = TypeVar("_Body", bound=Struct)
_decode_claim = Decoder(TokenClaim)
_decode_role_claim = Decoder(RoleClaim)
_decode_report = Decoder(ReportRequest)


def read_claim(raw: bytes) -> TokenClaim:
    """Read the body of `POST /agent/claim` with a bootstrap token. Raises `BadRequest`."""
    claim = _read(raw, _decode_claim)
    return replace(claim, instance_id=clean(claim.instance_id))


def read_role_claim(raw: bytes) -> RoleClaim:
    """Read the body of `POST /agent/claim` of an instance that is identified by its role."""
    return _read(raw, _decode_role_claim)


def read_report(raw: bytes) -> Report:
    """Read the body of `POST /agent/jobs/{id}/report`. Raises `BadRequest`."""
    read = _read(raw, _decode_report)
    rebalance, logs = bool(read.rebalance), read.logs
    detail = None
    if read.detail is not None and read.phase is None:
        detail = clean(read.detail[:MAX_DETAIL])
    if rebalance and read.phase is not None:
        raise BadRequest("rebalance goes without a phase: report that by itself")
    if logs is None:
        return Report(phase=read.phase, rebalance=rebalance, detail=detail)
    left_out = logs.left_out
    return Report(
        phase=read.phase,
        rebalance=rebalance,
        detail=detail,
        seq=logs.seq,
        lines=tuple(map(as_line, logs.lines)),
        left_out=Amount(left_out.bytes, left_out.lines) if left_out else Amount(),
    )


def read_callback(raw: bytes) -> Callback:
    """Read the body of `PUT /callback/{id}`. Raises `BadRequest`."""
    body = decode(raw)
    given = body if isinstance(body, dict) else {}
    if "schedule" in given and "failed" in given:
        raise BadRequest("give schedule or failed, not both")
    if "schedule" in given:
        notice = check(body, Interrupted)
        return Callback(
            cause="interrupted",
            stopped=bool(notice.stopped),
            exit_code=notice.exit_code,
            message=_kept(notice.error_message),
        )
    if "failed" in given:
        return _failure(check(body, Failed))
    check(body, Done)
    return Callback(cause="done", stopped=True, exit_code=0)


def _failure(failed: Failed) -> Callback:
    cause: Cause = "timed_out" if failed.timed_out else "failed"
    return Callback(
        cause="pull_failed" if failed.pull_failed else cause,
        stopped=bool(failed.stopped),
        exit_code=failed.exit_code,
        message=_kept(failed.error_message) or "the container failed",
        for_good=bool(failed.for_good),
    )


def _kept(message: str | None) -> str | None:
    return clean(message)[-MAX_MESSAGE:] if message else None


def _read(raw: bytes, decoder: Decoder[_Body]) -> _Body:
    """Decode a body with its declaration; walk it for the message only if it is refused."""
    decode(raw)  # and dropped: the declaration's decoder skips unknown fields, JSON or not
    try:
        return decoder.decode(raw)
    except ValidationError:
        return check(decode(raw), decoder.type)
