"""The steps of a first run that do not prove what they claim: each differs, with the reason."""

import json
import subprocess
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest

from deploy import first_doctor, first_jobs, first_steps
from deploy.account import Account
from deploy.first_world import Choices, Differs, World
from tests.deploy.conftest import ACCOUNT, REGION, MotoCloud

ATTEMPT = {
    "number": 1,
    "cause": "done",
    "instance_id": "i-1",
    "market": "spot",
    "interrupted_at": None,
    "instance_gone_at": "2026-01-01T00:00:00Z",
}
JOB = {
    "id": 1,
    "status": "DONE",
    "status_reason": "done",
    "error_message": None,
    "phase": "running",
    "waiting_because": None,
    "instance_id": "i-1",
    "cost_usd": 0.01,
    "attempts": [ATTEMPT],
}
TERMINATED = {"State": {"Name": "terminated"}, "InstanceId": "i-1"}


class Scripted(World):
    """A world whose API shows *seen*, one after the other, the last for ever."""

    def __init__(self, *seen: dict[str, Any], log: str = "it works\n") -> None:
        self.seen, self.log, self.passed = [{**JOB, **each} for each in seen], log, 0.0
        ec2 = Mock()
        ec2.describe_instances.return_value = {"Reservations": [{"Instances": [TERMINATED]}]}
        ec2.get_paginator.return_value.paginate.return_value = []
        fis = MagicMock()
        fis.start_experiment.return_value = {"experiment": {"id": "EXP1"}}
        session = Mock()
        session.client.side_effect = lambda service, **_: {"ec2": ec2, "fis": fis}[service]
        account = Account(session, ACCOUNT, REGION, "aws", "me")
        choices = Choices("me@example.com", fis_role="arn:aws:iam::1:role/f", burst=1)
        super().__init__(account, "docker-job", (), choices, Path("key"))
        self.sleep, self.clock = self._pass, lambda: self.passed

    def _pass(self, seconds: float) -> None:
        self.passed += seconds

    def call(self, method: str, path: str, body: Any = None) -> Any:
        if path == "/schedule":
            return {"id": 1}
        return self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]

    def text(self, path: str) -> str:
        return self.log


RUNS = {"status": "RUNNING"}
ONE = {**ATTEMPT, "cause": "interrupted", "interrupted_at": "2026-01-01T00:00:00Z"}
TWO = {**ATTEMPT, "number": 2, "instance_id": "i-2"}


def test_an_interruption_is_one_that_docker_job_has_understood() -> None:
    facts = first_jobs.interruption(Scripted(RUNS, {"attempts": [ONE, TWO]}))
    assert facts["experiment"] == "EXP1"


@pytest.mark.parametrize(
    ("attempts", "why"),
    [
        ([{**ONE, "cause": "lost"}, TWO], "ended as lost, not as interrupted"),
        ([ONE], "the attempts ended as ['interrupted']"),
        ([ONE, {**TWO, "instance_id": "i-1"}], "on one instance"),
    ],
)
def test_another_end_than_an_interruption_differs(attempts: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(Differs) as caught:
        first_jobs.interruption(Scripted(RUNS, {"attempts": attempts}))
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("seen", "log", "why"),
    [
        ({"cost_usd": None}, "it works", "has no cost"),
        ({"attempts": [{**ATTEMPT, "market": "on-demand"}]}, "it works", "market on-demand"),
        ({}, "", "has no 'it works'"),
        ({"status": "FAILED", "error_message": "no"}, "it works", "is FAILED, not DONE: no"),
    ],
)
def test_a_job_without_log_cost_or_spot_differs(seen: dict[str, Any], log: str, why: str) -> None:
    with pytest.raises(Differs) as caught:
        first_jobs.one_job(Scripted(seen, log=log))
    assert why in str(caught.value)


def test_an_instance_that_does_not_end_differs() -> None:
    alive = [{**ATTEMPT, "instance_gone_at": None}]
    with pytest.raises(Differs, match="the instances of job 1 are terminated: not within"):
        first_jobs.one_job(Scripted({"attempts": alive}))


def test_the_reason_of_a_wait_is_read_while_the_job_waits() -> None:
    waits = {"status": "SCHEDULED", "phase": "waiting", "waiting_because": "quota L-34B43A08"}
    facts = first_jobs.burst(Scripted(waits, {}))
    assert facts["waits"] == ["quota L-34B43A08"]


def test_a_job_that_waits_without_a_reason_differs() -> None:
    silent = {"status": "SCHEDULED", "phase": "waiting"}
    with pytest.raises(Differs, match="job 1 waits without a reason"):
        first_jobs.burst(Scripted(silent))


def test_a_wrong_image_fails_with_the_words_of_the_registry() -> None:
    refused = {"status": "FAILED", "status_reason": "failed: repository no-such-image not found"}
    assert first_jobs.wrong_image(Scripted(refused))["job"]["status"] == "FAILED"
    with pytest.raises(Differs, match="does not have the registry's refusal: exit code 1"):
        first_jobs.wrong_image(Scripted({"status": "FAILED", "status_reason": "exit code 1"}))


def finding(status: str, name: str, group: str = "account") -> dict[str, str]:
    return {"group": group, "name": name, "status": status, "found": "bad", "do": "mend it"}


def doctor(*checks: dict[str, str], text: str = "") -> World:
    world, output = Scripted(), text or json.dumps({"ok": False, "checks": list(checks)})
    world.run = lambda words: subprocess.CompletedProcess(words, 1, output, "")
    return world


def test_before_the_deployment_a_failing_line_differs_but_for_what_deploy_makes() -> None:
    ok = finding("ok", "clock")
    missing = [finding("fail", "instance profile"), finding("fail", "Spot's role")]
    facts = first_doctor.before(doctor(ok, *missing, finding("fail", "queue", "interruptions")))
    assert facts["exit_status"] == 1
    for each in (finding("fail", "credentials"), finding("fail", "spot vCPUs", "quotas")):
        with pytest.raises(Differs) as caught:
            first_doctor.before(doctor(ok, each, *missing))
        assert str(caught.value) == f"fail {each['name']}: bad; mend it"
    with pytest.raises(Differs, match="the doctor ended with 1: no such setting"):
        first_doctor.before(doctor(text="no such setting"))


def test_a_budget_that_exists_with_another_amount_differs(aws: MotoCloud) -> None:
    world = Scripted()
    session = Mock()
    session.client.side_effect = lambda service, **_: aws.client(service)
    world.account = Account(session, ACCOUNT, REGION, "aws", "me")
    assert first_steps.budget(world)["alarms"] == 1
    assert first_steps.budget(world)["usd"] == 10, "once more, with the same amount"
    world.choices = Choices("me@example.com", budget_usd=20)
    with pytest.raises(Differs, match="exists with 10 USD, not 20"):
        first_steps.budget(world)
