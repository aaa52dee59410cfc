"""How the faults of images, regions, prices, subnets and addresses are made, and ended.

Operators cannot make some of them, so moto's own state is changed.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends

from rehearsal.account import ROLE
from shared.compute.ec2.settings import AMI_PARAMETERS
from shared.url import with_login
from tests.conftest import at_database
from tests.support.compute.doctor_makers import Environ, Make
from tests.support.compute.doctor_world import REGION, DoctorWorld


@contextlib.contextmanager
def changed(owner: Any, name: str, *, to: object) -> Iterator[None]:
    """Set an attribute within the block."""
    before = getattr(owner, name)
    setattr(owner, name, to)
    yield
    setattr(owner, name, before)


def ami(name: str, value: object, kind: str = "x86_64") -> Make:
    """Return a maker that changes an attribute of the image in the parameter of *kind*."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        found = world.client("ssm").get_parameter(Name=AMI_PARAMETERS[kind])
        image = ec2_backends[world.account.number][REGION].amis[found["Parameter"]["Value"]]
        with changed(image, name, to=value):
            yield

    return make


def no_parameter(kind: str) -> Make:
    """Return a maker that removes the parameter of *kind*."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        name = AMI_PARAMETERS[kind]
        parameters = ssm_backends[world.account.number][REGION]._parameters
        removed = parameters.pop(name)
        yield
        parameters[name] = removed

    return make


@contextlib.contextmanager
def region_not_enabled(world: DoctorWorld) -> Iterator[None]:
    backend = ec2_backends[world.account.number][REGION]
    [region] = [each for each in backend.regions if each.name == REGION]
    with changed(region, "opt_in_status", to="not-opted-in"):
        yield


@contextlib.contextmanager
def no_spot_price(world: DoctorWorld) -> Iterator[None]:
    with changed(world.cloud.cloud.prices, "spot_product", to="SUSE Linux"):
        yield


@contextlib.contextmanager
def no_price_list(world: DoctorWorld) -> Iterator[None]:
    with changed(world.cloud.cloud.prices, "is_listed", to=False):
        yield


@contextlib.contextmanager
def one_zone(world: DoctorWorld) -> Iterator[Environ]:
    subnet = world.client("ec2").describe_subnets()["Subnets"][0]
    yield {"DOCKER_JOB_EC2_SUBNETS": subnet["SubnetId"]}


def small_subnets(count: int) -> Make:
    """Return a maker of subnets with eleven addresses each, in one zone and another."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[Environ]:
        ec2 = world.client("ec2")
        given = ec2.describe_subnets()["Subnets"][:count]
        made = []
        for place, each in enumerate(given):
            shown = ec2.create_subnet(
                VpcId=each["VpcId"],
                AvailabilityZone=each["AvailabilityZone"],
                CidrBlock=f"172.31.240.{16 * place}/28",
            )
            made.append(shown["Subnet"]["SubnetId"])
            ec2.modify_subnet_attribute(SubnetId=made[-1], MapPublicIpOnLaunch={"Value": True})
        yield {"DOCKER_JOB_EC2_SUBNETS": ",".join(made)}
        for each in made:
            ec2.delete_subnet(SubnetId=each)

    return make


@contextlib.contextmanager
def group_elsewhere(world: DoctorWorld) -> Iterator[Environ]:
    ec2 = world.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    made = ec2.create_security_group(GroupName="other", Description="other", VpcId=vpc)
    yield {"DOCKER_JOB_EC2_SECURITY_GROUPS": made["GroupId"]}
    ec2.delete_security_group(GroupId=made["GroupId"])
    ec2.delete_vpc(VpcId=vpc)


@contextlib.contextmanager
def other_arn(world: DoctorWorld) -> Iterator[Environ]:
    arn = f"arn:aws:iam::{world.account.number}:instance-profile/elsewhere/{ROLE}"
    yield {"DOCKER_JOB_EC2_INSTANCE_PROFILE": arn}


@contextlib.contextmanager
def unreached_address(world: DoctorWorld) -> Iterator[Environ]:
    """A private address that is this machine's too, so that the API answers there."""
    port = world.environ["DOCKER_JOB_API_URL"].rpartition(":")[2]
    yield {"DOCKER_JOB_API_URL": f"http://0.0.0.0:{port}", "AWS_ENDPOINT_URL": ""}


@contextlib.contextmanager
def another_server(world: DoctorWorld) -> Iterator[Environ]:
    yield {"DOCKER_JOB_API_URL": world.environ["DOCKER_JOB_API_URL"] + "/elsewhere"}


@contextlib.contextmanager
def wrong_password(world: DoctorWorld) -> Iterator[Environ]:
    url = world.environ["DOCKER_JOB_DATABASE_URL"]
    yield {"DOCKER_JOB_DATABASE_URL": with_login(url, "nobody", "wrong")}


@contextlib.contextmanager
def not_migrated(world: DoctorWorld) -> Iterator[Environ]:
    url = world.environ["DOCKER_JOB_DATABASE_URL"]
    yield {"DOCKER_JOB_DATABASE_URL": at_database(url, "postgres")}


def without(action: str) -> Make:
    """Return a maker that takes the permission of *action* away."""

    @contextlib.contextmanager
    def make(world: DoctorWorld) -> Iterator[None]:
        with world.forbidden(action):
            yield

    return make
