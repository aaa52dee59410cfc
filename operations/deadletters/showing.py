"""A letter as text for a terminal: without secrets and control characters."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from shared.log import redact
from shared.messaging.dead_letters import DeadLetter
from shared.messaging.letter_text import plain

RAW_BYTES = 4096
"""Bytes shown of content that is not JSON."""

ERROR_CHARACTERS = 80
"""Characters of the error in a line of the list."""

_COLUMNS = "{:<10} {:<8} {:>5}  {:<20} {:<20}  {:<36}  {}"


def table(letters: Sequence[DeadLetter]) -> list[str]:
    """Format one line a letter, below a line of titles."""
    titles = ("SERVICE", "STATE", "TRIES", "EVENT", "SINCE", "ID", "ERROR")
    return [_COLUMNS.format(*titles), *(_line(each) for each in letters)]


def _line(letter: DeadLetter) -> str:
    error = plain(letter.error)
    return _COLUMNS.format(
        letter.service,
        "broker" if letter.place == "broker" else letter.state,
        "-" if letter.tries is None else letter.tries,
        plain(letter.name)[:40],
        _time(letter.since),
        letter.event_id,
        error if len(error) <= ERROR_CHARACTERS else f"{error[: ERROR_CHARACTERS - 1]}…",
    )


def details(letter: DeadLetter) -> list[str]:
    """Format all of one letter."""
    fields = {
        "service": letter.service,
        "event": plain(letter.name),
        "id": letter.event_id,
        "state": _state(letter),
        "since": _time(letter.since),
        "error": plain(letter.error),
    }
    return [*(f"{name + ':':<9}{text}" for name, text in fields.items()), *_content(letter.raw)]


def _state(letter: DeadLetter) -> str:
    if letter.place == "broker":
        return f"dead, in the broker's queue {letter.service}.dead"
    tries = f"its handler failed {letter.tries} times"
    if letter.state == "waiting":
        return f"waiting: {tries}, next try {_time(letter.due_at)}"
    return f"dead: {tries}" if letter.tries and letter.tries > 1 else "dead"


def _content(raw: bytes) -> list[str]:
    try:
        content = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        shown = raw[:RAW_BYTES].decode("utf-8", errors="backslashreplace")
        more = f", the first {RAW_BYTES} of them" if len(raw) > RAW_BYTES else ""
        lines = shown.splitlines() or [""]
        return [
            f"content: {len(raw)} bytes, not JSON{more}",
            *(f"  {plain(each)}" for each in lines),
        ]
    clean: Any = redact(None, "", {"content": content})["content"]
    text = msgspec.json.format(msgspec.json.encode(clean), indent=2).decode()
    return ["content:", *(f"  {plain(line)}" for line in text.splitlines())]


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else "-"
