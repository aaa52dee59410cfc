"""Everything that prints does so through a place that escapes control characters."""

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.terminal import CONTROL as DEPLOY
from deploy.terminal import EscapedText
from docker_job.cli import terminal
from docker_job.cli.terminal import escaped, escaped_json, escaped_log
from shared.terminal import CONTROL, escape

ROOT = Path(__file__).parents[2]

PLACES = {
    "shared/terminal.py": "print_line",
    "drill/terminal.py": "the drill's own",
    "agent/build.py": "its own usage",
    "agent/docker_job_agent/main.py": "its own usage",
    "fake_aws/__main__.py": "variables that it has made itself",
    "fake_aws/machine": "programs of a fake machine, whose output is a console",
    "deploy": "protect_terminal, called first in each program",
    "supply_chain": "ascii()",
    "shared/compute/ec2/user_data.py": "a script: shared/console_text.py cleans consoles",
    "operations/age.py": "the content of a backup, for a pipe",
    "operations/asyncapi.py": "a document made from our code",
    "client": "protect_terminal, called first",
    "examples": "an example",
}
"""The only files and directories that write to standard output or error, and what escapes there."""

CALLS = re.compile(
    r"\bprint\(|\bsys\.(stdout|stderr)\.(write|buffer)|\bclick\.echo\(|os\.write\([12],"
)

HOSTILE = {
    "the window's title": "\x1b]0;title\x07",
    "the clipboard (OSC 52)": "\x1b]52;c;aGk=\x07",
    "a link (OSC 8)": "\x1b]8;;http://evil.example\x1b\\",
    "the screen": "\x1b[2J",
    "another line": "\x1b[1A",
    "an answer typed for the user": "\x1b[6n",
    "CSI in one character": "\x9b2J",
    "OSC in one character": "\x9d0;title\x9c",
    "backspaces": "secret\b\b\b\b\b\b",
    "a bell": "\x07",
    "delete": "\x7f",
    "a line break of Unicode": "\u2028",
    "right to left": "\u202egpj.exe",
    "isolates": "\u2066x\u2069",
    "half a surrogate": "\ud800",
    "invisible tags": "\U000e0041",
}
REFUSED = re.compile(CONTROL)


def printing() -> Iterator[str]:
    """Yield the files that write to standard output or error by themselves."""
    packages: tuple[str, ...] = (
        "services",
        "shared",
        "embedded",
        "operations",
        "agent",
        "deploy",
        "fake_aws",
    )
    packages += ("rehearsal", "drill", "client", "supply_chain", "examples")
    for package in packages:
        for file in (ROOT / package).rglob("*.py"):
            source = file.read_text()
            # A docstring may show a call.
            code = "\n".join(ast.unparse(each) for each in ast.parse(source).body)
            if CALLS.search(code):
                yield file.relative_to(ROOT).as_posix()


def test_only_the_places_that_escape_print() -> None:
    found = set(printing())
    allowed = {each for each in found for place in PLACES if f"{each}/".startswith(f"{place}/")}
    logs = {"agent/docker_job_agent/log.py", "services/api/processes/workers.py"}
    print(f"{len(found)} files print, {len(found - allowed - logs)} of them elsewhere")
    assert found - allowed - logs == set()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_place_lets_what_is_hostile_through(text: str) -> None:
    stream = io.BytesIO()
    deployed = EscapedText(stream, "utf-8", "replace")
    deployed.write(text)
    deployed.flush()
    client = io.BytesIO()
    result = terminal.TerminalText(client, "utf-8", "replace")
    result.write(text)
    result.flush()
    shown = {
        "print_line": escape(text),
        "deploy": stream.getvalue().decode(),
        "command": client.getvalue().decode(),
        "escaped": escaped(text),
        "log": escaped_log(text),
        "json": escaped_json(json.dumps(text, ensure_ascii=False)),
    }
    through = [place for place, each in shown.items() if REFUSED.search(each)]
    print(f"{len(shown) - len(through)} of {len(shown)} places escape it")
    assert not through
    assert DEPLOY.search(text)


def test_a_command_keeps_its_colours_and_a_progress_bar_its_line() -> None:
    assert escaped("\x1b[1;32mgreen\x1b[0m\n\tok ä 漢") == "\x1b[1;32mgreen\x1b[0m\n\tok ä 漢"
    assert escaped("1 %\r") == "1 %\\x0d"
    for bar in ("10 %\r20 %", "\x1b[2K\x1b[1G30 %", "\x1b[90D\x1b[K", "\x1b[31mred\x1b[m"):
        assert escaped_log(bar) == bar
    for more in ("\x1b[2A", "\x1b[1;1H", "\x1b[?1049h", "\x1b]0;t\x07", "\x1bc"):
        assert "\x1b" not in escaped_log(more)


def test_json_that_is_escaped_has_the_same_value() -> None:
    value = {"name": "".join(HOSTILE.values()).replace("\ud800", ""), "n": [1, None]}
    text = escaped_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert not REFUSED.search(text)


def test_the_rewritten_line_of_a_deployments_progress_is_still_rewritten() -> None:
    assert DEPLOY.sub("?", "\r  0:01  waiting\x1b[2J\rok") == "\r  0:01  waiting?[2J?ok"
