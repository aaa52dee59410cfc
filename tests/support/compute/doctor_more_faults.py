"""Faults of images, regions and prices, and of what is outside of AWS."""

from tests.support.compute import doctor_unusual as unusual
from tests.support.compute.doctor_faults import REFUSED, UNPLANNED, Fault

OF_IMAGES = (
    Fault(
        "image parameter missing",
        {"image parameter": "fail", **UNPLANNED},
        "another region",
        "has none",
        unusual.no_parameter("x86_64"),
    ),
    Fault(
        "GPU image parameter missing",
        {"GPU image parameter": "warn"},
        "DOCKER_JOB_EC2_IMAGE_ID",
        "gpu",
        unusual.no_parameter("gpu"),
    ),
    Fault(
        "image not available",
        {"image": "fail", **REFUSED},
        "DOCKER_JOB_EC2_IMAGE_ID",
        "is failed",
        unusual.ami("state", "failed"),
    ),
    Fault(
        "image of another architecture",
        {"image": "fail", **REFUSED},
        "DOCKER_JOB_EC2_ARCHITECTURE=arm64",
        "is for arm64",
        unusual.ami("architecture", "arm64"),
    ),
    Fault(
        "image without EBS",
        {"image": "fail"},
        "DOCKER_JOB_EC2_IMAGE_ID",
        "no root volume on EBS",
        unusual.ami("root_device_type", "instance-store"),
    ),
    Fault(
        "GPU image not available",
        {"GPU image": "warn"},
        "DOCKER_JOB_EC2_IMAGE_ID",
        "is pending",
        unusual.ami("state", "pending", "gpu"),
    ),
    Fault(
        "GPU disk smaller than the image",
        {"GPU image": "warn"},
        "DOCKER_JOB_EC2_GPU_DISK_GIB",
        settings={"DOCKER_JOB_EC2_GPU_DISK_GIB": "8"},
    ),
)

OF_PLACES = (
    Fault(
        "no such region",
        {"region": "fail", "on-demand prices": "warn", "rule": "fail"},
        "DOCKER_JOB_COMPUTE_URL",
        "us-moon-1",
        settings={"DOCKER_JOB_COMPUTE_URL": "ec2://us-moon-1"},
    ),
    Fault(
        "region not enabled",
        {"region": "fail"},
        "enable-region",
        "opted in",
        unusual.region_not_enabled,
    ),
    Fault("no Spot price", {"Spot prices": "warn"}, "type", "no Spot", unusual.no_spot_price),
    Fault(
        "no price list",
        {"on-demand prices": "warn"},
        "DOCKER_JOB_EC2_PRICES",
        "costs stay unknown",
        unusual.no_price_list,
    ),
    Fault(
        "no price list, but a table",
        {"on-demand prices": "warn"},
        "DOCKER_JOB_EC2_PRICES",
        "the table",
        unusual.no_price_list,
        {"DOCKER_JOB_EC2_PRICES": "auto"},
    ),
    Fault("one zone", {"subnets": "warn"}, "name more", "1 zones", unusual.one_zone),
    Fault(
        "few addresses",
        {"subnets": "warn"},
        "free addresses",
        "11 free",
        unusual.small_subnets(1),
    ),
    Fault(
        "group in another VPC",
        {"security groups": "fail"},
        "DOCKER_JOB_EC2_SECURITY_GROUPS",
        "another VPC",
        unusual.group_elsewhere,
    ),
    Fault(
        "profile at another path",
        {"instance profile": "fail"},
        "set DOCKER_JOB_EC2_INSTANCE_PROFILE to arn:",
        "elsewhere",
        unusual.other_arn,
    ),
    Fault(
        "no profile named",
        {"instance profile": "fail"},
        "DOCKER_JOB_EC2_INSTANCE_PROFILE",
        settings={"DOCKER_JOB_EC2_INSTANCE_PROFILE": ""},
    ),
    Fault(
        "template not shown",
        {
            "launch template": "skip",
            "ec2:DescribeLaunchTemplateVersions": "fail",
            **UNPLANNED,
        },
        make=unusual.without("ec2:DescribeLaunchTemplateVersions"),
    ),
)

OUTSIDE_OF_AWS = (
    Fault(
        "API at an address outside of the VPC",
        {"API's address": "warn"},
        "DOCKER_JOB_API_URL",
        "not in the instances' VPC",
        unusual.unreached_address,
    ),
    Fault(
        "no API",
        {"API's answer": "warn"},
        "start it",
        "does not answer",
        settings={"DOCKER_JOB_API_URL": "http://127.0.0.1:1"},
    ),
    Fault(
        "another server",
        {"API's answer": "fail"},
        "DOCKER_JOB_API_URL",
        "404",
        unusual.another_server,
    ),
    Fault(
        "no database",
        {"database": "fail"},
        "DOCKER_JOB_DATABASE_URL",
        "does not answer",
        settings={"DOCKER_JOB_DATABASE_URL": "postgresql://127.0.0.1:1/docker_job"},
    ),
    Fault(
        "wrong login of the database",
        {"database": "fail"},
        "password",
        "refuses logins",
        unusual.wrong_password,
    ),
    Fault(
        "database not migrated",
        {"database": "fail"},
        "migrate",
        "lacks what the migration creates",
        unusual.not_migrated,
    ),
    Fault(
        "no engine",
        {"Docker engine": "fail"},
        "start Docker",
        settings={
            "DOCKER_JOB_COMPUTE_URL": "docker://",
            "DOCKER_JOB_DOCKER_HOST": "unix:///missing.sock",
        },
    ),
    Fault(
        "engine's address malformed",
        {"Docker engine": "fail"},
        "DOCKER_HOST",
        settings={
            "DOCKER_JOB_COMPUTE_URL": "docker://",
            "DOCKER_JOB_DOCKER_HOST": "ssh://machine",
        },
    ),
    Fault(
        "a file in place of the data's directory",
        {"data directory": "fail", "Docker engine": "warn"},
        "DOCKER_JOB_DATA_DIR",
        settings={
            "DOCKER_JOB_COMPUTE_URL": "process://",
            "DOCKER_JOB_DATABASE_URL": "",
            "DOCKER_JOB_DATA_DIR": f"{__file__}/data",
            "DOCKER_JOB_DOCKER_HOST": "unix:///missing.sock",
        },
    ),
    Fault(
        "unknown compute",
        {"DOCKER_JOB_COMPUTE_URL": "fail"},
        "ec2://",
        settings={"DOCKER_JOB_COMPUTE_URL": "cloud://"},
    ),
)

MORE_FAULTS = (*OF_IMAGES, *OF_PLACES, *OUTSIDE_OF_AWS)
