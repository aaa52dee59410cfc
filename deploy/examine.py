"""Checks of the account before anything is made: what would fail only once jobs are launched.

They only read, with the deployer's credentials. On a deployment, `operations.doctor` checks more,
with the credentials of the launcher and the reaper (docs/how-to/check-a-deployment.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from botocore.exceptions import ClientError

from deploy import clock, quotas, settings
from deploy.account import Account
from deploy.quotas import Need
from deploy.refusal import Refusal, code_of

SERVICES = Need(quotas.CODES[quotas.ON_DEMAND][quotas.STANDARD], 2)
"""Running On-Demand Standard instances, in vCPUs: the services' own instance is one."""

SPOT_ROLE = "AWSServiceRoleForEC2Spot"
JOB_IMAGE = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
JOB_TYPE = "m5.large"
"""A type for which every region with Spot has a price."""

JOB_VCPUS = "2"
"""Of `EC2_VCPUS`, for jobs that name no size."""

NOT_CHECKED = """\
  Not checked: your permissions to make each resource (CloudFormation names a missing one when it
    gets there, and rolls back), the services' own permissions, and the way of instances to the API:
    for these run the doctor afterwards (docs/how-to/check-a-deployment.md).
"""


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
    account: Account,
    parameters: Mapping[str, str],
    now: datetime | None = None,
    *,
    ignore_quota: bool = False,
) -> list[Finding]:
    """Check clock, quotas, Spot's role, image and prices; *parameters* are the stack's.

    *ignore_quota*: a quota too small for any job is only noted.
    """
    return [
        *_clock(account, now or datetime.now(UTC)),
        *_quota(account),
        *_job_quotas(account, parameters, ignored=ignore_quota),
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
    out.write(NOT_CHECKED)
    failed = [str(each) for each in findings if each.status == "fail"]
    if failed:
        out.flush()
        raise Refusal(". ".join(failed))


def _clock(account: Account, now: datetime) -> Iterator[Finding]:
    answer = account.client("sts").get_caller_identity()
    seconds = clock.ahead(answer, now)
    if seconds is None:
        return
    if abs(seconds) <= clock.WARN_SECONDS:
        yield Finding("ok", "clock", "it agrees with AWS's")
        return
    yield Finding(
        "fail" if abs(seconds) > clock.FAIL_SECONDS else "warn",
        "clock",
        clock.describe(seconds),
        clock.SYNCHRONISE,
    )


def _quota(account: Account) -> Iterator[Finding]:
    """Check that the services' own instance may run."""
    vcpus = quotas.read_quota(account, SERVICES.code)
    if vcpus is None:
        return
    text = f"{vcpus:g} on-demand vCPUs ({SERVICES.code})"
    if vcpus < SERVICES.least:
        more = quotas.command_to_raise(account, SERVICES)
        do = f"the services' own instance needs {SERVICES.least}: {more}"
        yield Finding("fail", "on-demand quota", text, do)
    else:
        yield Finding("ok", "on-demand quota", text)


def _job_quotas(
    account: Account, parameters: Mapping[str, str], *, ignored: bool
) -> Iterator[Finding]:
    """Check that an instance of the types that jobs get by default fits into a quota."""
    chosen = settings.read(parameters.get("Settings", ""))
    capacity = chosen.get("CAPACITY", "spot")
    market = quotas.ON_DEMAND if capacity == "on_demand" else quotas.SPOT
    # After some time without Spot, `spot_then_on_demand` buys.
    ignored = ignored or capacity == "spot_then_on_demand"
    sizes = _sizes(account, chosen)
    if sizes is None:
        names = chosen["EC2_INSTANCE_TYPES"]
        yield Finding(
            "warn",
            "jobs' types",
            f"EC2 does not describe {names} in {account.region}: their quotas are not checked",
            "check the names, and allow ec2:DescribeInstanceTypes",
        )
        return
    wanted = quotas.needs(sizes, market)
    read = {each: quotas.read_quota(account, each.code) for each in wanted}
    short = [each for each, vcpus in read.items() if vcpus is not None and vcpus < each.least]
    none_left = bool(wanted) and len(short) == len(wanted) and not ignored
    for each in short:
        yield Finding(
            "fail" if none_left else "warn",
            f"jobs' quota {each.code}",
            f"{read[each]:g} {market} vCPUs, and the smallest type of jobs has {each.least}",
            f"ask for more: {quotas.command_to_raise(account, each)}"
            + ("; or add --ignore-quota" if none_left else ""),
        )
    if not short and any(vcpus is not None for vcpus in read.values()):
        yield Finding("ok", "jobs' quota", f"{len(read)} {market} quotas")


def _sizes(account: Account, chosen: Mapping[str, str]) -> dict[str, int] | None:
    """Return the vCPUs of the types of jobs; None: EC2 refuses a type, or the call."""
    named = chosen.get("EC2_INSTANCE_TYPES", "").replace(",", " ").split()
    if not named:
        return {JOB_TYPE: int(chosen.get("EC2_VCPUS", JOB_VCPUS))}
    answer = _read(lambda: account.client("ec2").describe_instance_types(InstanceTypes=named))
    if answer is None:
        return None
    return {
        each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for each in answer["InstanceTypes"]
    }


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
