"""The account's quotas of running vCPUs: one for each group of families, on each market.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-limits.html and
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html have the names and
the defaults of a new account; the codes are those of Service Quotas, `--service-code ec2`.
AWS has merged the quotas of P2 to P4 and of P5 into one of P.
"""

import re
from collections.abc import Mapping

from msgspec import Struct

from shared.events.events import Market

SERVICE = "ec2"
"""In Service Quotas, of all these quotas."""


class Quota(Struct, frozen=True, order=True):
    """A quota in Service Quotas; *families* are the letters of type names that it counts."""

    market: Market
    code: str
    name: str
    default_vcpus: int
    families: tuple[str, ...]


STANDARD = ("a", "c", "d", "h", "i", "m", "r", "t", "z")

QUOTAS: tuple[Quota, ...] = (
    Quota(
        "spot",
        "L-34B43A08",
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
        5,
        STANDARD,
    ),
    Quota("spot", "L-3819A6DF", "All G and VT Spot Instance Requests", 0, ("g", "vt")),
    Quota("spot", "L-7212CCBC", "All P Spot Instance Requests", 0, ("p",)),
    Quota("spot", "L-85EED4F7", "All DL Spot Instance Requests", 0, ("dl",)),
    Quota("spot", "L-88CF9481", "All F Spot Instance Requests", 0, ("f",)),
    Quota("spot", "L-B5D1601B", "All Inf Spot Instance Requests", 0, ("inf",)),
    Quota("spot", "L-6B0D517C", "All Trn Spot Instance Requests", 0, ("trn",)),
    Quota("spot", "L-E3A00192", "All X Spot Instance Requests", 0, ("x",)),
    Quota(
        "on-demand",
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        5,
        STANDARD,
    ),
    Quota("on-demand", "L-DB2E81BA", "Running On-Demand G and VT instances", 0, ("g", "vt")),
    Quota("on-demand", "L-417A185B", "Running On-Demand P instances", 0, ("p",)),
    Quota("on-demand", "L-6E869C2A", "Running On-Demand DL instances", 0, ("dl",)),
    Quota("on-demand", "L-74FC7D96", "Running On-Demand F instances", 0, ("f",)),
    Quota("on-demand", "L-1945791B", "Running On-Demand Inf instances", 0, ("inf",)),
    Quota("on-demand", "L-2C3B7624", "Running On-Demand Trn instances", 0, ("trn",)),
    Quota("on-demand", "L-7295265B", "Running On-Demand X instances", 0, ("x",)),
    Quota("on-demand", "L-43DA4232", "Running On-Demand High Memory instances", 0, ("u",)),
    Quota("on-demand", "L-F7808C92", "Running On-Demand HPC instances", 0, ("hpc",)),
)

_BY_FAMILY: dict[tuple[Market, str], Quota] = {
    (each.market, family): each for each in QUOTAS for family in each.families
}

# No spot quota counts HPC, and none at all counts Macs, which run on dedicated hosts.
_WHOLE = {family for each in QUOTAS for family in each.families if family[1:]} | {"mac"}

_LETTERS = re.compile(r"[a-z]+")


def letters_of(instance_type: str) -> str:
    """Return the letters with which a type's name begins: `im` of `im4gn.large`.

    https://docs.aws.amazon.com/ec2/latest/instancetypes/instance-type-names.html
    """
    found = _LETTERS.match(instance_type)
    return found[0] if found else ""


def quota_of(instance_type: str, market: Market) -> Quota | None:
    """Return the quota that counts a type's vCPUs; None for a family without one, as Mac's.

    The letters count whole (`vt`, `inf`), or else by the first one (`im` as I, `gr` as G).
    """
    letters = letters_of(instance_type)
    return _BY_FAMILY.get((market, letters if letters in _WHOLE else letters[:1]))


def quota_with_code(code: str) -> Quota | None:
    """Return the quota with this code."""
    return next((each for each in QUOTAS if each.code == code), None)


def explain(quota: Quota, region: str, vcpus: int = 0) -> str:
    """Name a quota that has no room for so many *vcpus* (0: not known), and how to raise it."""
    state = f"has no room for {vcpus} vCPUs" if vcpus else "is used up"
    return (
        f"the quota {quota.name!r} ({quota.code}) in {region} {state} (a new account has "
        f"{quota.default_vcpus} vCPUs); raise it in the Service Quotas console, or with "
        f"`{command_to_raise(quota, region)}`"
    )


def explain_all(quotas: Mapping[Quota, int], region: str) -> str:
    """Explain several, each with the vCPUs that it has no room for."""
    return "; ".join(explain(each, region, quotas[each]) for each in sorted(quotas))


def command_to_raise(quota: Quota, region: str, vcpus: int | None = None) -> str:
    """Return the command line that asks AWS for more, or for *vcpus*."""
    return (
        f"aws service-quotas request-service-quota-increase --service-code {SERVICE} "
        f"--quota-code {quota.code} --desired-value {vcpus or 'VCPUS'} --region {region}"
    )
