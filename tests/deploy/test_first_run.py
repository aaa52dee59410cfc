"""first-run.sh against moto, with scripts that only answer, and an API that plays the jobs."""

import io
import json
import subprocess
from collections.abc import Iterator, Sequence
from email.message import Message
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from deploy import first_run
from deploy.account import Account
from deploy.first_list import STEPS
from deploy.first_world import Choices, World
from deploy.place import SERVICES_TAG
from tests.deploy.conftest import ACCOUNT, REGION, ROOT, MotoCloud
from tests.support.deploy.instance_world import SmallServer

KEY = "djk_0a1b2c3d_of-the-first-run"


class Api(SmallServer):
    """An API whose jobs run once, then end: with a wrong image as FAILED."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        super().__init__()

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        if headers.get("Authorization") != f"Bearer {KEY}":
            return 401, "{}"
        return 200, json.dumps(self._answer(method, path, body))

    def _answer(self, method: str, path: str, body: str) -> Any:
        if path == "/schedule":
            number = len(self.jobs) + 1
            job = {"id": number, "status": "RUNNING", "phase": "running", "asked": 0}
            self.jobs.append(
                job | {"instance_id": "i-1", "image": json.loads(body)["docker_image"]}
            )
            return self.jobs[-1]
        found: dict[str, Any] = self.jobs[int(path.split("/")[2]) - 1]
        if method == "DELETE":
            found["status"] = "CANCELLED"
        elif path.startswith("/status"):
            found["asked"] += 1
            if found["asked"] > 1 and found["status"] == "RUNNING":
                found["status"] = "FAILED" if "no-such" in found["image"] else "DONE"
        return found | {"attempts": [{}], "cost_usd": 0.01}


class Played(World):
    """A world whose scripts only answer."""

    def __init__(self, aws: MotoCloud, directory: Path, url: str) -> None:
        session = Mock()
        session.client.side_effect = lambda service, **_: aws.client(service)
        self.aws, self.fail = aws, ""
        self.calls: list[str] = []
        account = Account(session, ACCOUNT, REGION, "aws", "user/me")
        super().__init__(account, "docker-job", (), Choices("me@example.com"), directory / "key")
        self.url, self.run = url, self._run
        self.sleep = self._sleep

    def _run(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        text = " ".join(words)
        self.calls.append(text)
        if self.fail and self.fail in text:
            return subprocess.CompletedProcess(words, 1, "", "deploy: AKIAIOSFODNN7EXAMPLE is bad")
        if "destroy.sh" in text:
            return subprocess.CompletedProcess(words, 0, "Nothing remains.\n", "")
        shown = f"  Address:  {self.url}\n  API key:  {KEY}\n"
        return subprocess.CompletedProcess(words, 0, shown if "deploy.sh" in text else "fine", "")

    def _sleep(self, _seconds: float) -> None:
        """Do what the Auto Scaling group does: replace a terminated instance."""
        if not self.aws.instances(SERVICES_TAG):
            services(self.aws)


def services(aws: MotoCloud) -> None:
    """Start the services' instance."""
    tags = [{"Key": SERVICES_TAG, "Value": "docker-job"}]
    aws.client("ec2").run_instances(
        ImageId="ami-0123456789abcdef0",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )


@pytest.fixture
def world(aws: MotoCloud, tmp_path: Path) -> Iterator[Played]:
    api = Api()
    services(aws)
    yield Played(aws, tmp_path, api.url)
    api.close()


def results(directory: Path) -> dict[str, str]:
    report = json.loads((directory / "report.json").read_text())
    return {key: each["result"] for key, each in report["steps"].items()}


def test_every_step_is_played_in_its_order_and_reported_without_secrets(
    aws: MotoCloud, world: Played, tmp_path: Path
) -> None:
    out = io.StringIO()
    assert first_run.play(world, tmp_path, out), out.getvalue()
    assert list(results(tmp_path)) == [step.key for step in STEPS]
    assert {key for key, result in results(tmp_path).items() if result == "skipped"} == {
        "interruption"
    }
    [made] = aws.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"]
    assert made["BudgetName"] == "docker-job-first-run"
    for name in ("report.json", "report.md"):
        assert "djk_" not in (tmp_path / name).read_text().replace("djk_…", "")
    assert not (tmp_path / "key").exists(), "destroyed with the stack"


def test_a_step_that_differs_stops_the_run_which_continues_there(
    world: Played, tmp_path: Path
) -> None:
    world.fail = "destroy.sh"
    out = io.StringIO()
    assert not first_run.play(world, tmp_path, out)
    assert results(tmp_path)["destroy"] == "differs"
    assert "Send: what remains" in out.getvalue()
    text = (tmp_path / "report.md").read_text()
    assert "**It differs:** destroy.sh ended with 1" in text
    assert "AKIA" not in text
    world.fail, before = "", len(world.calls)
    assert first_run.play(world, tmp_path, io.StringIO())
    assert results(tmp_path)["destroy"] == "passed"
    assert not any("deploy.sh" in each for each in world.calls[before:]), "passed before"


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
    rows = [line.split("|")[1].strip(" `") for line in docs.splitlines() if line.startswith("| `")]
    assert rows == [step.key for step in STEPS]
