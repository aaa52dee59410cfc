"""Instance types as EC2 describes them. `shared.compute.choice` chooses among them."""

import re
from collections.abc import Mapping
from typing import Any

from shared.compute.ec2.quotas import letters_of
from shared.events.offers import InstanceType

GPU_MAKER = "NVIDIA"
"""Docker's `--gpus` supports these alone: https://docs.docker.com/engine/containers/gpu/"""

ACCELERATORS = (
    *("GpuInfo", "FpgaInfo", "InferenceAcceleratorInfo"),
    *("MediaAcceleratorInfo", "NeuronInfo"),
)
"""Of InstanceTypeInfo: devices that a job without GPUs would pay for in vain.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceTypeInfo.html
"""

ACCELERATED_FAMILIES = frozenset({"g", "gr", "p", "f", "vt", "inf", "trn", "dl"})
"""EC2 shows no device of some of these types, such as trn2u.48xlarge.
https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
"""

OLDEST = {"a": 2, "c": 5, "m": 5, "r": 5, "t": 3, "x": 2, "i": 3, "d": 3, "h": 2, "g": 4, "p": 4}
"""The oldest generation that is offered, by the letters of the family; of others, each.

EC2's own `CurrentGeneration` is no use: it is false for large pools that are far from their end
(m5, c5, r5, m6i, r6i, g5, r7g), and true for i3, h1 and t2. These limits are the first generation
on Nitro, and of p the first one for which the ECS image has a driver: it loads NVIDIA's open module
on p3dn, which does not know Volta.
https://aws.amazon.com/ec2/previous-generation/
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-nitro-instances.html
https://github.com/aws/amazon-ecs-ami/blob/main/scripts/al2023/gpu/nvidia-kmod-load.sh
"""

_GENERATION = re.compile(r"[a-z]+([0-9]+)")


class DescribedType(InstanceType, frozen=True, kw_only=True, rename={"name": "instance_type"}):
    """An instance type with what only its launch needs.

    `takes_credits`: a credit option may be given, which EC2 refuses for all other types.
    `has_nvidia`: a GPU of NVIDIA, or a part of one.
    """

    takes_credits: bool = False
    has_nvidia: bool = False


def is_current(name: str, hypervisor: str = "") -> bool:
    """Return whether a type is new enough to be offered. *hypervisor*: as EC2 shows it."""
    found = _GENERATION.match(name)
    if hypervisor == "xen":
        return False
    # u-3tb1 and mac-m4 have no number of a generation.
    return found is None or int(found[1]) >= OLDEST.get(letters_of(name), 0)


def read_instance_type(shown: Mapping[str, Any]) -> DescribedType:
    """Read a type of DescribeInstanceTypes."""
    name = shown["InstanceType"]
    letters = letters_of(name)
    gpus = [
        each
        for each in (shown.get("GpuInfo") or {}).get("Gpus") or []
        if (each.get("Manufacturer") or "").upper() == GPU_MAKER
    ]
    credit = bool(shown.get("BurstablePerformanceSupported"))
    return DescribedType(
        name=name,
        vcpus=shown["VCpuInfo"]["DefaultVCpus"],
        memory_mib=shown["MemoryInfo"]["SizeInMiB"],
        gpus=sum(each.get("Count") or 0 for each in gpus),
        architectures=tuple(shown["ProcessorInfo"]["SupportedArchitectures"]),
        markets=tuple(shown["SupportedUsageClasses"]),
        current=is_current(name, shown.get("Hypervisor") or ""),
        burstable=credit or letters == "t",  # t1 and t8i are, and are not shown so
        bare_metal=bool(shown.get("BareMetal")),
        accelerated=letters in ACCELERATED_FAMILIES or any(map(shown.get, ACCELERATORS)),
        local_disks=bool(shown.get("InstanceStorageSupported")),
        takes_credits=credit,
        has_nvidia=bool(gpus),
    )
