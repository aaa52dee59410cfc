"""Faults that only a judgement shows: sizes against quotas, patterns, policies, keys, defaults."""

from tests.support.compute import doctor_makers as make
from tests.support.compute.doctor_faults import BOUGHT, SPOT, Fault

G_SPOT, G_BOUGHT = "spot vCPUs (L-3819A6DF)", "on-demand vCPUs (L-DB2E81BA)"
BOTH = {"DOCKER_JOB_EC2_INSTANCE_TYPES": "m5.large,g5.xlarge"}

OF_QUOTAS = (
    Fault(
        "types larger than the quota",
        {SPOT: "fail"},
        "--desired-value 32 ",
        "16",
        make.quota(5, "spot"),
        {"DOCKER_JOB_EC2_INSTANCE_TYPES": "m5.4xlarge"},
    ),
    Fault(
        "sizes larger than the quota",
        {SPOT: "fail"},
        "--desired-value 64 ",
        "32",
        make.quota(5, "spot"),
        {"DOCKER_JOB_EC2_INSTANCE_TYPES": "", "DOCKER_JOB_EC2_VCPUS": "32"},
    ),
    Fault("no GPUs beside others", {G_SPOT: "warn"}, "", "", make.quota(0, "spot", "g"), BOTH),
    Fault(
        "no others beside GPUs", {SPOT: "warn"}, "L-34B43A08", "", make.quota(0, "spot", "m"), BOTH
    ),
    Fault(
        "on demand too small",
        {BOUGHT: "warn"},
        "L-1216C47A",
        "2",
        make.quota(1, "on-demand"),
    ),
)

WARNING = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
RULE = "arn:aws:events:us-east-1:*:rule/interruptions"


def _from(arn: str, operator: str = "ArnEquals") -> dict[str, object]:
    return {"Condition": {operator: {"aws:SourceArn": arn}}}


OF_RULES = (
    Fault(
        "a rule for prefixes",
        {},
        make=make.rule_of({"source": [{"prefix": "aws."}], "detail-type": [{"prefix": "EC2 "}]}),
    ),
    Fault(
        "a rule with exceptions",
        {"rule": "fail"},
        "as its target",
        WARNING,
        make.rule_of({"source": ["aws.ec2"], "detail-type": [{"anything-but": [WARNING]}]}),
    ),
    Fault(
        "a rule for one instance",
        {"rule": "fail"},
        "as its target",
        REBALANCE,
        make.rule_of({"source": ["aws.ec2"], "detail": {"instance-id": ["i-1"]}}),
    ),
    Fault(
        "a rule for states",
        {"rule": "fail"},
        "as its target",
        f"{REBALANCE}, {WARNING}",
        make.rule_of({"source": ["aws.ec2"], "detail": {"state": ["terminated"]}}),
    ),
)

ALL_SECURE = {"Condition": {"Bool": {"aws:SecureTransport": "false"}}}
OF_POLICIES = (
    Fault(
        "the policy of the template",
        {},
        make=make.queue_policy(
            _from(RULE, "ArnLike"),
            {"Effect": "Deny", "Principal": "*", "Action": "sqs:*", **ALL_SECURE},
        ),
    ),
    Fault(
        "a policy for another rule",
        {"queue's policy": "fail"},
        "sqs:SendMessage",
        "rule/interruptions",
        make.queue_policy(_from("arn:aws:events:us-east-1:1:rule/other")),
    ),
    Fault(
        "a policy for another account",
        {"queue's policy": "fail"},
        make=make.queue_policy(
            {"Condition": {"StringEquals": {"aws:SourceAccount": "111122223333"}}}
        ),
    ),
    Fault(
        "a policy that denies",
        {"queue's policy": "fail"},
        make=make.queue_policy(
            {}, {"Effect": "Deny", "Principal": "*", "Action": "sqs:Send*", **_from("*", "ArnLike")}
        ),
    ),
    Fault(
        "a policy for another call",
        {"queue's policy": "fail"},
        make=make.queue_policy({"Action": "sqs:ReceiveMessage"}),
    ),
    Fault(
        "a policy that cannot be judged",
        {"queue's policy": "warn"},
        "lets the rule send",
        make=make.queue_policy(
            {"Condition": {"StringEquals": {"aws:SourceOrgID": "o-1234567890"}}}
        ),
    ),
    Fault(
        "AWS's key on the queue",
        {"queue's key": "fail"},
        "SqsManagedSseEnabled",
        "no notice arrives",
        make.queue_key("alias/aws/sqs"),
    ),
    Fault(
        "a key of one's own on the queue",
        {"queue's key": "warn"},
        "kms:GenerateDataKey",
        make=make.queue_key("alias/ours"),
    ),
)

OF_DEFAULTS = (
    Fault(
        "hop limit not set",
        {"instance metadata": "fail"},
        "delete-launch-template",
        "version 2",
        make.hop_limit_not_set,
    ),
    Fault(
        "endpoints not shown",
        {"routes": "skip"},
        "ec2:DescribeVpcEndpoints",
        "no route out",
        make.endpoints_not_shown,
    ),
    Fault(
        "no role expected",
        {"expected role": "skip"},
        "set it where",
        settings={"DOCKER_JOB_INSTANCE_ROLE_ARN": ""},
    ),
)

JUDGED_FAULTS = (*OF_QUOTAS, *OF_RULES, *OF_POLICIES, *OF_DEFAULTS)
