"""The account, its region, and its quota of Spot instances."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ProfileNotFound

from deploy import clock
from deploy.refusal import Refusal, code_of, off_time

SPOT_QUOTA = "L-34B43A08"
"""All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests, in vCPUs."""

COMFORTABLE_VCPUS = 32

LINKED_ROLES = ("spot.amazonaws.com", "ec2fleet.amazonaws.com")
"""EC2 needs a service-linked role for each, once an account. They are made here, so that the
launcher needs no permission to make them."""


@dataclass(frozen=True)
class Account:
    """An account and a region, reached through *session*."""

    session: Any
    account_id: str
    region: str
    partition: str
    caller: str

    def client(self, service: str, **more: Any) -> Any:
        """Return a client of *service* in this region."""
        config = Config(
            retries={"mode": "standard", "max_attempts": 8}, user_agent_extra="docker-job"
        )
        return self.session.client(service, region_name=self.region, config=config, **more)


def open_account(profile: str | None, region: str | None) -> Account:
    """Open the account of the standard chain of credentials. Raises `Refusal`."""
    try:
        session: Any = boto3.Session(profile_name=profile)
    except ProfileNotFound as error:
        known = ", ".join(boto3.Session().available_profiles) or "none is configured"
        raise Refusal(
            f"There is no AWS profile {profile!r}: name an existing one ({known})."
        ) from error
    chosen = region or os.environ.get("AWS_REGION") or session.region_name
    if not chosen:
        raise Refusal("No region is named: add --region us-east-1, or set AWS_REGION.")
    # The SDK's own timeout is a minute a try, too long for an interactive command.
    config = Config(connect_timeout=5, read_timeout=15, retries={"max_attempts": 2})
    identity = session.client("sts", region_name=chosen, config=config).get_caller_identity()
    # STS takes a signature that is ten minutes off, EC2 does not.
    trouble = clock.trouble(identity, datetime.now(UTC))
    if trouble:
        raise off_time(trouble)
    return Account(
        session=session,
        account_id=identity["Account"],
        region=chosen,
        partition=identity["Arn"].split(":")[1],
        caller=identity["Arn"].rpartition(":")[2],
    )


@dataclass(frozen=True)
class SpotQuota:
    """The limit of running Spot vCPUs; None where AWS does not return it."""

    vcpus: float | None

    @property
    def text(self) -> str:
        """The quota in words, for the table of checks."""
        if self.vcpus is None:
            return "not known (AWS did not return it; a new account has 5)"
        few = self.vcpus < COMFORTABLE_VCPUS
        return f"{self.vcpus:g} vCPUs at once" + (
            f": few; jobs beyond it wait. Ask for more in Service Quotas, {SPOT_QUOTA}"
            if few
            else ""
        )


def spot_quota(account: Account) -> SpotQuota:
    """Read the account's quota, where that is allowed."""
    try:
        answer = account.client("service-quotas").get_service_quota(
            ServiceCode="ec2", QuotaCode=SPOT_QUOTA
        )
    except (BotoCoreError, ClientError):
        return SpotQuota(None)  # not allowed to look, or the partition has no such service
    return SpotQuota(float(answer["Quota"]["Value"]))


def refuse_no_spot(quota: SpotQuota) -> None:
    """Raise `Refusal` where no Spot instance can run."""
    if quota.vcpus == 0:
        raise Refusal(
            f"The account's quota of Spot vCPUs is 0, so no job could run: ask for more in Service "
            f"Quotas ({SPOT_QUOTA}), or add --ignore-quota."
        )


def ensure_linked_roles(account: Account) -> None:
    """Make the roles that EC2 needs for Spot and fleets, unless they exist."""
    iam = account.client("iam")
    for service in LINKED_ROLES:
        try:
            iam.create_service_linked_role(AWSServiceName=service)
        except ClientError as error:
            # IAM answers InvalidInput, "has been taken in this account", where the role exists.
            taken = code_of(error) == "InvalidInput" and "has been taken" in str(error)
            if not taken and code_of(error) != "EntityAlreadyExists":
                raise
