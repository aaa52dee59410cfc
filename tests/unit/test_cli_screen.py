"""What goes to which output, and the live line below it."""

import io
import os
from typing import BinaryIO

import pytest

from docker_job.cli.following.log_output import LogOutput
from docker_job.cli.following.screen import Screen
from docker_job.documents import LogLine
from tests.support.run.command_line import shown


class TerminalFile(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def on_terminal() -> tuple[Screen, TerminalFile]:
    """Make a screen whose both outputs are one terminal."""
    terminal = TerminalFile()
    return Screen(terminal, terminal), terminal


def seen(terminal: BinaryIO) -> list[str]:
    terminal.seek(0)
    return shown(terminal.read().decode())


def line(
    text: str, continues: str | None = None, stream: str = "stdout", attempt: int = 1
) -> LogLine:
    return LogLine(text=text, stream=stream, continues=continues, attempt=attempt)


def test_in_a_pipe_the_output_is_the_containers_alone_and_nothing_is_drawn() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    screen = Screen(out, err)
    screen.note(" ● running", "blue")
    screen.draw(" ● running 00:01")
    screen.output("stdout", b"\x00out")
    screen.output("stderr", b"err\n")
    assert out.getvalue() == b"\x00out"
    assert err.getvalue() == b" \xe2\x97\x8f running\nerr\n"


def test_the_live_line_is_erased_before_output_and_before_our_lines() -> None:
    screen, terminal = on_terminal()
    screen.draw("live 1")
    screen.output("stdout", b"out\n")
    screen.draw("live 2")
    screen.note("note")
    screen.draw("live 3")
    assert seen(terminal) == ["out", "note", "live 3"]
    screen.draw(None)
    assert seen(terminal) == ["out", "note", ""]


def test_the_live_line_waits_for_the_end_of_the_containers_line() -> None:
    screen, terminal = on_terminal()
    screen.output("stdout", b"Password: ")
    screen.draw("live")
    assert seen(terminal) == ["Password:"]
    screen.output("stdout", b"ok\n")
    screen.draw("live")
    assert seen(terminal) == ["Password: ok", "live"]


def test_a_line_of_ours_ends_the_containers_line() -> None:
    screen, terminal = on_terminal()
    screen.output("stderr", b"50 %")
    screen.note("note")
    assert seen(terminal) == ["50 %", "note", ""]


def test_quiet_draws_and_says_nothing() -> None:
    terminal = TerminalFile()
    screen = Screen(terminal, terminal, quiet=True)
    screen.note("note")
    screen.draw("live")
    screen.output("stdout", b"out\n")
    assert terminal.getvalue() == b"out\n"


def test_a_terminal_that_was_closed_ends_nothing_but_a_pipe_does() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as broken:
        screen = Screen(broken, broken)
        with pytest.raises(BrokenPipeError):
            screen.output("stdout", b"out\n")


def test_the_pieces_of_a_line_are_put_together() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    output = LogOutput(Screen(out, err))
    for each in (line("one ", "split"), line("line"), line("10 %", "unfinished"), line("\r20 %")):
        output.write(each)
    assert out.getvalue() == b"one line\n10 %\r20 %\n"


def test_a_line_that_an_attempt_left_open_ends_before_the_next_attempt() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    output = LogOutput(Screen(out, err))
    output.write(line("half", "unfinished"))
    output.write(line("again", attempt=2))
    output.write(line("open", "unfinished", "stderr", attempt=2))
    output.close()
    assert (out.getvalue(), err.getvalue()) == (b"half\nagain\n", b"open\n")


def test_a_line_with_a_prefix_is_written_whole_and_has_it_once() -> None:
    out = io.BytesIO()
    screen = Screen(out, io.BytesIO())
    first = LogOutput(screen, lambda _line: "7 | ", whole=True)
    second = LogOutput(screen, lambda _line: "8 | ", whole=True)
    first.write(line("one ", "unfinished"))
    second.write(line("other"))
    first.write(line("line"))
    assert out.getvalue() == b"8 | other\n7 | one line\n"


def test_a_note_that_no_container_printed_is_ours() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    LogOutput(Screen(out, err)).write(line("--- 5 lines left out ---", stream="docker-job"))
    assert (out.getvalue(), err.getvalue()) == (b"", b"--- 5 lines left out ---\n")


def test_a_message_of_others_cannot_command_the_terminal() -> None:
    err = io.BytesIO()
    Screen(io.BytesIO(), err).note("failed: \x1b]0;title\x07\x1b[2J")
    assert b"\x1b" not in err.getvalue()
    assert b"\x07" not in err.getvalue()


def test_a_containers_line_may_be_coloured_and_rewritten_on_a_terminal_and_no_more() -> None:
    screen, terminal = on_terminal()
    allowed = b"\x1b[32mgreen\x1b[0m 10 %\r20 %\x1b[K\n\ttab \xe6\xbc\xa2\n"
    screen.output("stdout", allowed)
    assert terminal.getvalue() == allowed
    hostile = b"\x1b]0;title\x07\x1b]52;c;aGk=\x07\x1b[2J\x1b[1A\x1b[6n\xc2\x9b2J\xe2\x80\xae\x9b\n"
    screen.output("stderr", hostile)
    shown_after = terminal.getvalue()[len(allowed) :]
    assert b"\x1b" not in shown_after
    assert shown_after.decode().startswith(r"\x1b]0;title\x07\x1b]52;c;aGk=\x07\x1b[2J")


def test_a_pipe_gets_a_containers_bytes_as_they_are() -> None:
    hostile = b"\x1b]0;title\x07\x1b[2J\xff\xc2\x9b\n"
    out, err = io.BytesIO(), TerminalFile()
    Screen(out, err).output("stdout", hostile)
    assert out.getvalue() == hostile
