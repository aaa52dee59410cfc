"""The account's quotas of vCPUs, one for each group of families on each market.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-limits.html
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from deploy.account import COMFORTABLE_VCPUS, Account

SPOT, ON_DEMAND = "spot", "on-demand"
STANDARD = ("a", "c", "d", "h", "i", "m", "r", "t", "z")
CODES: Mapping[str, Mapping[tuple[str, ...], str]] = {
    SPOT: {
        STANDARD: "L-34B43A08",
        ("g", "vt"): "L-3819A6DF",
        ("p",): "L-7212CCBC",
        ("dl",): "L-85EED4F7",
        ("f",): "L-88CF9481",
        ("inf",): "L-B5D1601B",
        ("trn",): "L-6B0D517C",
        ("x",): "L-E3A00192",
    },
    ON_DEMAND: {
        STANDARD: "L-1216C47A",
        ("g", "vt"): "L-DB2E81BA",
        ("p",): "L-417A185B",
        ("dl",): "L-6E869C2A",
        ("f",): "L-74FC7D96",
        ("inf",): "L-1945791B",
        ("trn",): "L-2C3B7624",
        ("x",): "L-7295265B",
        ("u",): "L-43DA4232",
        ("hpc",): "L-F7808C92",
    },
}
"""The codes by the letters of the families that they count."""

WHOLE = {each for codes in CODES.values() for group in codes for each in group if each[1:]}


@dataclass(frozen=True)
class Need:
    """A quota, and the vCPUs of the smallest instance that a job may get under it."""

    code: str
    least: int


def code_of(instance_type: str, market: str) -> str:
    """Return the code of the quota that counts a type; empty for a family without one."""
    found = re.match(r"[a-z]+", instance_type)
    letters = found[0] if found else ""
    family = letters if letters in WHOLE | {"mac"} else letters[:1]
    return next((code for group, code in CODES[market].items() if family in group), "")


def needs(sizes: Mapping[str, int], market: str) -> list[Need]:
    """Return what instances of these types, with their vCPUs, need at least. Pure."""
    least: dict[str, int] = {}
    for name, size in sizes.items():
        if code := code_of(name, market):
            least[code] = min(size, least.get(code, size))
    return [Need(code, size) for code, size in sorted(least.items())]


def read_quota(account: Account, code: str) -> float | None:
    """Read a quota; None: it may not be read, or the partition has no such service."""
    try:
        answer = account.client("service-quotas").get_service_quota(
            ServiceCode="ec2", QuotaCode=code
        )
    except (BotoCoreError, ClientError):
        return None
    return float(answer["Quota"]["Value"])


def command_to_raise(account: Account, need: Need) -> str:
    """Return the command line that asks AWS for more."""
    return (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {need.code} --desired-value {max(COMFORTABLE_VCPUS, 2 * need.least)} "
        f"--region {account.region}"
    )
