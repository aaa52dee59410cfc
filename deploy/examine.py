"""Checks of the account before anything is made: what would fail only once jobs are launched.

They only read, with the deployer's credentials. On a deployment, `operations.doctor` checks more,
with the credentials of the launcher and the reaper (docs/how-to/check-a-deployment.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TextIO

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.refusal import Refusal, code_of

SERVICES_QUOTA = "L-1216C47A"
"""Running On-Demand Standard instances, in vCPUs: the services' own instance is one."""

SPOT_ROLE = "AWSServiceRoleForEC2Spot"
JOB_IMAGE = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
JOB_TYPE = "m5.large"
"""A type for which every region with Spot has a price."""

WARN_SECONDS, FAIL_SECONDS = 60.0, 300.0
"""AWS refuses signatures that are five minutes off."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, and what to do about it."""

    status: Literal["ok", "warn", "fail"]
    name: str
    found: str
    do: str = ""

    def __str__(self) -> str:
        """Return the finding in one line."""
        return f"{self.name}: {self.found}" + (f"; {self.do}" if self.do else "")


def examine(
    account: Account, parameters: Mapping[str, str], now: datetime | None = None
) -> list[Finding]:
    """Check clock, quota, Spot's role, image and prices; *parameters* are the stack's."""
    return [
        *_clock(account, now or datetime.now(UTC)),
        *_quota(account),
        *_spot_role(account),
        *_image(account, parameters),
        *_prices(account),
    ]


def report(findings: list[Finding], out: TextIO) -> None:
    """Print each finding that is not ok, and how many are. Raises `Refusal` for a failure."""
    good = [each.name for each in findings if each.status == "ok"]
    if good:
        out.write(f"  Checked: {', '.join(good)}\n")
    for each in findings:
        if each.status == "warn":
            out.write(f"  To note: {each}\n")
    failed = [str(each) for each in findings if each.status == "fail"]
    if failed:
        out.flush()
        raise Refusal(". ".join(failed))


def _clock(account: Account, now: datetime) -> Iterator[Finding]:
    answer = account.client("sts").get_caller_identity()
    header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if not header:
        return
    seconds = (parsedate_to_datetime(header) - now).total_seconds()
    if abs(seconds) <= WARN_SECONDS:
        yield Finding("ok", "clock", "it agrees with AWS's")
        return
    yield Finding(
        "fail" if abs(seconds) > FAIL_SECONDS else "warn",
        "clock",
        f"this machine is {abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead of'} AWS",
        "synchronise it (NTP): AWS refuses calls that are 300 s off",
    )


def _quota(account: Account) -> Iterator[Finding]:
    """Check that the services' own instance may run; deploy/account.py checks Spot."""
    answer = _read(
        lambda: account.client("service-quotas").get_service_quota(
            ServiceCode="ec2", QuotaCode=SERVICES_QUOTA
        )
    )
    if answer is None:
        return
    vcpus = float(answer["Quota"]["Value"])
    text = f"{vcpus:g} on-demand vCPUs ({SERVICES_QUOTA})"
    if vcpus < 2:
        do = (
            "the services' own instance needs 2: aws service-quotas "
            f"request-service-quota-increase --service-code ec2 --quota-code {SERVICES_QUOTA} "
            f"--desired-value 32 --region {account.region}"
        )
        yield Finding("fail", "on-demand quota", text, do)
    else:
        yield Finding("ok", "on-demand quota", text)


def _spot_role(account: Account) -> Iterator[Finding]:
    try:
        account.client("iam").get_role(RoleName=SPOT_ROLE)
    except ClientError as error:
        if code_of(error) == "NoSuchEntity":
            yield Finding("ok", "Spot's role", "it is made with the stack")
        return
    yield Finding("ok", "Spot's role", SPOT_ROLE)


def _image(account: Account, parameters: Mapping[str, str]) -> Iterator[Finding]:
    if "EC2_IMAGE_ID" in parameters.get("Settings", ""):
        return  # jobs boot that one
    try:
        account.client("ssm").get_parameter(Name=JOB_IMAGE)
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        yield Finding(
            "warn",
            "jobs' image",
            f"{account.region} has no {JOB_IMAGE}",
            "set DOCKER_JOB_EC2_IMAGE_ID, or choose another region",
        )
        return
    yield Finding("ok", "jobs' image", JOB_IMAGE)


def _prices(account: Account) -> Iterator[Finding]:
    answer = _read(
        lambda: account.client("ec2").describe_spot_price_history(
            InstanceTypes=[JOB_TYPE],
            ProductDescriptions=["Linux/UNIX"],
            StartTime=datetime.now(UTC),
        )
    )
    if answer is None:
        return
    if answer["SpotPriceHistory"]:
        yield Finding("ok", "Spot prices", f"{JOB_TYPE} has one")
    else:
        do = "name jobs' types that this region has (DOCKER_JOB_EC2_INSTANCE_TYPES)"
        yield Finding("warn", "Spot prices", f"none of {JOB_TYPE} in {account.region}", do)


def _read(call: Any) -> dict[str, Any] | None:
    """Return the answer of a call without which a deployment works; None: it is refused."""
    try:
        answer: dict[str, Any] = call()
    except ClientError:
        return None
    return answer
