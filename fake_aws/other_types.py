"""Instance types that are missing from moto's list: those with GPUs of AMD and Habana.

https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
"""

import copy
from typing import Any

from moto.ec2.models.instance_types import (
    INSTANCE_TYPE_OFFERINGS,
    INSTANCE_TYPES,
    InstanceType,
    InstanceTypeBackend,
)

Shown = dict[str, Any]

LIKE = "g6.xlarge"
"""The type whose other properties they copy."""


def _gpus(maker: str, name: str, count: int, mib: int) -> Shown:
    gpu = {"Manufacturer": maker, "Name": name, "Count": count, "MemoryInfo": {"SizeInMiB": mib}}
    return {"Gpus": [gpu], "TotalGpuMemoryInMiB": count * mib}


OTHER_TYPES: dict[str, Shown] = {
    "g4ad.xlarge": {
        "VCpuInfo": {"DefaultVCpus": 4, "DefaultCores": 2, "DefaultThreadsPerCore": 2},
        "MemoryInfo": {"SizeInMiB": 16_384},
        "GpuInfo": _gpus("AMD", "Radeon Pro V520", 1, 8192),
    },
    "dl1.24xlarge": {
        "VCpuInfo": {"DefaultVCpus": 96, "DefaultCores": 48, "DefaultThreadsPerCore": 2},
        "MemoryInfo": {"SizeInMiB": 786_432},
        "GpuInfo": _gpus("Habana", "Gaudi HL-205", 8, 32_768),
    },
}


def add_other_types(region: str) -> None:
    """Add them to moto's types, and to its offerings wherever `LIKE` is offered."""
    for name, differs in OTHER_TYPES.items():
        if name not in INSTANCE_TYPES:
            INSTANCE_TYPES[name] = copy.deepcopy(INSTANCE_TYPES[LIKE]) | differs
            INSTANCE_TYPES[name]["InstanceType"] = name
            InstanceTypeBackend.instance_types.append(InstanceType(name))
        for offered in (each.get(region, []) for each in INSTANCE_TYPE_OFFERINGS.values()):
            if all(each["InstanceType"] != name for each in offered):
                like = [each for each in offered if each["InstanceType"] == LIKE]
                offered += [{**each, "InstanceType": name} for each in like]
