"""The list of a first run, played on the real API, its services and the strict cloud."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import first_run
from deploy.first_list import STEPS, Step
from fake_aws import CloudSettings
from rehearsal.stage import deployment_of, open_stage
from tests.support.deploy.first_run_world import StagedWorld

CLOUD = CloudSettings(speed=20.0, boot="process", price_step_seconds=86_400.0)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StagedWorld]:
    settings = {
        "LOCAL_IMAGES": "no",
        "EC2_INSTANCE_TYPES": "m5.large,c5.large",
        "REGISTRIES_ALLOWED": "public.ecr.aws",  # its address is not looked up: here may be no DNS
    }
    with open_stage(CLOUD, **settings) as stage:
        yield StagedWorld(stage, deployment_of(stage.system.data), tmp_path)


def report_of(directory: Path) -> dict[str, dict[str, Any]]:
    steps: dict[str, dict[str, Any]] = json.loads((directory / "report.json").read_text())["steps"]
    return steps


def results_of(directory: Path) -> dict[str, str]:
    return {key: each["result"] for key, each in report_of(directory).items()}


def chosen(*keys: str) -> list[Step]:
    return [step for step in STEPS if step.key in keys]


@pytest.mark.timeout(300)
def test_a_job_and_a_wrong_image_pass_on_the_real_api(world: StagedWorld, tmp_path: Path) -> None:
    steps = chosen("deploy", "job", "wrong-image", "destroy")
    out = io.StringIO()
    assert first_run.play(world, tmp_path, out, steps=steps), out.getvalue()
    assert results_of(tmp_path) == {step.key: "passed" for step in steps}
    found = report_of(tmp_path)
    assert "it works" in found["job"]["facts"]["logs"]
    assert found["job"]["facts"]["job"]["cost_usd"] > 0
    assert "name unknown" in found["wrong-image"]["facts"]["job"]["status_reason"]
    assert "djk_" not in (tmp_path / "report.json").read_text().replace("djk_…", "")
    assert not (tmp_path / "key").exists(), "destroyed with the stack"


@pytest.mark.timeout(300)
def test_a_role_without_its_permissions_differs_and_run_command_that_fails_is_by_hand(
    world: StagedWorld, tmp_path: Path
) -> None:
    steps = chosen("deploy", "roles")
    world.broken = {"launcher"}
    out = io.StringIO()
    assert not first_run.play(world, tmp_path, out, steps=steps)
    found = report_of(tmp_path)["roles"]
    assert found["result"] == "differs"
    assert "the doctor as launcher ended with 1" in found["why"]
    assert "fail  ec2:DescribeImages" in found["why"]
    assert "is billed" in out.getvalue()

    world.reachable = False
    assert first_run.play(world, tmp_path, io.StringIO(), steps=steps)
    found = report_of(tmp_path)["roles"]
    assert found["result"] == "by hand"
    [instance] = world.services()
    assert f"aws ssm start-session --region us-east-1 --target {instance}" in found["why"]
    for role in ("launcher", "reaper"):
        line = f"compose.sh run --rm --no-deps -T {role} operations.doctor --as {role}"
        assert line in found["why"]


@pytest.mark.campaign
@pytest.mark.timeout(400)
def test_the_whole_list_passes_on_the_real_api(world: StagedWorld, tmp_path: Path) -> None:
    out = io.StringIO()
    assert first_run.play(world, tmp_path, out), out.getvalue()
    steps, results = report_of(tmp_path), results_of(tmp_path)
    assert list(steps) == [step.key for step in STEPS]
    assert results.pop("bill") == "by hand"
    assert set(results.values()) == {"passed"}
    for role in ("launcher", "reaper"):
        first = "\n".join(steps["roles"]["facts"][role]["output"])
        assert f"user/{world.stack}-{role}" in first
        assert "nothing has failed" in first
    again = "\n".join(steps["roles-launched"]["facts"]["launcher"]["output"])
    assert "ok    ec2:CreateFleet" in again
    assert steps["interruption"]["facts"]["job"]["attempts"][0]["cause"] == "interrupted"
    assert steps["burst"]["facts"]["instances"] == world.choices.burst
    assert steps["cancel"]["facts"]["job"]["status"] == "CANCELLED"
    assert len(steps["kill"]["facts"]["job"]["attempts"]) == 1
