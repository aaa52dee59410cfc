"""Types that cannot share a version of the template: in one fleet, each group has its own."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from shared.compute.ec2.instance_types import DescribedType
from shared.compute.port import Plan

P = TypeVar("P")


class Setup(NamedTuple):
    """The properties of types that decide what a version of the template has for them."""

    gpus: bool
    takes_credits: bool


def by_setup(
    places: Sequence[tuple[DescribedType, P]], architecture: str
) -> dict[Setup, list[tuple[DescribedType, P]]]:
    """Group pools by what their instances need of the template.

    A job that names types may mix them: types with and without GPUs boot different images, and EC2
    refuses a credit option for a type that takes none.
    """
    found: dict[Setup, list[tuple[DescribedType, P]]] = {}
    for kind, at in places:
        setup = Setup(kind.has_nvidia and architecture == "x86_64", kind.takes_credits)
        found.setdefault(setup, []).append((kind, at))
    return found


def join_fleets(plans: Sequence[Plan]) -> Plan:
    """Join plans of one offer: a fleet may launch from several versions of the template.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateFleet.html: up to 50.
    """
    first = plans[0]
    merged = ("zones", "volume_gib", "public_ipv4", "vcpus")
    configs = [each for plan in plans for each in plan["fleet"]["LaunchTemplateConfigs"]]
    return {
        **first,
        **{
            name: {key: each for plan in plans for key, each in plan[name].items()}
            for name in merged
        },
        "fleet": {**first["fleet"], "LaunchTemplateConfigs": configs},
    }
