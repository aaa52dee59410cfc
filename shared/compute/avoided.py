"""Pools in which instances have not booted lately: others come first, where there are some. Pure.

A broken zone, subnet or type is no refusal of the cloud: it has capacity, and it is cheap, so it
would be chosen again and again.
https://github.com/aws/karpenter-provider-aws/issues/6723
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import Struct

P = TypeVar("P")


class Avoided(Struct, frozen=True, kw_only=True):
    """Instances of this type in this zone; empty is any."""

    instance_type: str = ""
    zone: str = ""

    def fits(self, instance_type: str, zone: str) -> bool:
        """Return whether a pool is meant."""
        return self.instance_type in ("", instance_type) and self.zone in ("", zone)


def least_avoided(
    places: Sequence[P], avoid: Sequence[Avoided], pool: Callable[[P], tuple[str, str]]
) -> list[P]:
    """Return those of *places* that fewest of *avoid* mean; *pool* gives their type and zone."""
    marks = [sum(each.fits(*pool(place)) for each in avoid) for place in places]
    fewest = min(marks, default=0)
    return [place for place, mark in zip(places, marks, strict=True) if mark == fewest]
