"""Logging: structlog, one JSON line per entry, pretty on a terminal, without secrets.

The last processor before the renderer is the redactor: it removes the values of secret keys, the
passwords of URLs and the quotes of database errors, and escapes control characters, since a log
line may quote hostile input. In doubt it hides too much.
"""

import functools
import logging
import re
import sys
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from shared import request_ids
from shared.terminal import CONTROL, escape

_SECRET_KEY = re.compile(
    r"(token|secret|password|authorization|(api|token)_key|env_vars|env_values|secret_env)s?$",
    re.IGNORECASE,
)
# Up to the last @ of the word: a password may hold an unquoted @ or slash.
_URL_PASSWORD = re.compile(r"(\w+://[^\s:/@]*):[^\s\"']+@")
_QUERY_SECRET = re.compile(r"([?&](?:password|token|secret)=)[^\s&\"']+", re.IGNORECASE)
_BEARER = re.compile(r"(Bearer\s+)\S+", re.IGNORECASE)
# Postgres and its client quote what they refuse: a whole row, a key, one value. The end of a quote
# cannot be found, so the rest of the text is removed.
_QUOTED = re.compile(
    r"(DETAIL: +|Failing row contains |invalid input for query argument \$\d+[^:]*: "
    r"|(?:invalid input (?:syntax for type|value for enum) |date/time field value out of range)"
    r"[^:\"]*: |\bvalue (?=\".*\" is out of range)|\btime zone (?=\".*\" not recognized)).*",
    re.DOTALL,
)
# Nearly every text needs this one search instead of five.
_SUSPICIOUS = re.compile(
    r"://|[?&](?:password|token|secret)=|Bearer\s|DETAIL: |Failing row|invalid input "
    r"|out of range|not recognized|" + CONTROL,
    re.IGNORECASE,
)


def mask(text: str) -> str:
    """Remove URL passwords, bearer tokens, quoted values and control characters from *text*."""
    if _SUSPICIOUS.search(text) is None:
        return text
    text = _URL_PASSWORD.sub(r"\1:***@", text)
    text = _QUERY_SECRET.sub(r"\1***", text)
    text = _BEARER.sub(r"\1***", text)
    text = _QUOTED.sub(r"\1***", text)
    return escape(text)


def redact(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Redact secrets in every line: a structlog processor."""
    return {key: _clean(key, value) for key, value in entry.items()}


@functools.lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _clean(key: str, value: Any) -> Any:
    if _is_secret(key):
        return "***"
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(str(inner)): _clean(str(inner), each) for inner, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        # Lists of ids are long, and a number is no secret.
        return [each if type(each) is int else _clean("", each) for each in value]
    if value is None or isinstance(value, bool | int | float | logging.LogRecord):
        return value
    return mask(repr(value))  # as the renderer would have shown it


def name_request(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Add the id of the request that the line is about: a structlog processor."""
    request_id = request_ids.current()
    if request_id is not None:
        entry.setdefault("request_id", request_id)
    return entry


def one_line(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
    """Keep each value on one line, so that none looks like another entry: for a terminal.

    A traceback is the one text that has lines.
    """
    return {
        key: value.replace("\n", "\\n") if isinstance(value, str) and key != "exception" else value
        for key, value in entry.items()
    }


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Log what would end the process: Python's own traceback has the raw text, secrets too."""
    if not issubclass(kind, Exception):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger().critical("process ends", exc_info=(kind, error, trace))


def configure(level: str = "info", *, pretty: bool | None = None) -> None:
    """Set up structlog and the standard library's loggers for this process, on standard error.

    *pretty* None means: pretty if standard error is a terminal.
    """
    if pretty is None:
        pretty = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        name_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
        *((one_line,) if pretty else ()),
    ]
    structlog.configure(
        processors=[*chain, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level.upper()),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught


def get_logger(**bound: Any) -> FilteringBoundLogger:
    """Make a logger with *bound* on each of its lines."""
    logger: FilteringBoundLogger = structlog.get_logger(**bound)
    return logger
