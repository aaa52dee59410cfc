"""A log as text: lines are joined from their pieces, and attempts and gaps are marked once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.api.logs.bounds import Amount, Line, decide_kept
from services.api.logs.plain import MAX_HELD, PlainLog
from services.api.logs.reader import LogPage, LogReader, Start
from services.api.logs.store import Piece
from services.api.logs.tail import Tail
from tests.support.api.api_story import NOW, an_attempt

AT = "2026-01-01T00:00:00+00:00"
MARKS = {"": None, "~": "unfinished", "+": "split"}


def line(text: str, stream: str = "stdout") -> Line:
    """Make a line of *text*: it ends with ~ if it is unfinished, with + if it is split."""
    mark = text[-1:] if text[-1:] in ("~", "+") else ""
    continues: Any = MARKS[mark]
    return Line(AT, stream, text.removesuffix(mark), continues)


def out(*texts: str) -> list[Line]:
    return [line(text) for text in texts]


def err(*texts: str) -> list[Line]:
    return [line(text, "stderr") for text in texts]


def shown(*batches: list[Line], **how: Any) -> str:
    """Show these batches of one attempt."""
    plain = PlainLog(**how)
    pages = [LogPage(1, seq, lines) for seq, lines in enumerate(batches, 1)]
    return "".join(plain.feed([page]) for page in pages) + plain.close()


def test_pieces_of_an_unfinished_line_are_joined_over_batches() -> None:
    assert shown(out("a", ".~"), out(".~"), out(".", "b")) == "a\n...\nb\n"


def test_a_prompt_without_its_end_is_a_line() -> None:
    assert shown(out("Password: ~")) == "Password: \n"


def test_a_piece_that_begins_with_a_carriage_return_replaces_what_is_shown() -> None:
    assert shown(out("10%~", "\r20%~"), out("\r~", "\r30%", "done")) == "30%\ndone\n"
    assert shown(out("Loading ~", "10%~", "\r20%")) == "20%\n"


def test_a_carriage_return_within_a_text_or_after_a_whole_line_is_data() -> None:
    assert shown(out("a\rb", "c~", "d\re")) == "a\rb\ncd\re\n"
    assert shown(out("a", "\rb")) == "a\n\rb\n"


def test_what_replaces_a_line_of_which_a_piece_was_split_off_begins_a_new_one() -> None:
    assert shown(out("a+", "\rb~", "\rc")) == "a [line continues]\nc\n"


def test_a_line_of_another_stream_ends_a_line() -> None:
    lines = [*out("a~"), *err("warning"), *out("b~"), *err("x~"), *out("\rc")]
    assert shown(lines) == "a\nwarning\nb\nx\nc\n"


def test_a_note_of_the_agent_ends_a_line() -> None:
    assert shown([*out("a~"), line("3 lines dropped", "docker-job"), *out("b")]) == (
        "a\n3 lines dropped\nb\n"
    )


def test_each_piece_of_a_split_line_but_the_last_is_marked() -> None:
    assert shown(out("aaa+", "bbb+"), out("c", "d")) == (
        "aaa [line continues]\nbbb [line continues]\nc\nd\n"
    )
    assert shown(out("a~", "bb+", "c")) == "abb [line continues]\nc\n"


def test_an_attempt_ends_the_lines_of_the_one_before() -> None:
    plain = PlainLog()
    text = plain.feed([LogPage(1, 1, [*out("a~")]), LogPage(2, 1, out("\rb", "c"))])
    assert text + plain.close() == "a\n--- attempt 2 ---\n\rb\nc\n"


def test_an_attempt_without_lines_has_no_mark() -> None:
    plain = PlainLog()
    pages = [LogPage(1, 1, out("a")), LogPage(2, 1, []), LogPage(3, 1, out("b"))]
    assert plain.feed(pages) == "a\n--- attempt 3 ---\nb\n"


def test_every_line_may_have_its_time_and_its_stream() -> None:
    lines = [*out("a~", "b"), *err("c+", "d")]
    lines[1] = lines[1]._replace(at="2026-01-01T01:00:00+01:00")
    plain = PlainLog(timestamps=True, streams=True)
    assert plain.feed([LogPage(2, 1, lines)]) == (
        "2026-01-01T00:00:00.000000Z docker-job --- attempt 2 ---\n"
        "2026-01-01T00:00:00.000000Z stdout ab\n"
        "2026-01-01T00:00:00.000000Z stderr c [line continues]\n"
        "2026-01-01T00:00:00.000000Z stderr d\n"
    )
    assert shown(out("a"), streams=True) == "stdout a\n"


@pytest.mark.parametrize(
    ("at", "shown_at"),
    [
        ("2026-01-01T12:00:00.500000+00:00", "2026-01-01T12:00:00.500000Z"),
        ("2026-01-01T12:00:00.5+02:00", "2026-01-01T10:00:00.500000Z"),
        ("2026-01-01T12:00:00", "2026-01-01T12:00:00.000000Z"),
        ("2026-01-01", "2026-01-01T00:00:00.000000Z"),
        ("0001-01-01T00:00:00+23:00", "0001-01-01T00:00:00+23:00"),
        ("0999-01-01", "0999-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_is_rfc_3339_in_utc_as_far_as_there_is_one(at: str, shown_at: str) -> None:
    assert shown([Line(at, "stdout", "a")], timestamps=True) == f"{shown_at} a\n"


def test_a_line_that_never_ends_is_given_out_as_it_grows() -> None:
    plain = PlainLog()
    dots = "." * 1000
    most = 0
    text = ""
    for _ in range(1000):
        text += plain.feed([LogPage(1, 1, [Line(AT, "stdout", dots, "unfinished")])])
        most = max(most, sum(map(len, plain._held)))
    assert most <= MAX_HELD + 1000
    assert text + plain.close() == "." * 1_000_000 + "\n"


def test_what_replaces_a_line_that_is_given_out_begins_a_new_one() -> None:
    long = "x" * (MAX_HELD + 1)
    assert shown([Line(AT, "stdout", long, "unfinished"), *out("\ry~", "\rz")]) == f"{long}\nz\n"


# -- the last lines


def pieces_of(attempts: list[list[list[Line]]], limit: int) -> list[Piece]:
    """Return the rows that these batches of attempts would have, in order."""
    found: list[Piece] = []
    for number, batches in enumerate(attempts, 1):
        attempt = an_attempt("running", number=number)
        heads: list[Piece] = []
        tails: list[Piece] = []
        for seq, lines in enumerate(batches, 1):
            kept = decide_kept(attempt, lines, Amount(), limit)
            if kept.head:
                heads.append(Piece(attempt=number, seq=seq, lines=kept.head))
            tails = [each for each in tails if each.start and each.start.bytes >= kept.keep_from]
            if kept.tail is not None:
                tails.append(
                    Piece(
                        attempt=number,
                        seq=seq,
                        lines=kept.tail,
                        start=kept.tail_start,
                        received_at=NOW,
                    )
                )
            attempt = replace(
                attempt,
                log_bytes=kept.total.bytes,
                log_lines=kept.total.lines,
                log_head_bytes=attempt.log_head_bytes + kept.head_size.bytes,
                log_head_lines=attempt.log_head_lines + kept.head_size.lines,
            )
        head = Amount(attempt.log_head_bytes, attempt.log_head_lines)
        both = [*heads, *(replace(each, head=head) for each in tails)]
        found += sorted(both, key=lambda each: (each.seq, each.start is not None))
    return found


def read(pieces: list[Piece], start: Start, stream: str | None, steps: int) -> str:
    """Show the log from *start* on, read so many pieces at once."""
    reader = LogReader(1, start, stream=stream)
    plain = PlainLog(within=start.within)
    pieces = [each for each in pieces if each.place > start.after]
    text = ""
    for first in range(0, len(pieces), steps):
        text += plain.feed(reader.take(pieces[first : first + steps]))
    return text + plain.close()


def of_the_container(text: str) -> list[str]:
    return [each for each in text.splitlines() if not each.startswith("---")]


a_line_ = st.builds(
    Line,
    st.just(AT),
    st.sampled_from(["stdout", "stderr", "docker-job"]),
    st.text("abc", max_size=6),
    st.sampled_from([None, None, "unfinished", "split"]),
)
logs = st.lists(st.lists(st.lists(a_line_, max_size=5), max_size=6), min_size=1, max_size=3)


@given(logs, st.integers(0, 80), st.integers(0, 20), st.sampled_from([None, "stdout"]))
def test_the_last_lines_are_those_of_the_whole_log(
    attempts: list[list[list[Line]]], limit: int, count: int, stream: str | None
) -> None:
    pieces = pieces_of(attempts, limit)
    tail = Tail(count, stream)
    starts = [found for each in reversed(pieces) if (found := tail.feed(each)) is not None]
    start = starts[0] if starts else Start()
    whole = of_the_container(read(pieces, Start(), stream, 100))
    last = whole[-count:] if count else []
    assert of_the_container(read(pieces, start, stream, 100)) == last
    assert of_the_container(read(pieces, start, stream, 1)) == last


@given(logs, st.integers(0, 80))
def test_a_gap_is_stated_once_in_each_attempt_however_the_log_is_read(
    attempts: list[list[list[Line]]], limit: int
) -> None:
    pieces = pieces_of(attempts, limit)
    text = read(pieces, Start(), None, 100)
    assert text.count("left out here") <= len(attempts)
    assert read(pieces, Start(), None, 1).count("left out here") == text.count("left out here")


def test_last_lines_begin_in_the_middle_of_an_attempt_without_its_mark() -> None:
    pieces = pieces_of([[out("a")], [out("b", "c")]], 1000)
    assert {count: last_of(pieces, count) for count in (1, 2, 3, 4)} == {
        1: "c\n",
        2: "--- attempt 2 ---\nb\nc\n",
        3: "a\n--- attempt 2 ---\nb\nc\n",
        4: "a\n--- attempt 2 ---\nb\nc\n",
    }


def last_of(pieces: list[Piece], count: int) -> str:
    tail = Tail(count)
    starts = [found for each in reversed(pieces) if (found := tail.feed(each)) is not None]
    return read(pieces, starts[0] if starts else Start(), None, 100)
