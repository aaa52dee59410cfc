"""Secrets that the instance reads, with a real container, where a Docker engine answers."""

from hashlib import sha256
from pathlib import Path

from tests.integration.test_agent import FakeApi
from tests.integration.test_agent_aws import on_ec2, role
from tests.integration.test_agent_docker import SHELL_IMAGE, _engine, running_docker

__all__ = ["_engine"]

PEM = "-----BEGIN KEY-----\nbGluZQ==\r\nA=b\n-----END KEY-----\n\n"


def test_a_key_of_several_lines_reaches_the_container_verbatim(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-AbCdEf"
    script = 'for each in "$SSM" "$MANAGER"; do printf %s "$each" | sha256sum; done'
    api = FakeApi(
        docker_image=SHELL_IMAGE,
        command=["sh", "-c", script],
        secrets={"SSM": "/team/key", "MANAGER": arn},
    )
    values = (PEM, PEM * 600)
    with role() as (metadata, secrets):
        secrets.parameters["/team/key"], secrets.secrets[arn] = values
        with running_docker(api, tmp_path / "i", **on_ec2(metadata, secrets)) as agent:
            assert agent.wait() == 0

    assert api.lines("stdout") == [f"{sha256(each.encode()).hexdigest()}  -" for each in values]
    assert "BEGIN KEY" not in agent.log
