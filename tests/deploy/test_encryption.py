"""The default key of EBS: the launcher's permission for a customer's key, kept by updates."""

import pytest

from tests.deploy.conftest import ACCOUNT, MotoCloud
from tests.deploy.test_refusals import ALLOW, refusal_of
from tests.support.deploy.faulty_moto import Faults

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


def make_key(aws: MotoCloud) -> str:
    """Make a key of the customer's the default; return its ARN."""
    key = aws.client("kms").create_key()["KeyMetadata"]
    aws.client("ec2").modify_ebs_default_kms_key_id(KmsKeyId=key["KeyId"])
    return str(key["Arn"])


def kept_key(aws: MotoCloud) -> str:
    """Return the stack's parameter."""
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    values = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    return str(values["EbsKeyArn"])


def test_a_customers_key_of_ebs_is_named_with_the_grants_it_needs(aws: MotoCloud) -> None:
    key = make_key(aws)
    run = aws.deploy(*ALLOW)
    assert run.returncode == 0, run.stderr
    for role in ("spot.amazonaws.com/AWSServiceRoleForEC2Spot", "AWSServiceRoleForAutoScaling"):
        assert role in run.stderr
        aws.client("kms").create_grant(
            KeyId=key,
            GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{role}",
            Operations=["Decrypt", "CreateGrant"],
        )
    assert kept_key(aws) == key
    assert "create-grant" not in aws.deploy("--dry-run").stderr, "the grants exist"


@pytest.mark.parametrize("call", ["DescribeKey", "GetEbsDefaultKmsKeyId"])
def test_an_update_by_one_who_may_not_read_the_key_keeps_its_permission(
    aws: MotoCloud, faults: Faults, call: str
) -> None:
    key = make_key(aws)
    assert aws.deploy(*ALLOW).returncode == 0
    faults.fail(call, "AccessDeniedException")
    run = aws.deploy("--instance-type", "t3.medium")
    assert run.returncode == 0, run.stderr
    assert f"since {call} has failed" in run.stderr
    assert f"the stack keeps the permission of {key}" in run.stderr
    assert kept_key(aws) == key


def test_a_new_stack_without_the_right_to_look_gets_a_warning(
    aws: MotoCloud, faults: Faults
) -> None:
    faults.fail("GetEbsDefaultKmsKeyId", "UnauthorizedOperation")
    run = aws.deploy(*ALLOW)
    assert run.returncode == 0, run.stderr
    assert "the stack keeps no permission of a key" in run.stderr
    assert kept_key(aws) == ""


def test_awss_own_key_ends_the_permission_of_an_earlier_one(aws: MotoCloud) -> None:
    make_key(aws)
    assert aws.deploy(*ALLOW).returncode == 0
    aws.client("ec2").modify_ebs_default_kms_key_id(KmsKeyId="alias/aws/ebs")
    run = aws.deploy("--dry-run")  # moto deletes no policy in an update
    assert run.returncode == 0, run.stderr
    assert "To change: EbsKeyArn\n" in run.stdout


def test_a_key_that_is_disabled_is_refused(aws: MotoCloud) -> None:
    key = make_key(aws)
    aws.client("kms").disable_key(KeyId=key.rpartition("/")[2])
    line = refusal_of(aws.deploy(*ALLOW))
    assert f"EBS's default key is {key}, which is Disabled: no instance could start" in line
    assert "enable-key" in line
    assert "reset-ebs-default-kms-key-id" in line
