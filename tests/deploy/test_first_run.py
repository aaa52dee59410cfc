"""first-run.sh: its report, its order, what it masks; `test_first_run_played` plays the steps."""

import io
import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from deploy import first_run
from deploy.account import Account
from deploy.first_list import STEPS, Step
from deploy.first_world import ByHand, Choices, Differs, Facts, World
from tests.deploy.conftest import ACCOUNT, REGION, ROOT, MotoCloud


@pytest.fixture
def world(tmp_path: Path) -> World:
    account = Account(Mock(), ACCOUNT, REGION, "aws", "user/me")
    return World(account, "docker-job", (), Choices("me@example.com"), tmp_path / "key")


class Steps:
    """Three steps, of which the second does what is asked."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.calls: list[str] = []

    def list(self) -> list[Step]:
        return [self._step(key) for key in ("deploy", "job", "destroy")]

    def _step(self, key: str) -> Step:
        def run(_: World) -> Facts:
            self.calls.append(key)
            if key == "job" and self.fault is not None:
                raise self.fault
            return {"key": "djk_0a1b2c3d_secret is not shown"}

        return Step(key, f"Title of {key}", "what", "0", f"the lines of {key}", run)


@pytest.fixture
def steps() -> Steps:
    return Steps()


def results(directory: Path) -> dict[str, str]:
    report = json.loads((directory / "report.json").read_text())
    return {key: each["result"] for key, each in report["steps"].items()}


def test_every_step_is_played_in_its_order_and_reported_without_secrets(
    world: World, steps: Steps, tmp_path: Path
) -> None:
    assert first_run.play(world, tmp_path, io.StringIO(), steps=steps.list())
    assert results(tmp_path) == dict.fromkeys(("deploy", "job", "destroy"), "passed")
    for name in ("report.json", "report.md"):
        assert "djk_" not in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Differs("AKIAIOSFODNN7EXAMPLE is bad"), "(masked) is bad"),
        (json.JSONDecodeError("Expecting value", "", 0), "JSONDecodeError: Expecting value"),
        (KeyError("attempts"), "KeyError: 'attempts' (test_first_run.py:"),
    ],
)
def test_a_step_that_differs_or_crashes_stops_the_run_which_continues_there(
    world: World, steps: Steps, tmp_path: Path, fault: Exception, why: str
) -> None:
    steps.fault, out = fault, io.StringIO()
    assert not first_run.play(world, tmp_path, out, steps=steps.list())
    assert results(tmp_path) == {"deploy": "passed", "job": "differs"}
    assert "Send: the lines of job" in out.getvalue()
    assert "is billed, until the step destroy" in out.getvalue()
    assert f"**It differs:** {why}" in (tmp_path / "report.md").read_text()
    steps.fault = None
    assert first_run.play(world, tmp_path, io.StringIO(), steps=steps.list())
    assert steps.calls == ["deploy", "job", "job", "destroy"]


def test_what_only_the_operator_can_do_is_by_hand_and_the_run_goes_on(
    world: World, steps: Steps, tmp_path: Path
) -> None:
    steps.fault, out = ByHand("type this", instance="i-1"), io.StringIO()
    assert first_run.play(world, tmp_path, out, steps=steps.list())
    assert results(tmp_path)["job"] == "by hand"
    assert "by hand: type this" in out.getvalue()
    assert "type this" in (tmp_path / "report.md").read_text()


def test_the_plan_names_each_step_and_changes_nothing(aws: MotoCloud) -> None:
    run = aws.run("first-run.sh", "--plan")
    assert run.returncode == 0, run.stderr
    for step in STEPS:
        assert f"{step.title} [{step.key}]" in run.stdout
        assert step.proves in run.stdout
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "--email is missing"),
        (("--email", "me@example.com", "--skip", "lunch"), "--skip lunch: the steps are budget"),
    ],
)
def test_a_wrong_command_line_is_refused(
    aws: MotoCloud, arguments: tuple[str, ...], text: str
) -> None:
    run = aws.run("first-run.sh", *arguments)
    assert run.returncode == 1
    assert text in run.stderr


def test_the_list_of_the_docs_is_the_list_of_the_script() -> None:
    docs = (ROOT / "docs" / "first-run.md").read_text()
    rows = [line for line in docs.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{each.key}` | {each.title} | {each.proves} | {each.costs} | {each.send} |"
        for each in STEPS
    ]
