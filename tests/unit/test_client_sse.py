"""Server-sent events are read as the standard says, wherever the bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docker_job.sse import EventParser, ServerEvent

STREAM = (
    "\ufeff: a comment\n\n"
    "id: 1.1\ndata: one\ndata: two\n\n"
    "event: end\r\nid:1.2\r\ndata: naïve ☃ 𝄞\r\n\r\n"
    "id: 3\r\r"
    "data\rdata:  indented\r\r"
    "retry: 10\nunknown: field\nevent: lonely\n\n"
    "id: with\0nul\ndata: x\n\n"
).encode()

EVENTS = [
    ServerEvent("message", "one\ntwo", "1.1"),
    ServerEvent("end", "naïve ☃ 𝄞", "1.2"),
    ServerEvent("message", None, "3"),
    ServerEvent("message", "\n indented", "3"),
    ServerEvent("message", "x", "3"),
]


def parsed(*chunks: bytes) -> list[ServerEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_a_stream_is_read_as_the_standard_says() -> None:
    assert parsed(STREAM) == EVENTS


def test_a_stream_that_comes_byte_by_byte_has_the_same_events() -> None:
    assert parsed(*(bytes([each]) for each in STREAM)) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_the_bytes_may_be_cut_anywhere(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(places)]
    assert parsed(*chunks) == EVENTS


@pytest.mark.parametrize("cut", range(1, len("id: 1.1\ndata: one\ndata: two\n\n")))
def test_an_event_that_is_cut_off_is_no_event(cut: int) -> None:
    assert parsed("id: 1.1\ndata: one\ndata: two\n\n"[:-cut].encode()) == []


def test_only_line_feeds_and_returns_end_a_line() -> None:
    text = "a\x0bb\x0cc\x85d\u2028e"
    assert parsed(f"data: {text}\n\n".encode()) == [ServerEvent("message", text, "")]


def test_the_parser_goes_on_from_the_id_that_it_is_given() -> None:
    assert list(EventParser("7").feed(b"data: x\n\n")) == [ServerEvent("message", "x", "7")]
