"""`EC2_SESSION_MANAGER`: whether an instance starts Session Manager's agent."""

import subprocess

import pytest

from shared.compute.ec2.settings import ec2_settings
from shared.compute.ec2.user_data import Boot, user_data
from shared.settings import BadSetting, Settings


def script(*, on: bool) -> str:
    return user_data(
        Boot(
            api_url="https://jobs.example.com",
            deployment="docker-job",
            agent_sha256="ab" * 32,
            max_lifetime_seconds=3600,
            session_manager=on,
        )
    )


def test_the_agent_is_started_only_if_the_setting_is_on() -> None:
    assert "amazon-ssm-agent" not in script(on=False)
    assert "systemctl start --no-block amazon-ssm-agent.service" in script(on=True)
    read = subprocess.run(["sh", "-n"], input=script(on=True).encode(), check=False)
    assert read.returncode == 0


@pytest.mark.parametrize(("value", "on"), [("on", True), ("off", False), ("", False)])
def test_the_setting_is_read(value: str, *, on: bool) -> None:
    assert ec2_settings(Settings({"DOCKER_JOB_EC2_SESSION_MANAGER": value})).session_manager is on


def test_another_value_is_refused() -> None:
    with pytest.raises(BadSetting, match="EC2_SESSION_MANAGER is 'yes': it must be one of on, off"):
        ec2_settings(Settings({"DOCKER_JOB_EC2_SESSION_MANAGER": "yes"}))
