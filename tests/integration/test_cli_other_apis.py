"""The commands on an API of an earlier release, and on one that no longer keeps a change."""

import json
from pathlib import Path
from typing import Any

from tests.support.run.command_line import CommandLine
from tests.support.servers.scripted_api import Answer, events, scripted_api


def job(job_id: int, status: str) -> dict[str, Any]:
    """Return a job as earlier releases show it: without start, duration and cost."""
    return {
        "id": job_id,
        "name": None,
        "docker_image": "alpine",
        "status": status,
        "phase": status.lower(),
        "attempt": 2,
        "scheduled_for": "2020-01-01T00:00:00Z",
        "waiting_because": None,
    }


def as_json(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document))


def test_ps_asks_an_earlier_api_status_by_status_and_shows_dashes_for_what_it_lacks(
    tmp_path: Path,
) -> None:
    with scripted_api(
        as_json({"message": "parameter 'status' is given twice"}, 400),
        as_json([job(9, "SCHEDULED"), job(2, "SCHEDULED")]),
        as_json([job(5, "RUNNING")]),
    ) as api:
        done = CommandLine(api.url, tmp_path).run("ps")
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split() for line in done.stdout.splitlines()[1:]] == [
            ["9", "–", "alpine", "Scheduled", "now", "–", "–", "2", "–"],
            ["5", "–", "alpine", "Running", "–", "–", "2", "–"],
            ["2", "–", "alpine", "Scheduled", "now", "–", "–", "2", "–"],
        ]
        asked = [each.path for each in api.seen]
        assert "status=SCHEDULED&status=RUNNING" in asked[0]
        assert "status=RUNNING" in asked[2]
        assert "status=SCHEDULED" not in asked[2]


def test_a_route_that_the_api_has_not_is_two_lines(tmp_path: Path) -> None:
    with scripted_api(as_json({"message": "Not found: /stats"}, 404)) as api:
        done = CommandLine(api.url, tmp_path).run("stats")
    assert done.returncode == 125
    assert done.stderr.splitlines()[0] == "The API has no /stats."
    assert len(done.stderr.splitlines()) == 2


def test_a_change_that_is_no_longer_kept_is_a_line_that_says_so(tmp_path: Path) -> None:
    change = {"id": 7, "docker_image": "alpine", "status": "DONE", "phase": "done", "attempt": 1}
    stream = events(
        "id: a.9\n\n",
        'event: reset\nid: a.9\ndata: {"message": "too old: read the list again"}\n\n',
        f"event: change\nid: a.10\ndata: {json.dumps(change)}\n\n",
    )
    for json_option in (("--json",), ()):
        with scripted_api(as_json([]), stream, events(": nothing more\n\n")) as api:
            command = CommandLine(api.url, tmp_path)
            with command.piped("events", "--after", "a.1", *json_option) as piped:
                piped.until("done")
                lines = piped.out.splitlines()
                errors = piped.err
        assert api.seen[1].headers["Last-Event-ID"] == "a.1"
        if json_option:
            reset = {"reset": "too old: read the list again", "position": "a.9"}
            assert [json.loads(line) for line in lines] == [reset, {**change, "position": "a.10"}]
        else:
            assert errors.startswith("Changes are missing: too old: read the list again\n")
            assert lines[0].split()[:4] == ["–", "7", "–", "done"]


def test_what_is_piped_follows_every_page_and_a_terminal_gets_the_first_thousand(
    tmp_path: Path,
) -> None:
    def page(first: int, *, has_more: bool) -> Answer:
        link = (("Link", f'</list?limit=1000&cursor={first - 1000}>; rel="next"'),)
        jobs = [job(each, "RUNNING") for each in range(first, first - 1000, -1)]
        return Answer(200, json.dumps(jobs), link if has_more else ())

    pages = (page(3000, has_more=True), page(2000, has_more=True), page(1000, has_more=False))
    with scripted_api(*pages) as api:
        done = CommandLine(api.url, tmp_path).run("ps", "-aq")
    assert [int(each) for each in done.stdout.split()] == list(range(3000, 0, -1))
    with (
        scripted_api(*pages) as api,
        CommandLine(api.url, tmp_path).terminal("ps", "-a") as terminal,
    ):
        assert terminal.wait() == 0
    assert "The newest 1,000. More: --last N, or a pipe." in terminal.text
    assert len(api.seen) == 1
