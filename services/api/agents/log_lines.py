"""The log lines in an agent's report, declared as in `requests.py`."""

from datetime import datetime
from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from services.api.logs.bounds import Continues, Line
from services.api.submission.json_body import BadRequest

MAX_LINE = 65_536
MAX_LINES = 10_000
MAX_WHOLE = 2**31 - 1
MAX_LEFT_OUT = 2**53 - 1  # of a log, in bytes: every JSON reader takes it for a whole number

Stream = Literal["stdout", "stderr", "docker-job"]
STREAMS = get_args(Stream)
CONTINUES: dict[str | None, Continues] = {each: each for each in get_args(Continues)}

_POSITIVE = {"wrong": "{path} must be a positive whole number"}
Positive = Annotated[int, Meta(ge=1, le=MAX_WHOLE, extra=_POSITIVE)]
_LeftOut = Annotated[int, Meta(ge=1, le=MAX_LEFT_OUT, extra=_POSITIVE)]


class LogLine(Struct, frozen=True):
    """A line of the container's log."""

    at: Annotated[
        str,
        Meta(
            description="An ISO 8601 time.",
            extra_json_schema={"format": "date-time"},
            extra={"wrong_type": "{path} must be an ISO 8601 time"},
        ),
    ]
    stream: Annotated[
        Stream,
        Meta(
            description="`docker-job`: not printed by the container.",
            extra={"values": STREAMS},
        ),
    ]
    text: Annotated[str, Meta(description=f"Kept up to {MAX_LINE} characters.")]
    continues: Annotated[
        str | None,
        Meta(
            description="Null: the line has ended. `split`: it is too long for one piece, and the "
            "next line of the stream is its next piece. `unfinished`: it is shown before its end, "
            "and the next line of the stream continues it, or replaces it if that begins with a "
            "carriage return. Other values count as null."
        ),
    ] = None


class LogOmission(Struct, frozen=True):
    """The part of a log that the agent left out, since newer lines fill the bound."""

    lines: Annotated[_LeftOut, Meta(description="How many lines.")]
    bytes: Annotated[_LeftOut, Meta(description="Their bytes in UTF-8, with one for each end.")]


class LogLines(Struct, frozen=True, kw_only=True):
    """A batch of log lines."""

    seq: Annotated[
        Positive, Meta(description="Counts from 1; a repeated batch has no further effect.")
    ]
    lines: Annotated[
        list[LogLine],
        Meta(
            max_length=MAX_LINES,
            description="In the order in which they were printed.",
            extra={"wrong_type": f"{{path}} must be an array of at most {MAX_LINES} lines"},
        ),
    ]
    left_out: Annotated[
        LogOmission | None, Meta(description="What was left out just before these lines.")
    ] = None


def as_line(line: LogLine) -> Line:
    """Return the line as it is kept. Raises `BadRequest` for a time that is none."""
    at = line.at
    try:
        datetime.fromisoformat(at if at.isprintable() else "")  # it takes NUL for the T
    except ValueError:
        raise BadRequest("logs.lines[].at must be an ISO 8601 time") from None
    return Line(at, line.stream, clean(line.text[:MAX_LINE]), CONTINUES.get(line.continues))


def clean(text: str) -> str:
    """Replace NUL, which Postgres refuses."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
