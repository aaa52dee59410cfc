"""The EC2 adapter under the contract: on the strict cloud, whose instances boot their user data.

Agents identify by their role, as on EC2: the API of the tests sends their signed request to the
cloud's STS, and gives them the job that the launch has assigned to the instance.
"""

import hashlib
from collections.abc import Sequence

import boto3
import pytest

from agent.build import build
from fake_aws import CloudSettings, CloudThread
from shared.clock import RealClock
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import ComputeError, Instance, LaunchBatch
from tests.support.compute.compute_api import FakeApi

AGENT = hashlib.sha256(build()).hexdigest()
PROFILE = "docker-job-instance"
REGION = "us-east-1"
TRUST = """{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
    "Principal": {"Service": "ec2.amazonaws.com"}}]}"""
SETTINGS = Ec2Settings(
    instance_profile=PROFILE, instance_types=("m5.large", "c5.large"), max_lifetime_seconds=120
)


def make_profile(cloud: CloudThread, name: str = PROFILE) -> None:
    """Create an instance profile with a role that may do nothing, both of this name."""
    iam = boto3.client("iam", **cloud.client_arguments())
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)


class Assigning(Ec2Compute):
    """The adapter, which assigns each launched instance to its job in the API."""

    def __init__(self, api: FakeApi, deployment: str, settings: Ec2Settings) -> None:
        super().__init__(REGION, deployment, RealClock(), AGENT, settings)
        self.api = api

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        answers = await super().launch(batch)
        for request, answer in zip(batch.requests, answers, strict=True):
            if isinstance(answer, Instance):
                self.api.assigned[answer.instance_id] = request.job_id, request.attempt
        return answers


class Ec2World:
    """One account of the strict cloud."""

    forgets = ""

    def __init__(self, api: FakeApi, **settings: object) -> None:
        given = {"speed": 200.0, "boot": "process", "price_step_seconds": 1e9, **settings}
        self.cloud = CloudThread(CloudSettings(**given))  # type: ignore[arg-type]
        self.cloud.start()
        make_profile(self.cloud)
        self.environment = pytest.MonkeyPatch()
        for name, value in self.cloud.environment().items():
            self.environment.setenv(name, value)
        self.api = api
        api.sts_url = self.cloud.endpoint_url

    def adapter(self, deployment: str = "test", settings: Ec2Settings = SETTINGS) -> Assigning:
        return Assigning(self.api, deployment, settings)

    async def close(self) -> None:
        self.environment.undo()
        self.cloud.close()
