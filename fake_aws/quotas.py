"""The account's quotas of running vCPUs: one for each group of families, on each market.

Names, codes and a new account's values are those of
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-limits.html and
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html.
"""

import re
from collections import Counter

from fake_aws.errors import AwsError
from fake_aws.settings import CloudSettings

SPOT, ON_DEMAND = "spot", "on-demand"

GROUPS = {
    **dict.fromkeys("acdhimrtz", "standard"),
    **dict.fromkeys(("g", "gr", "vt"), "g"),
    **{name: name for name in ("p", "dl", "f", "inf", "trn", "x", "u", "hpc")},
    **dict.fromkeys(("im", "is"), "standard"),
}
"""The group of a family, by its letters."""

CODES = {
    (SPOT, "standard"): "L-34B43A08",
    (SPOT, "g"): "L-3819A6DF",
    (SPOT, "p"): "L-7212CCBC",
    (SPOT, "dl"): "L-85EED4F7",
    (SPOT, "f"): "L-88CF9481",
    (SPOT, "inf"): "L-B5D1601B",
    (SPOT, "trn"): "L-6B0D517C",
    (SPOT, "x"): "L-E3A00192",
    (ON_DEMAND, "standard"): "L-1216C47A",
    (ON_DEMAND, "g"): "L-DB2E81BA",
    (ON_DEMAND, "p"): "L-417A185B",
    (ON_DEMAND, "dl"): "L-6E869C2A",
    (ON_DEMAND, "f"): "L-74FC7D96",
    (ON_DEMAND, "inf"): "L-1945791B",
    (ON_DEMAND, "trn"): "L-2C3B7624",
    (ON_DEMAND, "x"): "L-7295265B",
    (ON_DEMAND, "u"): "L-43DA4232",
    (ON_DEMAND, "hpc"): "L-F7808C92",
}

NEW_ACCOUNT = {"standard": 5}
"""vCPUs of a new account; of every other group 0."""


def group_of(instance_type: str) -> str:
    """Return the group of a type's family; empty for one that no quota counts."""
    letters = re.match(r"[a-z]*", instance_type)
    return GROUPS.get(letters[0] if letters else "", "")


class Quotas:
    """The limits and their use, in vCPUs. None: no limit."""

    def __init__(self, settings: CloudSettings) -> None:
        self._limits: dict[tuple[str, str], int | None] = dict.fromkeys(CODES)
        self._used: Counter[tuple[str, str]] = Counter()
        if settings.new_account_quotas:
            self._limits = {each: NEW_ACCOUNT.get(each[1], 0) for each in CODES}
        for market, vcpus in ((SPOT, settings.spot_vcpus), (ON_DEMAND, settings.on_demand_vcpus)):
            if vcpus is not None:
                self.set(vcpus, market)

    def set(self, vcpus: int | None, market: str, family: str = "") -> None:
        """Set the limit of a family's group (any of its letters), or of each group of a market."""
        group = GROUPS[family.lower()] if family else ""
        for key in self._limits:
            if key[0] == market and group in ("", key[1]):
                self._limits[key] = vcpus

    def limit(self, instance_type: str, market: str) -> int | None:
        """Return the limit that counts this type."""
        return self._limits.get((market, group_of(instance_type)))

    def limit_of(self, code: str) -> int | None:
        """Return the limit of a quota by its code. Raises KeyError for an unknown one."""
        return self._limits[{each: key for key, each in CODES.items()}[code]]

    def take(self, instance_type: str, market: str, vcpus: int) -> None:
        """Count an instance. Raises AwsError above the limit."""
        key = market, group_of(instance_type)
        limit = self._limits.get(key)
        if limit is not None and self._used[key] + vcpus > limit:
            raise _over(market, limit)
        self._used[key] += vcpus

    def give_back(self, instance_type: str, market: str, vcpus: int) -> None:
        """Count an instance no more."""
        self._used[market, group_of(instance_type)] -= vcpus


def _over(market: str, limit: int) -> AwsError:
    if market == SPOT:
        return AwsError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    return AwsError(
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your current vCPU limit of "
        f"{limit} allows for the instance bucket that the specified instance type belongs to. "
        "Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to "
        "this limit.",
    )
