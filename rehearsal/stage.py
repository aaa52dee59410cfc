"""The stage of the scenario: a cloud, an account in it, and the system, removed after the block."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3

from embedded.data_dir import make_private_dir
from embedded.secrets import local_secrets
from fake_aws import CloudSettings, CloudThread, start_cloud
from operations.wiring import SERVICES
from rehearsal.account import ROLE, Account, make_user, prepare
from rehearsal.system import System

LIFETIME_SECONDS = 900
TERMINATED_STATE = "terminated"

# The cloud is sped up, so that AWS's minutes are seconds: the system's intervals are shorter too.
SPED_UP = {
    "HEARTBEAT_SECONDS": "0.5",
    "INTERRUPTION_MARGIN_SECONDS": "2",
    "METADATA_POLL_SECONDS": "0.25",
    "REAP_WATCH_SECONDS": "0.5",
    "RETRY_FIRST_SECONDS": "0.2",
    "STOP_GRACE_SECONDS": "2",
    "MAX_LIFETIME_SECONDS": str(LIFETIME_SECONDS),
}


@dataclass(frozen=True)
class Stage:
    """A running system on a cloud, with the cloud's control API."""

    cloud: CloudThread
    account: Account
    system: System


@contextlib.contextmanager
def open_stage(settings: CloudSettings, **changes: str) -> Iterator[Stage]:
    """Run the system for the length of the block. *changes* are settings without the prefix."""
    with start_cloud(settings) as cloud, contextlib.closing(System()) as system:
        account = prepare(cloud)
        deployment = deployment_of(system.data)
        credential = make_user(cloud, account, deployment)
        ours = {f"DOCKER_JOB_{name}": value for name, value in {**SPED_UP, **changes}.items()}
        system.start(
            {
                **cloud.environment(credential),
                "DOCKER_JOB_COMPUTE_URL": f"ec2://{account.region}",
                "DOCKER_JOB_EC2_INSTANCE_PROFILE": ROLE,
                "DOCKER_JOB_EC2_SECURITY_GROUPS": account.security_group,
                "DOCKER_JOB_EC2_PRICES": "api",
                "DOCKER_JOB_INSTANCE_ROLE_ARN": account.role_arn,
                # Agents sign for this host, and find it in their own environment.
                "DOCKER_JOB_STS_URL": cloud.endpoint_url,
                "DOCKER_JOB_INTERRUPTION_QUEUE_URL": account.queue_url,
                # The instances share this machine's engine, and no registry need be reached.
                "DOCKER_JOB_LOCAL_IMAGES": "yes",
                **ours,
            }
        )
        yield Stage(cloud, account, system)


def deployment_of(data: Path) -> str:
    """Return the name of the deployment, which policies contain."""
    make_private_dir(data)
    return local_secrets(data, tuple(service.NAME for service in SERVICES)).deployment


def instances_left(stage: Stage) -> list[str]:
    """List the instances of this account that are not terminated in EC2."""
    ec2 = boto3.client("ec2", **stage.cloud.client_arguments())
    pages = ec2.get_paginator("describe_instances").paginate()
    return [
        each["InstanceId"]
        for page in pages
        for group in page["Reservations"]
        for each in group["Instances"]
        if each["State"]["Name"] != TERMINATED_STATE
    ]
