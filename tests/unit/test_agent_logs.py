"""The lines that the agent has not sent yet: their bounds, the spool, and the error message."""

from __future__ import annotations

import itertools
import os
import re
import sys
from pathlib import Path

import pytest

from agent.docker_job_agent.children import READ_BYTES
from agent.docker_job_agent.decisions import Outcome, error_message
from agent.docker_job_agent.errors import MAX_ERROR_CHARACTERS
from agent.docker_job_agent.lines import Line, LineReader, size_of
from agent.docker_job_agent.logs import MAX_UNSENT_BYTES, MAX_UNSENT_LINES, LogBuffer
from agent.docker_job_agent.spool import SLOT_BYTES, Spool
from agent.docker_job_agent.tails import printable
from shared.terminal import CONTROL


def line(text: str, stream: str = "stdout", continues: str | None = None) -> Line:
    return Line("2030-01-02T03:04:05+00:00", stream, text, continues)


def texts(lines: list[Line]) -> list[str]:
    return [each.text for each in lines]


def drain(logs: LogBuffer) -> list[str]:
    """Take all batches; each left-out amount stands as a line."""
    taken: list[str] = []
    while batch := logs.take_batch():
        if left_out := logs.take_left_out():
            taken.append(f"left out: {left_out['lines']} lines, {left_out['bytes']} bytes")
        taken += texts(batch)
    return taken


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


# -- what is kept


def test_behind_the_first_half_of_the_limit_what_newer_lines_push_out_is_left_out() -> None:
    logs = LogBuffer(limit_bytes=10, tail_lines=2)
    for text in ("1234", "123", "12", "x", "y"):
        logs.add(line(text))
    assert texts(logs.take_batch()) == ["1234", "123", "12", "x", "y"]
    assert logs.take_left_out() is None

    for number in range(10):
        logs.add(line(f"no {number}"))
    assert texts(logs.take_batch()) == ["no 8", "no 9"]
    assert logs.take_left_out() == {"lines": 8, "bytes": 40}
    assert logs.take_left_out() is None
    assert logs.tail() == ["no 8", "no 9"]


def test_of_what_could_not_be_sent_at_all_the_first_half_and_the_end_are_kept() -> None:
    logs = LogBuffer(limit_bytes=100, tail_lines=2)
    for number in range(10_000, 20_000):
        logs.add(line(str(number)))

    head = [str(number) for number in range(10_000, 10_009)]  # 54 bytes
    end = [str(number) for number in range(19_983, 20_000)]  # 102 bytes
    assert drain(logs) == [*head, "left out: 9974 lines, 59844 bytes", *end]


def test_of_a_log_that_fits_its_limit_nothing_is_left_out() -> None:
    logs = LogBuffer(limit_bytes=30, tail_lines=2)
    sent = []
    for number in range(10, 20):
        logs.add(line(str(number)))
        if number % 3 == 0:
            sent += texts(logs.take_batch())

    assert sent + texts(logs.take_batch()) == [str(number) for number in range(10, 20)]
    assert logs.take_left_out() is None


def test_a_limit_of_nothing_leaves_out_all_but_the_newest_line() -> None:
    logs = LogBuffer(limit_bytes=0, tail_lines=2)
    for text in ("a", "b", "c"):
        logs.add(line(text))

    assert texts(logs.take_batch()) == ["c"]
    assert logs.take_left_out() == {"lines": 2, "bytes": 4}


def test_a_buffer_is_full_long_before_lines_are_dropped() -> None:
    logs = LogBuffer(limit_bytes=10**9, tail_lines=2)
    while not logs.is_full:
        logs.add(line(""))
    for _ in range(2 * READ_BYTES):  # what both pipes may bring at once
        logs.add(line(""))

    assert "dropped" not in texts(logs.take_batch())[0]


def test_the_note_about_dropped_lines_gives_the_reason() -> None:
    logs = LogBuffer(limit_bytes=10**9, tail_lines=2)
    logs.record_lost(3, "the API refused them with 413")
    logs.add(line("next"))

    [note, kept] = logs.take_batch()
    assert (note.stream, note.text) == (
        "docker-job",
        "[docker-job: 3 lines dropped, the API refused them with 413]",
    )
    assert kept.text == "next"


def test_lines_that_are_dropped_last_leave_their_note_too() -> None:
    logs = LogBuffer(limit_bytes=10**9, tail_lines=2)
    logs.add(line("last"))
    logs.take_batch()
    logs.record_lost(1, "the API refused them with 413")

    assert len(logs) == 1
    [note] = logs.take_batch()
    assert note.at == line("last").at
    assert len(logs) == 0
    logs.record_lost(0, "the API refused them with 413")  # the note
    assert logs.take_batch() == []


def test_a_batch_is_bounded() -> None:
    logs = LogBuffer(limit_bytes=10**9, tail_lines=2)
    for _ in range(2000):
        logs.add(line("x" * 1000))

    assert 100 < len(logs.take_batch()) < 200


def test_a_line_that_goes_on_says_so_and_another_does_not() -> None:
    assert line("x").as_json() == {"at": line("x").at, "stream": "stdout", "text": "x"}
    assert line("x", continues="split").as_json()["continues"] == "split"


# -- the spool


def memory_of(logs: LogBuffer) -> tuple[int, int]:
    queues = (logs._head, logs._end)
    return sum(q.lines_in_memory for q in queues), sum(q.bytes_in_memory for q in queues)


def test_all_within_the_limit_comes_from_memory_and_disk_in_order(tmp_path: Path) -> None:
    logs = LogBuffer(10**7, 2, Spool(str(tmp_path)))
    most = (0, 0)
    for text in numbers(300_000):
        logs.add(line(text))
        most = max(most, memory_of(logs))

    assert most[0] < MAX_UNSENT_LINES
    assert drain(logs) == numbers(300_000)
    assert memory_of(logs) == (0, 0)


def test_lines_may_come_and_go_at_once(tmp_path: Path) -> None:
    logs = LogBuffer(10**8, 2, Spool(str(tmp_path)))
    coming = itertools.chain(numbers(200_000))
    sent: list[str] = []
    for burst in (60_000, 1, 70_000, 3_000, 60_000, 6_999):
        for text in itertools.islice(coming, burst):
            logs.add(line(text))
        for _ in range(40):
            sent += texts(logs.take_batch())

    assert sent + drain(logs) == numbers(200_000)
    assert len(logs) == 0


def test_a_line_comes_back_from_the_disk_as_it_was(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    lines = [
        line("a\tb\\n\x1b[0m\u2028😀\ufffd", "stderr"),
        line("", continues="unfinished"),
        line("\ud800\x85"),
    ]
    place = spool.write(lines)

    assert place is not None
    assert spool.read(place) == lines


def test_the_file_has_no_name_and_is_no_longer_than_what_was_in_it_at_once(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    block = [line(os.urandom(60).hex()) for _ in range(1000)]
    places = [spool.write(block) for _ in range(3)]
    assert spool._file is not None
    status = os.fstat(spool._file)
    assert (status.st_mode & 0o777, list(tmp_path.iterdir())) == (0o600, [])

    for _ in range(20):
        place = places.pop(0)
        assert place is not None
        assert spool.read(place) == block
        places.append(spool.write(block))
    assert os.fstat(spool._file).st_size <= 4 * SLOT_BYTES
    for place in places:
        assert place is not None
        spool.read(place)
    assert os.fstat(spool._file).st_size == 0


def test_the_largest_block_fits_into_its_slot(tmp_path: Path) -> None:
    reader = LineReader()
    pieces = reader.feed(os.urandom(300_000).translate(None, b"\r\n"), 0.0)
    lines: list[Line] = []
    while sum(map(size_of, lines)) < 128 * 1024:
        lines.append(line(pieces[len(lines)].text, "stdout", "split"))

    assert Spool(str(tmp_path)).write(lines) is not None


def a_full_disk(directory: Path) -> Spool:
    return Spool(str(directory), reserve_bytes=2**62)


def no_disk(directory: Path) -> Spool:
    return Spool(str(directory / "missing"))


@pytest.mark.parametrize("disk", [a_full_disk, no_disk, lambda _: None])
def test_without_room_on_the_disk_memory_is_bounded_and_the_oldest_lines_are_dropped(
    tmp_path: Path, disk: object
) -> None:
    spool = disk(tmp_path) if callable(disk) else None
    logs = LogBuffer(10**9, 2, spool)
    for text in numbers(MAX_UNSENT_LINES + 5):
        logs.add(line(text))

    assert len(logs) == MAX_UNSENT_LINES
    assert not logs.can_spool
    why = ", and its disk took no more" if spool else ""
    note, first, *_ = drain(logs)
    assert note == f"[docker-job: 5 lines dropped, the API did not answer{why}]"
    assert first == "6"


def test_without_room_on_the_disk_long_lines_are_bounded_too(tmp_path: Path) -> None:
    logs = LogBuffer(10**9, 2, a_full_disk(tmp_path))
    for _ in range(1000):
        logs.add(line("x" * 16_000))

    assert memory_of(logs)[1] <= MAX_UNSENT_BYTES


def test_what_the_disk_has_lost_is_counted(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    logs = LogBuffer(10**7, 2, spool)
    for text in numbers(40_000):
        logs.add(line(text))
    assert spool._file is not None
    os.ftruncate(spool._file, 0)
    logs.add(line("40001"))
    taken = drain(logs)

    [note] = [text for text in taken if text.startswith("[docker-job")]
    dropped = int(note.split()[1])
    assert note == f"[docker-job: {dropped} lines dropped, the instance's disk has lost them]"
    assert (len(taken) - 1 + dropped, taken[-1], len(logs)) == (40_001, "40001", 0)


# -- the error message


def message(*printed: tuple[str, bytes]) -> str:
    """Return the error message of a container that has printed this, and exited with 1."""
    logs = LogBuffer(10**6, tail_lines=3)
    readers = {"stdout": LineReader(), "stderr": LineReader()}
    for stream, data in printed:
        for piece in readers[stream].feed(data, 0.0):
            logs.add(Line("", stream, piece.text, piece.continues), redrawn=piece.redrawn)
    for stream, reader in readers.items():
        for piece in reader.close():
            logs.add(Line("", stream, piece.text, piece.continues), redrawn=piece.redrawn)
    return error_message(logs.tail(), Outcome(1))


def out(data: bytes) -> tuple[str, bytes]:
    return "stdout", data


def err(data: bytes) -> tuple[str, bytes]:
    return "stderr", data


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ([out(b"1\n2\n3\n4\n")], "2\n3\n4"),
        ([out(b"working\n"), err(b"disk is full\n")], "disk is full"),
        # Programs that buffer stdout print it at their exit, after the error.
        ([err(b"disk is full\n"), out(b"working\n")], "disk is full"),
        ([err(b"1\n2\n3\n4\n")], "2\n3\n4"),
        ([err(b"real\n\n  \n\t\n\x1b[0m\n\n")], "real"),
        ([err(b"\x1b[1;31merror:\x1b[0m no\x07\x1b]0;title\x07 such file\x1b[K\n")],
         "error: no such file"),
        ([err(b"%d%%\r" * 5000), out(b"ERROR: boom\n")], "%d%%\nERROR: boom"),
        ([err(b"1%\r2%\r3%\n"), out(b"ERROR: boom\n")], "3%\nERROR: boom"),
        ([err(b"1%\r2%\n"), err(b"Error: boom\n"), out(b"working\n")], "2%\nError: boom"),
        ([err(b"WARNING: running as root\n"), out(b"1 test failed\n")],
         "WARNING: running as root\n1 test failed"),
        ([err(b"x.py:1: UserWarning: old\n  call()\n"), out(b"boom\n")],
         "x.py:1: UserWarning: old\n  call()\nboom"),
        ([err(b"npm WARN deprecated x\n"), err(b"Traceback\n  at line 1\n"), out(b"hello\n")],
         "npm WARN deprecated x\nTraceback\n  at line 1"),
        ([err(b"INFO: start\n"), out(b"boom\n")], "INFO: start\nboom"),
        ([out(b"\r\n \n")], "exited with code 1"),
        ([out(b"no end")], "no end"),
        # Backspaces: composer, mke2fs, conda, and an overstruck page of a manual.
        ([err(b"x: get (0%)\b\b\b\b(5%)\b\b\b\b(100%)\nE: full\n")], "x: get (100%)\nE: full"),
        ([err(b"\b\b\b\b 50%" * 5000 + b"\b\b\n")], "50%"),
        ([err(b"\x1b[31m1%\x1b[0m\b\b\x1b[32m2%\x1b[0m\b\b\n"), out(b"boom\n")], "2%\nboom"),
        ([err(b"solving: " + b"/\b-\b" * 9000 + b"failed\n")], "solving: failed"),
        ([err(b"N\bNO\bO\n")], "NO"),
        # Bars of several lines: nested ones of tqdm, and those of apt and docker.
        ([err(b"\r0/9\n" + b"\r%d%%\x1b[A\r1/9\n" * 9), out(b"boom\n")], "1/9\n" * 3 + "boom"),
        ([err(b"\r1%\x1b[A\n" * 9), out(b"boom\n")], "1%\n" * 3 + "boom"),
        ([err(b"\x1b7\x1b[9;0f50%\x1b8\n\x1b[s60%\x1b[u\n"), out(b"boom\n")], "50%\n60%\nboom"),
        # Much of stdout leaves room for a warning, which may be the reason.
        ([err(b"no debug info: give up\n"), out((b"x" * 1999 + b"\n") * 3)],
         "no debug info: give up\n" + "x" * 1999 + "\n" + "x" * 1999),
    ],
)  # fmt: skip
def test_the_message_is_the_last_lines_that_may_say_why(
    printed: list[tuple[str, bytes]], expected: str
) -> None:
    assert message(*printed) == expected


def test_a_line_in_pieces_is_whole_in_the_message() -> None:
    logs = LogBuffer(10**6, tail_lines=3)
    for text, continues in [
        ("Pass", "unfinished"),
        ("word: ", "unfinished"),
        ("wrong", None),
        ("10%", "unfinished"),
        ("\r20%", "unfinished"),
        (" of all", None),
        ("x" * 5000, "split"),
        ("y" * 5000, None),
    ]:
        logs.add(line(text, "stderr", continues))

    assert logs.tail()[:2] == ["Password: wrong", "20% of all"]
    assert logs.tail()[2] == "x" * 999 + " … " + "y" * 999


def test_one_very_long_line_leaves_room_for_the_others() -> None:
    noise = b"0123456789" * 100_000

    shown = message(err(b"Error: no such table\n" + noise + b"\n" + noise + b"end"))
    first, *long = shown.split("\n")
    assert first == "Error: no such table"
    assert [line[:10] for line in long] == ["0123456789"] * 2
    assert shown.endswith("789end")
    assert len(shown) < MAX_ERROR_CHARACTERS


def test_printable_text_stays_as_it_is() -> None:
    text = "a\tb\nc é ☃ 😀 \ufffd"

    assert printable(text) == text
    assert printable("\x1b[31;1mred\x1b[0m \x1b(B\x9b\u202eevil\r\x00") == "red evil"


def test_what_a_terminal_of_ours_escapes_is_not_printable() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]

    left = printable("".join(re.findall(CONTROL, "".join(characters))))

    assert [hex(ord(each)) for each in left] == []
