"""The agent's calls of AWS, and the API's reading of STS, on moto, whose shapes are not ours.

moto checks no signature (`support/compute/aws_account.py` does); it knows the protocols, the
targets and the answers.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from agent.docker_job_agent.aws import Aws, Credentials
from agent.docker_job_agent.errors import CouldNotRunError
from agent.docker_job_agent.identity import Proof as SignedProof
from agent.docker_job_agent.job_secrets import ecr_login, fetch_secret
from agent.docker_job_agent.partitions import EcrRegistry
from services.api.agents.sts_identity import IdentityConfig, Proof, Role, StsIdentity
from shared import tokens
from shared.clock import VirtualClock

REGION = "eu-west-1"
INSTANCE = "i-0123456789abcdef0"
ROLE = "docker-job-instance"
TOKEN = "ab" * 32


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="secret",
    )


class OnInstance(Aws):
    """AWS as an instance with these credentials sees it."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._environment = {"AWS_ENDPOINT_URL": url}
        self._credentials = credentials
        self._region = REGION

    def credentials(self) -> Credentials:
        return self._credentials


@pytest.fixture
def aws(moto: str) -> OnInstance:
    given = client("sts", moto).assume_role(
        RoleArn=f"arn:aws:iam::123456789012:role/{ROLE}", RoleSessionName=INSTANCE
    )["Credentials"]
    return OnInstance(
        moto,
        Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]),
    )


def test_parameters_and_secrets_are_read(moto: str, aws: OnInstance) -> None:
    client("ssm", moto).put_parameter(Name="/team/key", Value="p-value", Type="SecureString")
    made = client("secretsmanager", moto).create_secret(Name="db", SecretString="s-value")
    assert fetch_secret("A", "/team/key", aws) == "p-value"
    assert fetch_secret("B", made["ARN"], aws) == "s-value"


def test_what_is_not_there_is_named(aws: OnInstance) -> None:
    with pytest.raises(CouldNotRunError, match=r"secret A \(/nowhere\).*ParameterNotFound"):
        fetch_secret("A", "/nowhere", aws)
    arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:nothing-AbCdEf"
    with pytest.raises(CouldNotRunError, match="ResourceNotFoundException"):
        fetch_secret("B", arn, aws)


def test_ecr_gives_a_login(aws: OnInstance) -> None:
    registry = EcrRegistry(REGION, f"api.ecr.{REGION}.amazonaws.com")
    assert ecr_login(registry, aws).username == "AWS"


async def test_sts_says_which_instance_has_signed(moto: str, aws: OnInstance) -> None:
    config = IdentityConfig(
        sts_url=moto,
        region=REGION,
        role=Role("aws", "123456789012", ROLE),
        deployment="ours",
    )
    made = SignedProof(aws, "ours").bound_to(tokens.token_hash(TOKEN).hex())
    identity = StsIdentity(config, VirtualClock(datetime.now(UTC)))
    shown = await identity.verify(Proof(made["headers"], made["body"]), TOKEN)
    assert shown.instance_id == INSTANCE
