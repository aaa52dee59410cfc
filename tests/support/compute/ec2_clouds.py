"""The two fakes of EC2 under the contract, called by plain boto3, and the inputs of a launch.

moto checks the shape of requests and answers, the fake AWS their meaning too.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import boto3
from botocore.config import Config
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from fake_aws import CloudSettings, CloudThread, start_cloud

AMI = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
EVENTUALLY_SECONDS = 20.0
TYPES = ("c7i.large", "m7i.large")
# The SDK's own retries would hide what is tested.
CONFIG = Config(retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=20)


class Ec2Cloud(Protocol):
    """A source of clients."""

    def client(self, service: str) -> Any:
        """Make a boto3 client."""
        ...


class Moto:
    """moto's own server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self._url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=CONFIG,
        )


class Strict:
    """The fake AWS, and its control API."""

    def __init__(self, thread: CloudThread) -> None:
        self.thread = thread
        self.control = thread.control

    def client(self, service: str, credential: Any = None) -> Any:
        return boto3.client(service, config=CONFIG, **self.thread.client_arguments(credential))


@contextmanager
def moto_cloud() -> Iterator[Moto]:
    """Run moto with an empty state."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    moto_api_backend.reset()  # its state is the process's
    try:
        yield Moto(f"http://{host}:{port}")
    finally:
        server.stop()


@contextmanager
def strict_cloud(**settings: Any) -> Iterator[Strict]:
    """Run the fake AWS, sped up by default."""
    with start_cloud(CloudSettings(**{"speed": 200.0, **settings})) as thread:
        yield Strict(thread)


class Launcher:
    """The inputs of a launch: an image, subnets, a template; and the calls with them."""

    def __init__(self, cloud: Ec2Cloud) -> None:
        self.ec2 = cloud.client("ec2")
        self.image: str = cloud.client("ssm").get_parameter(Name=AMI)["Parameter"]["Value"]
        shown = self.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])[
            "Subnets"
        ]
        self.subnets = {each["AvailabilityZone"]: each["SubnetId"] for each in shown}
        self.template: str = self.ec2.create_launch_template(
            LaunchTemplateName=f"t-{time.monotonic_ns()}",
            LaunchTemplateData={
                "ImageId": self.image,
                "InstanceInitiatedShutdownBehavior": "terminate",
                "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            },
        )["LaunchTemplate"]["LaunchTemplateId"]

    def fleet(self, count: int = 1, token: str = "", **changes: Any) -> Any:
        """CreateFleet: Spot, two types in two zones."""
        zones = list(self.subnets)[:2]
        request: dict[str, Any] = {
            "Type": "instant",
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": {
                        "LaunchTemplateId": self.template,
                        "Version": "$Latest",
                    },
                    "Overrides": [
                        {"InstanceType": kind, "SubnetId": self.subnets[zone]}
                        for kind in TYPES
                        for zone in zones
                    ],
                }
            ],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": count,
                "DefaultTargetCapacityType": "spot",
            },
            "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": "deployment", "Value": "test"}]}
            ],
        }
        if token:
            request["ClientToken"] = token
        return self.ec2.create_fleet(**(request | changes))

    def launch(self, count: int = 1) -> list[str]:
        """Launch a fleet; return the ids of its instances."""
        return ids_of(self.fleet(count))

    def run(self, zone: str = "us-east-1a", token: str = "", **changes: Any) -> Any:
        """RunInstances: one, on demand, in this zone's subnet."""
        request: dict[str, Any] = {
            "ImageId": self.image,
            "InstanceType": TYPES[0],
            "SubnetId": self.subnets[zone],
            "MinCount": 1,
            "MaxCount": 1,
        }
        if token:
            request["ClientToken"] = token
        return self.ec2.run_instances(**(request | changes))

    def shown(self, ids: list[str] | None = None) -> list[dict[str, Any]]:
        """Describe these instances, or all."""
        answer = self.ec2.describe_instances(**({"InstanceIds": ids} if ids else {}))
        return [each for group in answer["Reservations"] for each in group["Instances"]]

    def state(self, instance_id: str) -> str:
        """Return its visible state, or "hidden"."""
        found = [each for each in self.shown() if each["InstanceId"] == instance_id]
        return str(found[0]["State"]["Name"]) if found else "hidden"


def ids_of(fleet: Any) -> list[str]:
    """Return the ids of all instances in CreateFleet's answer."""
    return [each for group in fleet["Instances"] for each in group["InstanceIds"]]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for an effect of the cloud's own timers."""
    deadline = time.monotonic() + EVENTUALLY_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def code_of(error: Any) -> str:
    """Return the code of a ClientError."""
    return str(error.value.response["Error"]["Code"])
