"""The JSON of `POST /schedule`: numbers are kept as written, and each fault is named truly."""

import gzip
import json

import pytest

from services.api.submission.json_body import (
    MAX_DEPTH,
    MOST_VALUES,
    BadRequest,
    Number,
    decode,
    read_json,
)

DIGITS = "1" * 5000


def refusal(raw: bytes) -> str:
    with pytest.raises(BadRequest) as raised:
        read_json(raw)
    return str(raised.value)


@pytest.mark.parametrize("text", ["-0", "-0.0", "1e400", "3.10", "1E+05", DIGITS, f"-{DIGITS}"])
def test_a_number_that_python_writes_otherwise_is_kept_as_it_is_written(text: str) -> None:
    assert read_json(f'{{"A": [ {text} ]}}'.encode()) == {"A": [Number(text)]}
    assert read_json(f'{{"A":{text}}}'.encode()) == {"A": Number(text)}


@pytest.mark.parametrize("number", [0, -1, 2**63, 2**64, -(2**64), 10**399])
def test_any_other_integer_is_one(number: int) -> None:
    assert read_json(b'{"A": %d}' % number) == {"A": number}


@pytest.mark.parametrize("raw", [b'{"A": "-0"}', b'{"A": " -0 "}', b'{"A": "2026-01-01"}'])
def test_a_text_is_a_text(raw: bytes) -> None:
    assert isinstance(read_json(raw)["A"], str)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"A": 1, "A": 1}',
        b'{"A":1,"A" : 2}',
        b'{"A"\n:1,"A"\n:2}',
        b'[{"B": 1}, {"x": {"A": "", "B": 1, "A": ""}}]',
        b'{"A": 1, "\\u0041": 2}',
        b'{"A": 1, "A": 2, "b\\\\": 3}',
        b'{"A": ":", "A": "a\\": "}',
    ],
)
def test_a_member_that_is_given_twice_is_named(raw: bytes) -> None:
    assert refusal(raw) == "'A' is given twice in one object: give it once"


def test_what_only_looks_like_a_member_is_none() -> None:
    raw = rb'{"A": ":x", "B": "\"A\": 1", "C": "A\":", "D\\": "a\\", "E": {"A": 1}}'
    found = {"A": ":x", "B": '"A": 1', "C": 'A":', "D\\": "a\\", "E": {"A": 1}}
    assert read_json(raw) == found


def test_many_members_are_read_in_no_time() -> None:
    raw = b"{" + b",".join(b'"%d":-0' % n for n in range(100_000)) + b',"7":1}'
    assert refusal(raw) == "'7' is given twice in one object: give it once"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xef\xbb\xbf{}", "it begins with a byte order mark, send it without one"),
        ("{}".encode("utf-16"), "it looks like UTF-16 or UTF-32, send it as UTF-8"),
        ("{}".encode("utf-16-le"), "it looks like UTF-16 or UTF-32, send it as UTF-8"),
        ("{}".encode("utf-16-be"), "it looks like UTF-16 or UTF-32, send it as UTF-8"),
        ("{}".encode("utf-32"), "it looks like UTF-16 or UTF-32, send it as UTF-8"),
        (gzip.compress(b"{}", mtime=0), "it is compressed with gzip, send it as it is"),
        (b'{"A": "\xff"}', "it is not UTF-8 (byte 7 is 0xff)"),
        (b'{"A": "\xed\xa0\x80"}', "it is not UTF-8 (byte 7 is 0xed)"),
        (b'{"A": NaN}', "it has no NaN, write a number or a string"),
        (b'{"A": -Infinity}', "it has no -Infinity, write a number or a string"),
        (b'"\\ud800"', r"a string has \ud800, half a surrogate pair"),
        (b'{"A": ["\\udfffx"]}', r"a string has \udfff, half a surrogate pair"),
        (b'{"\\udc00\\ud800": 1}', r"a string has \udc00, half a surrogate pair"),
        (b'{"A": 1,}', "a comma stands before } (line 1 column 9)"),
        (b'{"A": [1, 2,', "Expecting value (line 1 column "),
        (b'{"A": 1, ', "Expecting property name enclosed in double quotes (line 1 column "),
        (b'{"A": "', "Unterminated string starting (line 1 column 7)"),
        (b'{"A"', "Expecting ':' delimiter (line 1 column 5)"),
        (b"[1,\n]", "a comma stands before ] (line 2 column 1)"),
        (b'{"A": "a\nb"}', r"a string has a bare control character, write it as \n (line 1"),
        (b'{"A": "\x01"}', r"a string has a bare control character, write it as \u0001 (line 1"),
        (b"{'A': 1}", "Expecting property name enclosed in double quotes (line 1 column 2)"),
        (b"{} {}", "something follows its end (line 1 column 4)"),
        (b"docker_image=alpine", "Expecting value (line 1 column 1)"),
    ],
)
def test_what_is_no_json_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    assert refusal(raw).startswith(f"the body is not JSON: {reason}")
    with pytest.raises(BadRequest):
        decode(raw)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[-0,{"a":', '["\\\\",'])
def test_a_body_is_read_up_to_a_depth(opening: str) -> None:
    closing = "".join("]" if each == "[" else "}" for each in reversed(opening) if each in "[{")
    levels = len(closing)
    for depth in (MAX_DEPTH // levels, MAX_DEPTH // levels + 1, 500, 900, 990, 5000, 100_000):
        raw = (opening * depth + "1" + closing * depth).encode()
        if depth * levels <= MAX_DEPTH:
            assert read_json(raw)
        else:
            assert refusal(raw) == "the body is nested too deeply"


def test_a_body_of_more_values_than_fit_into_memory_is_refused_before_it_is_read() -> None:
    for read in (read_json, decode):
        for value in (b"[]", b"1.5", b'"a"', b'{"a":1}', b'"\\""'):
            with pytest.raises(BadRequest, match="the body has more than 250000 values"):
                read(b"[" + (value + b",") * MOST_VALUES + b"0]")
    text = "," * 2 * MOST_VALUES + '"\\,'
    assert read_json(json.dumps({"A": text}).encode()) == {"A": text}
