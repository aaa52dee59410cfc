"""The tests' AWS: moto behind a socket, so that the scripts run unchanged."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.acm.models import acm_backends
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.ssm.models import Parameter, ssm_backends

from tests.support.deploy.faulty_moto import Faults
from tests.support.deploy.strict_moto import be_strict

ROOT = Path(__file__).resolve().parent.parent.parent
ACCOUNT = "123456789012"
REGION = "us-east-1"
IMAGE_ID = "ami-0123456789abcdef0"
UNSUPPORTED = re.compile(r"No Moto CloudFormation support for (\S+)")


class MotoCloud:
    """moto's server, and the scripts run against it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: list[Any] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": "/nonexistent",
            "XDG_CONFIG_HOME": tempfile.mkdtemp(prefix="docker-job-test-config-"),
        }

    def client(self, service: str) -> Any:
        """Make a client, to inspect and to prepare."""
        client: Any = boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close the clients' connections."""
        for each in self._clients:
            each.close()

    def run(self, script: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run deploy/*script*; an empty variable of *env* is removed."""
        merged = {name: value for name, value in {**self.env, **env}.items() if value}
        return subprocess.run(
            [ROOT / "deploy" / script, *arguments],
            env=merged,
            cwd="/",
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=100,
            check=False,
        )

    def deploy(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run deploy.sh."""
        return self.run("deploy.sh", *arguments, **env)

    def destroy(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run destroy.sh."""
        return self.run("destroy.sh", *arguments, **env)

    def instances(self, tag: str) -> list[dict[str, Any]]:
        """List the instances with *tag* that are not terminated."""
        found = self.client("ec2").describe_instances(
            Filters=[
                {"Name": "tag-key", "Values": [tag]},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
        )
        return [each for group in found["Reservations"] for each in group["Instances"]]


def open_default_vpc(cloud: MotoCloud) -> None:
    """Give the default VPC its internet gateway and route, which AWS's has and moto's lacks.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
    """
    ec2 = cloud.client("ec2")
    [vpc] = ec2.describe_vpcs()["Vpcs"]
    route_to_internet(cloud, vpc["VpcId"])


def route_to_internet(cloud: MotoCloud, vpc: str) -> None:
    """Attach an internet gateway, and route to it by the main table."""
    ec2 = cloud.client("ec2")
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    [table] = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])[
        "RouteTables"
    ]
    ec2.create_route(
        RouteTableId=table["RouteTableId"],
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=gateway,
    )


def certificate(cloud: MotoCloud, domain: str, *more: str, status: str = "ISSUED") -> str:
    """Make a certificate, whose validation moto would take a minute for; return its ARN."""
    names = {"SubjectAlternativeNames": [domain, *more]} if more else {}
    asked = cloud.client("acm").request_certificate(DomainName=domain, **names)
    arn = str(asked["CertificateArn"])
    acm_backends[ACCOUNT][REGION]._certificates[arn].status = status
    return arn


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoCloud]:
    """Make an empty account with a default VPC, and Canonical's images, which moto lacks."""
    be_strict(monkeypatch)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.post(f"{url}/moto-api/reset", timeout=60).raise_for_status()
    for architecture in ("arm64", "amd64"):
        name = (
            "/aws/service/canonical/ubuntu/server/24.04/stable/current/"
            f"{architecture}/hvm/ebs-gp3/ami-id"
        )
        ssm_backends[ACCOUNT][REGION]._parameters[name].append(
            Parameter(  # type: ignore[abstract]
                account_id=ACCOUNT,
                name=name,
                value=IMAGE_ID,
                parameter_type="String",
                description="",
                allowed_pattern=None,
                keyid=None,
                last_modified_date=datetime(2026, 1, 1, tzinfo=UTC),
                version=1,
                data_type="text",
            )
        )
    cloud = MotoCloud(url)
    open_default_vpc(cloud)
    try:
        yield cloud
    finally:
        cloud.close()
        server.stop()
        shutil.rmtree(cloud.env["XDG_CONFIG_HOME"])


@pytest.fixture
def faults(aws: MotoCloud, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Return the faults of *aws*: none yet."""
    return Faults(monkeypatch)


class Unsupported(logging.Handler):
    """Collects the resource types that moto's CloudFormation does not support."""

    def __init__(self) -> None:
        super().__init__()
        self.types: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if found := UNSUPPORTED.match(record.getMessage()):
            self.types.add(found[1])


@pytest.fixture
def unsupported() -> Iterator[set[str]]:
    """Return the types that moto has skipped so far in this test."""
    handler, logger = Unsupported(), logging.getLogger("moto")
    logger.addHandler(handler)
    yield handler.types
    logger.removeHandler(handler)
