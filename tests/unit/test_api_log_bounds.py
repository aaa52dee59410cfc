"""Of a log the beginning and the end are kept, within the bound, and the gap is counted."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.api.logs.bounds import Amount, Line, decide_kept, size_of
from tests.support.api.api_story import an_attempt

AT = "2026-01-01T00:00:00+00:00"
batches = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), max_size=12)


def lines_of(sizes: list[int], first: int) -> list[Line]:
    """Lines of these lengths, each of which contains its place in the log."""
    texts = (str(first + place).rjust(size, ".") for place, size in enumerate(sizes))
    return [Line(AT, "stdout", text) for text in texts]


def keep(batches: list[list[int]], limit: int) -> tuple[list[Line], list[Line], list[Line]]:
    """Return all printed lines, and their beginning and end that rows would have."""
    attempt = an_attempt("running")
    printed: list[Line] = []
    head: list[Line] = []
    tails: list[tuple[int, list[Line]]] = []
    for sizes in batches:
        lines = lines_of(sizes, len(printed))
        kept = decide_kept(attempt, lines, Amount(), limit)
        printed += lines
        head += kept.head
        tails = [each for each in tails if each[0] >= kept.keep_from]
        if kept.tail is not None:
            tails.append((kept.tail_start.bytes, kept.tail))
        attempt = replace(
            attempt,
            log_bytes=kept.total.bytes,
            log_lines=kept.total.lines,
            log_head_bytes=attempt.log_head_bytes + kept.head_size.bytes,
            log_head_lines=attempt.log_head_lines + kept.head_size.lines,
        )
    return printed, head, [line for _, lines in tails for line in lines]


@given(batches, st.integers(0, 200))
def test_the_beginning_and_the_end_are_kept_within_the_bound(
    batches: list[list[int]], limit: int
) -> None:
    printed, head, end = keep(batches, limit)
    assert sum(map(size_of, [*head, *end])) <= limit
    assert head == printed[: len(head)]
    assert end == printed[len(printed) - len(end) :]
    assert len(head) + len(end) <= len(printed)


@given(batches)
def test_a_log_within_the_bound_is_kept_whole(batches: list[list[int]]) -> None:
    printed, _, _ = keep(batches, 10_000)
    size = sum(map(size_of, printed))
    _, head, end = keep(batches, size)
    assert [*head, *end] == printed


def test_what_the_agent_left_out_is_part_of_the_one_gap() -> None:
    attempt = an_attempt("running", log_bytes=10, log_lines=2, log_head_bytes=10, log_head_lines=2)
    lines = lines_of([4, 4], 100)
    kept = decide_kept(attempt, lines, Amount(bytes=500, lines=98), 20)
    assert kept.head == []
    assert kept.tail == lines
    assert kept.tail_start == Amount(510, 100)
    assert kept.total == Amount(520, 102)
