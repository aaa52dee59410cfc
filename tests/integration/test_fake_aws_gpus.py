"""GPUs on the fake AWS: for a container that asks, on a type with them, under their image."""

import pytest

from shared.compute.ec2.settings import AMI_PARAMETERS
from tests.support.compute.ec2_clouds import Launcher, Strict, eventually, strict_cloud

RUN = "docker run {options} --name job alpine true && echo fine || echo failed; docker info\n"


def zone_with(launcher: Launcher, instance_type: str) -> str:
    """Return a zone that offers the type."""
    shown = launcher.ec2.describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
    )
    return str(min(each["Location"] for each in shown["InstanceTypeOfferings"]))


def console_of(cloud: Strict, instance_type: str, kind: str, options: str) -> str:
    """Return the console of an instance that runs a container with these options."""
    image = cloud.client("ssm").get_parameter(Name=AMI_PARAMETERS[kind])["Parameter"]["Value"]
    script = "#!/bin/bash\n" + RUN.format(options=options) + "shutdown -h now\n"
    launcher = Launcher(cloud)
    launcher.run(
        zone=zone_with(launcher, instance_type),
        UserData=script,
        ImageId=image,
        InstanceType=instance_type,
        InstanceInitiatedShutdownBehavior="terminate",
    )
    eventually(lambda: cloud.control.instances()[0]["state"] == "terminated")
    return str(cloud.control.instances()[0]["console"])


@pytest.mark.parametrize(
    ("instance_type", "kind", "options", "expected"),
    [
        ("g4dn.xlarge", "gpu", "--gpus 1", "simulated GPUs: 1"),
        ("g4dn.12xlarge", "gpu", "--gpus all", "simulated GPUs: 4"),
        ("g4dn.xlarge", "gpu", "--gpus 2", "unknown device"),
        ("g4dn.xlarge", "x86_64", "--gpus 1", "could not select device driver"),
        ("g6f.large", "gpu", "--gpus 1", "simulated GPUs: 1"),  # a part of one
        ("m5.large", "gpu", "--gpus 1", "driver not loaded"),
        ("g4ad.xlarge", "gpu", "--gpus 1", "driver not loaded"),
        ("p3dn.24xlarge", "gpu", "--gpus 1", "driver not loaded"),
    ],
)
def test_a_container_gets_gpus_only_where_there_are_some_and_a_driver(
    instance_type: str, kind: str, options: str, expected: str
) -> None:
    with strict_cloud(boot="process") as cloud:
        assert expected in console_of(cloud, instance_type, kind, options)


def test_a_container_that_asks_for_no_gpu_gets_none() -> None:
    with strict_cloud(boot="process") as cloud:
        text = console_of(cloud, "g4dn.xlarge", "gpu", "")
    assert "fine" in text
    assert "GPUs" not in text
