"""How the agent makes lines of a container's bytes."""

from __future__ import annotations

import os
import time

import pytest

from agent.docker_job_agent.children import READ_BYTES
from agent.docker_job_agent.lines import LineReader
from agent.docker_job_agent.redraw import MAX_PIECE_BYTES, Piece

SPLIT, UNFINISHED = "split", "unfinished"
Shown = tuple[str, str | None]


def read(*events: bytes | float) -> list[Shown]:
    """Feed bytes, and let seconds pass; return the pieces of all and of the end."""
    reader, now = LineReader(), 0.0
    pieces: list[Piece] = []
    for event in events:
        if isinstance(event, bytes):
            pieces += reader.feed(event, now)
        else:
            now += event
            pieces += reader.take_due(now)
    return [(text, continues) for text, continues, _ in [*pieces, *reader.close()]]


def lines_of(*events: bytes) -> list[str]:
    """Return the lines of bytes that come without a pause, each of which is one piece."""
    shown = read(*events)
    assert {continues for _, continues in shown} <= {None}
    return [text for text, _ in shown]


def as_read(data: bytes) -> list[bytes]:
    return [data[start : start + READ_BYTES] for start in range(0, len(data), READ_BYTES)]


def test_lines_are_cut_wherever_the_bytes_come_apart() -> None:
    data = "one\r\ntwo é\n\nlast".encode()

    assert lines_of(*(bytes([byte]) for byte in data)) == ["one", "two é", "", "last"]


def test_nul_and_invalid_utf8_become_replacement_characters() -> None:
    assert lines_of(b"a\0b\xffc\n\xc3") == ["a\ufffdb\ufffdc", "\ufffd"]


def test_other_control_sequences_are_data() -> None:
    colour = "\x1b[01;31m\x1b[Kred\x1b[m\x1b[K\x07\b\tend"

    assert lines_of(colour.encode() + b"\n") == [colour]


# -- long lines


@pytest.mark.parametrize("character", ["x", "é", "☃", "😀", "\0"])
def test_an_overlong_line_comes_in_marked_pieces_of_16_kib_of_utf8(character: str) -> None:
    text = character * 40_000
    *parts, last = read(*as_read(text.encode()), b"y\n", b"next\n")[:-1]

    assert {continues for _, continues in parts} == {SPLIT}
    assert last[1] is None
    assert "".join(part for part, _ in [*parts, last]) == text.replace("\0", "\ufffd") + "y"
    sizes = [len(part.encode()) for part, _ in parts]
    assert MAX_PIECE_BYTES - 4 < min(sizes) <= max(sizes) <= MAX_PIECE_BYTES


def test_a_line_of_exactly_16_kib_is_whole() -> None:
    whole = "x" * MAX_PIECE_BYTES

    assert lines_of(whole.encode() + b"\nnext\n") == [whole, "next"]


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 20_000_000,
        b"10%\r" * 2_000_000,
        b"\r" * 3_000_000,
        b"\x1b[2K\x1b[1G12%" * 300_000,
        b"\x1b" * 3_000_000,
        b"\0" * 3_000_000,
        os.urandom(3_000_000),
    ],
    ids=["line", "bar", "returns", "redraws", "escapes", "nul", "random"],
)
def test_any_bytes_are_read_in_linear_time_and_bounded_pieces(data: bytes) -> None:
    started = time.process_time()
    shown = read(*as_read(data))

    assert time.process_time() - started < 8  # a tenth of a second to two; quadratic: minutes
    assert max(len(text.encode()) for text, _ in shown) <= MAX_PIECE_BYTES


# -- lines that are redrawn


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("10%\r20%\r100%\n", "100%"),
        ("10%\r20%\r100%\r\n", "100%"),
        ("\r10%\r20%\n", "20%"),
        ("text\r\r\n", "text"),
        ("text\r", "text"),
        ("old old old\rnew\n", "new"),
        ("10%\x1b[K\r20%\x1b[K\r\n", "20%"),  # git
        ("\r\x1b[K10%\r\x1b[K20%\n", "20%"),
        ("\x1b[2K\x1b[1G10%\x1b[2K\x1b[1G20%\n", "20%"),  # npm, yarn
        ("\x1b[1G10%\x1b[0K\x1b[G20%\x1b[0K\n", "20%\x1b[0K"),
        ("10%\x1b[2K\r20%\n", "20%"),
        ("10%\x1b[1K\r20%\n", "20%"),
        ("bar\r       \rDone\n", "Done"),  # tqdm with leave=False
        ("bar\r\x1b[KDone\n", "Done"),
        ("bar\r\x1b[K\n", ""),
        ("bar\r\x1b[1K\n", "bar"),
        ("100%\r\x1b[0m\n", "100%\x1b[0m"),  # a colour overwrites nothing
        ("\x1b[32m10%\x1b[0m\r\x1b[32m20%\x1b[0m\n", "\x1b[32m20%\x1b[0m"),
        ("\x1b[1000D10%\x1b[1000D20%\n", "20%"),
        ("10%\x1b[100D\x1b[K20%\x1b[100D\x1b[K\n", ""),
        ("indented\x1b[4Gx\n", "indented\x1b[4Gx"),
        ("abc\x1b[2Dx\n", "abc\x1b[2Dx"),
    ],
)
def test_a_redrawn_line_collapses_to_its_last_state(data: str, line: str) -> None:
    raw = data.encode()

    assert lines_of(raw) == [line]
    assert lines_of(*(raw[at : at + 1] for at in range(len(raw)))) == [line]


def test_a_reader_says_which_lines_were_redrawn() -> None:
    pieces = LineReader().feed(b"plain\r\n1%\r2%\nred\x1b[0m\n\rend\n", 0.0)

    assert [(piece.text, piece.redrawn) for piece in pieces] == [
        ("plain", False),
        ("2%", True),
        ("red\x1b[0m", False),
        ("end", False),
    ]


# -- lines that are not finished


def test_a_prompt_shows_after_a_second_and_its_rest_continues_it() -> None:
    assert read(b"one\nPassword: ", 0.9) == [("one", None), ("Password: ", None)]
    assert read(b"one\nPassword: ", 1.0, b"ok\nnext\n") == [
        ("one", None),
        ("Password: ", UNFINISHED),
        ("ok", None),
        ("next", None),
    ]


def test_a_line_that_ends_right_after_it_was_shown_is_ended_by_an_empty_piece() -> None:
    assert read(b"Ready.", 1.0, b"\n") == [("Ready.", UNFINISHED), ("", None)]
    assert read(b"Ready.", 1.0) == [("Ready.", UNFINISHED), ("", None)]


def test_a_live_bar_shows_its_state_which_replaces_the_one_before() -> None:
    assert read(b"10%\r", 1.0, b"20%\r30%\r", 1.0, b"40%\r100%\n") == [
        ("10%", UNFINISHED),
        ("\r30%", UNFINISHED),
        ("\r100%", None),
    ]


def test_a_bar_that_shows_the_same_again_is_no_news() -> None:
    events = [event for _ in range(20) for event in (b"\r50%", 5.0)]

    assert read(*events, b"\n") == [("50%", UNFINISHED), ("", None)]


def test_a_bar_that_is_erased_shows_nothing_more() -> None:
    assert read(b"10%", 1.0, b"\r\x1b[K", 1.0, b"Done\n") == [
        ("10%", UNFINISHED),
        ("\r", UNFINISHED),
        ("\rDone", None),
    ]


def test_half_a_character_and_half_a_control_sequence_wait_for_their_rest() -> None:
    assert read("é".encode()[:1], 1.0, "é".encode()[1:] + b"\x1b[3", 1.0, b"1mred", 9.0) == [
        ("é", UNFINISHED),
        ("\x1b[31mred", UNFINISHED),
        ("", None),
    ]


@pytest.mark.parametrize("event", [b".", b"\r%d%%"])
def test_what_changes_each_second_for_a_day_is_shown_ever_more_seldom(event: bytes) -> None:
    reader = LineReader()
    times = []
    for second in range(86_400):
        reader.feed(event.replace(b"%d", b"%d" % second), float(second))
        times += [second] * len(reader.take_due(float(second)))

    assert times[:5] == [1, 3, 5, 9, 17]
    assert len(times) < 86_400 / 9
    assert sum(len(piece.text) for piece in reader.close()) < 100


def test_output_without_a_pause_and_without_a_newline_is_shown_too() -> None:
    reader = LineReader()
    shown = []
    for eighth in range(20):
        reader.feed(b".", eighth / 8)
        shown += reader.take_due(eighth / 8)

    assert [piece.text for piece in shown] == ["." * 9] * 2


def test_nothing_is_due_while_nothing_is_unfinished() -> None:
    reader = LineReader()
    assert reader.seconds_until_due(0.0) is None
    reader.feed(b"line\n", 0.0)
    assert reader.seconds_until_due(0.0) is None
    reader.feed(b"x", 5.0)
    assert reader.seconds_until_due(5.25) == 0.75
    assert reader.take_due(5.25) == []
    assert [piece.text for piece in reader.take_due(6.0)] == ["x"]
    assert reader.seconds_until_due(7.0) is None
    reader.feed(b"\nnext", 7.0)
    assert reader.seconds_until_due(7.0) == 1.0
