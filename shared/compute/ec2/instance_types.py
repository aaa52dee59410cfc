"""Instance types as EC2 describes them. `shared.compute.choice` chooses among them."""

from collections.abc import Mapping
from typing import Any

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


def read_instance_type(shown: Mapping[str, Any]) -> InstanceType:
    """Read a type of DescribeInstanceTypes."""
    gpus = (shown.get("GpuInfo") or {}).get("Gpus") or []
    return InstanceType(
        name=shown["InstanceType"],
        vcpus=shown["VCpuInfo"]["DefaultVCpus"],
        memory_mib=shown["MemoryInfo"]["SizeInMiB"],
        gpus=sum(
            each.get("Count") or 0
            for each in gpus
            if (each.get("Manufacturer") or "").upper() == GPU_MAKER
        ),
        architectures=tuple(shown["ProcessorInfo"]["SupportedArchitectures"]),
        markets=tuple(shown["SupportedUsageClasses"]),
        current=bool(shown.get("CurrentGeneration")),
        burstable=bool(shown.get("BurstablePerformanceSupported")),
        bare_metal=bool(shown.get("BareMetal")),
        accelerated=any(shown.get(each) for each in ACCELERATORS),
    )
