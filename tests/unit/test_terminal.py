"""Text that a container, a client or an engine made does not command a terminal of ours."""

import json

import pytest
import structlog

from agent.docker_job_agent.log import log
from drill.terminal import print_line
from rehearsal.__main__ import conclude
from shared.log import redact
from shared.terminal import escape

HOSTILE = "\x1b]0;title\x07\x1b[2J\r\x9b31m\u202etxt.exe\x7f\N{ZERO WIDTH NO-BREAK SPACE}"
COMMANDS = set(HOSTILE) - set("]0;title[2J31mtxt.exe")


def test_what_commands_a_terminal_is_escaped_and_all_else_stays() -> None:
    assert escape(HOSTILE) == (r"\x1b]0;title\x07\x1b[2J\x0d\x9b31m\u202etxt.exe\x7f\ufeff")
    assert escape("a\tb\nä € 漢 \N{GRINNING FACE} \\x1b") == "a\tb\nä € 漢 \N{GRINNING FACE} \\x1b"


def test_the_services_log_escapes_it() -> None:
    entry = redact(None, "info", {"event": "job failed", "message": HOSTILE, "names": [HOSTILE]})
    for shown in (
        structlog.dev.ConsoleRenderer(colors=False)(None, "info", dict(entry)),
        str(structlog.processors.JSONRenderer()(None, "info", dict(entry))),
    ):
        assert shown.count("txt.exe") == 2
        assert not COMMANDS & set(shown)


def test_the_agents_log_escapes_it(capfd: pytest.CaptureFixture[str]) -> None:
    log("pull failed", error=HOSTILE)
    shown = capfd.readouterr().err
    assert json.loads(shown)["error"] == HOSTILE
    assert not (COMMANDS - {"\x7f"}) & set(shown)  # DEL is data in JSON, and no terminal obeys it


def test_the_rehearsal_and_the_drill_escape_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude([f"the job ended FAILED: {HOSTILE}"]) == 1
    print_line(f"job 1 is FAILED: {HOSTILE}\n\tand more")
    print_line(HOSTILE, error=True)
    printed = capsys.readouterr()
    assert "ended FAILED" in printed.err
    assert "\n\tand more" in printed.out
    assert not COMMANDS & set(printed.out + printed.err)
