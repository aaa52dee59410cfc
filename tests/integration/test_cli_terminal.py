"""What an API or a user has written commands no terminal of the command `docker-job`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.run.command_line import CommandLine
from tests.support.servers.scripted_api import Answer, scripted_api

HOSTILE = "x\x1b]0;title\x07\x1b]52;c;aGk=\x07\x1b[2J\x1b[1A\x9b31m\r\b\x7f\u202egpj.exe\u2028y"
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?7[hl]|\x1b\[K|\x1b\[\?25[hl]")
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029]|\r(?!\n)")

JOB: dict[str, Any] = {
    "id": 9,
    "name": HOSTILE,
    "docker_image": HOSTILE,
    "labels": {HOSTILE: HOSTILE},
    "status": "FAILED",
    "phase": HOSTILE,
    "attempt": 1,
    "attempts": [],
    "scheduled_for": "2020-01-01T00:00:00Z",
    "waiting_because": HOSTILE,
    "error_message": HOSTILE,
}


def as_json(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document))


COMMANDS = {
    "ps -a": [as_json([JOB])],
    "ps -a --format {{.Name}}": [as_json([JOB])],
    "ps -a --json": [as_json([JOB])],
    "inspect 9": [as_json(JOB)],
    "inspect 9 --json": [as_json(JOB)],
    "stop 9": [as_json({"message": HOSTILE}, 409)],
    "version": [as_json({"version": HOSTILE})],
    "doctor": [as_json({"version": HOSTILE, "message": HOSTILE})] * 4,
    "run alpine": [as_json({"message": HOSTILE}, 400)],
    "stats": [as_json({"message": HOSTILE}, 404)],
}


@pytest.mark.parametrize("line", COMMANDS)
def test_what_others_have_written_commands_no_terminal(tmp_path: Path, line: str) -> None:
    with (
        scripted_api(*COMMANDS[line]) as api,
        CommandLine(api.url, tmp_path).terminal(*line.split()) as terminal,
    ):
        terminal.wait()
        raw = terminal.bytes.decode(errors="replace")
    through = CONTROL.findall(OURS.sub("", raw))
    print(f"{line}: {len(through)} of {len(CONTROL.findall(HOSTILE))} kinds came through")
    assert not through, ascii(raw)


def test_a_pipe_gets_names_as_they_are(tmp_path: Path) -> None:
    with scripted_api(as_json([JOB])) as api:
        done = CommandLine(api.url, tmp_path).run("ps", "-a", "--json")
    assert json.loads(done.stdout)[0]["name"] == HOSTILE


def test_an_error_of_the_api_names_its_request(tmp_path: Path) -> None:
    broken = Answer(500, json.dumps({"message": "internal error"}), (("X-Request-Id", "5f3a"),))
    with scripted_api(*[broken] * 9) as api:
        done = CommandLine(api.url, tmp_path).run("stop", "9")
    assert "internal error" in done.stderr
    assert "The API's log has it under request 5f3a." in done.stderr
