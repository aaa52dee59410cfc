"""The JSON of a request's body: from bytes to a value, or an error that says what is wrong.

msgspec reads it, fast. It keeps the last of two members with one name and takes -0 for 0, it reads
no integer of thousands of digits, and of what is no JSON it says little. So what it refuses, and
what may have one of these, is read once more by Python's own parser, which finds all of that.
"""

import json
import re
from typing import Any, NoReturn

import msgspec
from msgspec import Struct


class BadRequest(Exception):
    """The request cannot be taken. The message names the field and says what is right."""


class Number(Struct, frozen=True):
    """A JSON number as it is written, where Python's would be written otherwise: 3.10, 1e5, -0."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def is_whole(self) -> bool:
        """True if it is a whole number, though written with a point or an exponent."""
        return not self.text.lstrip("-").isdigit() and float(self.text).is_integer()


_decoder = msgspec.json.Decoder(float_hook=Number)
_NAME_END = re.compile(rb'(?<!\\)"\s*:')
_BACKSLASH_QUOTE = rb'\\"'
_COMMA_BEFORE_END = re.compile(r",\s*([}\]])")
_MINUS_ZERO = re.compile(rb"[\s:,\[]-0\s*[,}\]]")
_EXACT_DIGITS = 400
"""Integers of so many digits are read as such by both parsers."""

MAX_DEPTH = 100
"""Of a user's body. No field needs more than three levels."""

MOST_VALUES = 250_000
"""Of a body. Read, each takes more memory than its JSON: twenty times as much if it is an empty
array. A thousand jobs of a full body have far fewer."""

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

_GZIP = b"\x1f\x8b"
_NOT_JSON = "the body is not JSON"
_TOO_DEEP = "the body is nested too deeply"


def read_json(raw: bytes) -> Any:
    """Decode a user's body, whatever its Content-Type says. Raises `BadRequest`.

    No member is lost, and each number can be had as it was written.
    """
    _check_count(raw)
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _read_with_care(raw)
    # A text may be taken for the end of a name, but no name is overlooked.
    count = _count_names(value, MAX_DEPTH)
    unclear = _BACKSLASH_QUOTE in raw or len(_NAME_END.findall(raw)) != count
    return _read_with_care(raw) if unclear or _MINUS_ZERO.search(raw) else value


def decode(raw: bytes) -> Any:
    """Decode an agent's body, faster. Raises `BadRequest`."""
    _check_count(raw)
    try:
        return _decoder.decode(raw)
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        _read_with_care(raw)
        raise BadRequest("a number has too many digits") from None


def _check_count(raw: bytes) -> None:
    """Raise `BadRequest` for more than `MOST_VALUES` values, before they are read."""
    if raw.count(b",") >= MOST_VALUES and _STRING.sub(b"", raw).count(b",") >= MOST_VALUES:
        raise BadRequest(f"the body has more than {MOST_VALUES} values")


def _count_names(value: Any, depth: int) -> int:
    if isinstance(value, dict):
        found, inner = len(value), iter(value.values())
    elif isinstance(value, list):
        found, inner = 0, iter(value)
    else:
        return 0
    if depth == 0:
        raise BadRequest(_TOO_DEEP)
    return found + sum(_count_names(each, depth - 1) for each in inner)


def _read_with_care(raw: bytes) -> Any:
    text = _decoded(raw)
    try:
        value = json.loads(
            text,
            parse_float=Number,
            parse_int=_integer,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
        _refuse_surrogates(value)
    except json.JSONDecodeError as error:
        raise BadRequest(f"{_NOT_JSON}: {_explained(error)}") from None
    except RecursionError:
        raise BadRequest(_TOO_DEEP) from None
    return value


def _refuse_surrogates(value: Any) -> None:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise BadRequest(
            f"{_NOT_JSON}: a string has {half}, half a surrogate pair: write both halves, or the "
            "character itself"
        ) from None


def _decoded(raw: bytes) -> str:
    if not raw.strip():
        raise BadRequest(f"{_NOT_JSON}: it is empty")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise BadRequest(f"{_NOT_JSON}: it begins with a byte order mark, send it without one")
    if raw.startswith(_GZIP):
        raise BadRequest(f"{_NOT_JSON}: it is compressed with gzip, send it as it is")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise BadRequest(f"{_NOT_JSON}: it looks like UTF-16 or UTF-32, send it as UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        wrong = raw[error.start]
        raise BadRequest(
            f"{_NOT_JSON}: it is not UTF-8 (byte {error.start} is 0x{wrong:02x})"
        ) from None


def _integer(text: str) -> int | Number:
    return Number(text) if text == "-0" or len(text) > _EXACT_DIGITS else int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"{_NOT_JSON}: it has no {name}, write a number or a string")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise BadRequest(f"{_short(name)} is given twice in one object: give it once")
        found[name] = value
    return found


def _explained(error: json.JSONDecodeError) -> str:
    doc, at = error.doc, error.pos
    last = len(doc[:at].rstrip()) - 1
    # From Python 3.13 on the error is at the comma, before it is at the bracket.
    comma = _COMMA_BEFORE_END.match(doc, at) or _COMMA_BEFORE_END.match(doc, max(0, last))
    if comma:
        return f"a comma stands before {comma[1]} ({_place(doc, comma.start(1))})"
    if error.msg == "Invalid control character at":
        character = doc[at]
        written = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(character, f"\\u{ord(character):04x}")
        return f"a string has a bare control character, write it as {written} ({_place(doc, at)})"
    if error.msg == "Extra data":
        return f"something follows its end ({_place(doc, at)})"
    return f"{error.msg.removesuffix(' at')} ({_place(doc, at)})"


def _place(text: str, index: int) -> str:
    line, column = text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
    return f"line {line} column {column}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
