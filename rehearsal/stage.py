"""A stage: the cloud, an account in it, and the system on it. Left, nothing of any is there."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedded.data_dir import make_private_dir
from embedded.secrets import local_secrets
from fake_aws import CloudSettings, CloudThread, start_cloud
from operations.migrate import SERVICES
from rehearsal.account import ROLE, Account, make_user, prepare
from rehearsal.system import System

LIFETIME_SECONDS = 900

# In the cloud's haste: what takes AWS minutes takes it seconds, and the system looks accordingly.
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
    """What there is to play with."""

    cloud: CloudThread
    account: Account
    system: System


@contextlib.contextmanager
def open_stage(settings: CloudSettings, **changes: str) -> Iterator[Stage]:
    """The system runs when the block begins. *changes* are its settings, without the prefix."""
    with start_cloud(settings) as cloud, contextlib.closing(System()) as system:
        account = prepare(cloud)
        deployment = _deployment(system.data)
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
                **ours,
            }
        )
        yield Stage(cloud, account, system)


def _deployment(data: Path) -> str:
    """The name that the system will have, for policies that name it."""
    make_private_dir(data)
    return local_secrets(data, tuple(service.NAME for service in SERVICES)).deployment
