"""Faults of an installation, and the lines of the doctor that show each."""

from dataclasses import dataclass, field

from shared.compute.ec2.doctor.permissions import BY_ROLE
from tests.support.compute import doctor_makers as make
from tests.support.compute.doctor_makers import Make, nothing

PERMISSIONS = BY_ROLE.items()

# Without this permission, these lines fail too: the same call is what they check.
FOLLOWS = {
    "ec2:DescribeImages": ("image",),
    "ec2:DescribeSubnets": ("subnets",),
    "ssm:GetParameter": ("image parameter",),
    "ec2:CreateTags": ("ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateLaunchTemplate"),
    "iam:PassRole": ("ec2:RunInstances",),
    "sqs:ReceiveMessage": ("queue",),
}
# EC2's refusal of RunInstances may name the missing one, but need not.
DENIED = {"ec2:CreateTags": {"fail", "warn"}, "iam:PassRole": {"fail", "warn"}}


@dataclass(frozen=True)
class Fault:
    """A fault; *found* are the lines that are not ok, the first with *do* and *text*.

    Without lines it is no fault, though it is unusual.
    """

    name: str
    found: dict[str, str]
    do: str = ""
    text: str = ""
    make: Make = nothing
    settings: dict[str, str] = field(default_factory=dict)


SPOT, BOUGHT = "spot vCPUs (L-34B43A08)", "on-demand vCPUs (L-1216C47A)"
UNPLANNED = {
    "ec2:CreateLaunchTemplate": "skip",
    "ec2:CreateLaunchTemplateVersion": "skip",
    "ec2:DeleteLaunchTemplateVersions": "skip",
    "ec2:ModifyLaunchTemplate": "skip",
    "ec2:CreateFleet": "skip",
    "ec2:RunInstances": "skip",
    "ec2:CreateTags": "skip",
    "iam:PassRole": "skip",
    "spot vCPUs": "skip",
    "on-demand vCPUs": "skip",
    "Spot prices": "skip",
}
"""The lines of what needs a plan of a launch."""

REFUSED = {"ec2:RunInstances": "warn", "ec2:CreateTags": "warn", "iam:PassRole": "warn"}
"""The lines of what a dry run of RunInstances proves."""

OF_THE_ACCOUNT = (
    Fault(
        "no quota of Spot",
        {SPOT: "fail"},
        "request-service-quota-increase",
        make=make.quota(0, "spot"),
    ),
    Fault("few Spot vCPUs", {SPOT: "warn"}, "--quota-code L-34B43A08", make=make.quota(5, "spot")),
    Fault("no on-demand quota", {BOUGHT: "warn"}, "L-1216C47A", make=make.quota(0, "on-demand")),
    Fault("no route out", {"routes": "fail"}, "NAT gateway", "no route out", make.no_route),
    Fault(
        "no public address",
        {"routes": "fail"},
        "NAT gateway",
        "MapPublicIpOnLaunch",
        make.no_public_address,
    ),
    Fault("endpoints alone", {"routes": "warn"}, "images of ECR", make=make.endpoints_alone),
    Fault(
        "no DNS",
        {"VPC's DNS": "fail"},
        "modify-vpc-attribute",
        "enableDnsSupport",
        make.dns("EnableDnsSupport"),
    ),
    Fault(
        "no host names",
        {"VPC's DNS": "warn"},
        "--enable-dns-hostnames",
        "enableDnsHostnames",
        make.dns("EnableDnsHostnames"),
    ),
    Fault(
        "own DNS servers",
        {"DNS servers": "warn"},
        "port 53",
        "10.1.0.5",
        make.own_name_servers,
    ),
    Fault("closed group", {"security groups": "fail"}, "outbound rule", "443", make.closed_group),
    Fault(
        "IMDSv1 allowed",
        {"instance metadata": "fail"},
        "delete-launch-template",
        "version 2",
        make.open_metadata,
    ),
    Fault(
        "profile missing",
        {"instance profile": "fail"},
        "DOCKER_JOB_EC2_INSTANCE_PROFILE",
        "NoSuchEntity",
        settings={"DOCKER_JOB_EC2_INSTANCE_PROFILE": "missing"},
    ),
    Fault(
        "profile without role",
        {"instance profile": "fail"},
        "add-role-to-instance-profile",
        make=make.no_profile_role,
    ),
    Fault(
        "another role expected",
        {"instance profile": "fail"},
        "DOCKER_JOB_INSTANCE_ROLE_ARN",
        settings={"DOCKER_JOB_INSTANCE_ROLE_ARN": "arn:aws:iam::123456789012:role/other"},
    ),
    Fault(
        "EC2 is not trusted",
        {"role's trust": "fail"},
        "instance-trust.json",
        make=make.trust({"Service": "lambda.amazonaws.com"}),
    ),
    Fault(
        "others are trusted",
        {"role's trust": "warn"},
        "instance-trust.json",
        "123456789012",
        make.trust({"Service": "ec2.amazonaws.com", "AWS": "arn:aws:iam::123456789012:root"}),
    ),
    Fault(
        "no role of Spot",
        {"Spot's role": "fail"},
        "create-service-linked-role",
        make=make.no_spot_role,
    ),
    Fault("rule disabled", {"rule": "fail"}, "as its target", "Rebalance", make.no_rule),
    Fault("half a rule", {"rule": "fail"}, "as its target", "State-change", make.half_a_rule),
    Fault(
        "queue's policy missing",
        {"queue's policy": "fail"},
        "sqs:SendMessage",
        make=make.no_queue_policy,
    ),
    Fault(
        "queue missing",
        {"queue": "fail", "sqs:ReceiveMessage": "warn", "sqs:DeleteMessage": "warn"},
        "DOCKER_JOB_INTERRUPTION_QUEUE_URL",
        "does not exist",
        make.no_queue,
    ),
    Fault(
        "no queue named",
        {"queue": "warn", "sqs:ReceiveMessage": "skip", "sqs:DeleteMessage": "skip"},
        "DOCKER_JOB_INTERRUPTION_QUEUE_URL",
        settings={"DOCKER_JOB_INTERRUPTION_QUEUE_URL": ""},
    ),
    Fault("a key of one's own", {"volumes' key": "warn"}, "kms:CreateGrant", make=make.own_key),
)

OF_SETTINGS = (
    Fault(
        "image missing",
        {"image": "fail", **UNPLANNED},
        "DOCKER_JOB_EC2_IMAGE_ID",
        "InvalidAMIID.NotFound",
        settings={"DOCKER_JOB_EC2_IMAGE_ID": "ami-0123456789abcdef0"},
    ),
    Fault(
        "subnet missing",
        {"subnets": "fail", **UNPLANNED},
        "DOCKER_JOB_EC2_SUBNETS",
        "InvalidSubnetID.NotFound",
        settings={"DOCKER_JOB_EC2_SUBNETS": "subnet-0123456789abcdef0"},
    ),
    Fault(
        "group missing",
        {"security groups": "fail"},
        "DOCKER_JOB_EC2_SECURITY_GROUPS",
        "InvalidGroup",
        settings={"DOCKER_JOB_EC2_SECURITY_GROUPS": "sg-0123456789abcdef0"},
    ),
    Fault(
        "disk smaller than the image",
        {"image": "warn"},
        "DOCKER_JOB_EC2_DISK_GIB",
        settings={"DOCKER_JOB_EC2_DISK_GIB": "8"},
    ),
    Fault(
        "API's name unknown",
        {"API's name": "fail"},
        "DOCKER_JOB_API_URL",
        settings={"DOCKER_JOB_API_URL": "https://api.invalid"},
    ),
    Fault(
        "API at this machine",
        {"API's reach": "fail"},
        "DOCKER_JOB_API_URL",
        settings={"AWS_ENDPOINT_URL": ""},
    ),
    Fault(
        "no broker",
        {"broker": "fail"},
        "DOCKER_JOB_BUS_URL",
        settings={"DOCKER_JOB_BUS_URL": "amqp://127.0.0.1:1"},
    ),
)

FAULTS = (*OF_THE_ACCOUNT, *OF_SETTINGS)
