"""The refusals of deploy.sh and destroy.sh: each is one line that names the remedy."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto.cloudformation.models import cloudformation_backends

from deploy import place, up
from deploy.account import Account, SpotQuota, refuse_no_spot
from deploy.refusal import Refusal, as_refusals
from deploy.stack import apply, find_stack
from tests.deploy.conftest import ACCOUNT, REGION, MotoCloud

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

ALLOW = ("--allow", "203.0.113.0/24")


def refusal_of(run: Any, prog: str = "deploy") -> str:
    """Return the one line that *run* ended with."""
    assert run.returncode == 1, run.stdout
    [line] = run.stderr.splitlines()
    assert line.startswith(f"{prog}: ")
    return str(line)


def make_stack(aws: MotoCloud, status: str) -> None:
    """Make a stack of our name in *status*, written into moto's state."""
    aws.client("cloudformation").create_stack(
        StackName="docker-job",
        TemplateBody='{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}',
    )
    [stack] = cloudformation_backends[ACCOUNT][REGION].stacks.values()
    stack.status = status


def test_without_credentials_it_says_where_they_come_from(aws: MotoCloud) -> None:
    line = refusal_of(aws.deploy(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""))
    assert "No AWS credentials were found" in line
    assert "never asks for keys" in line


def test_without_a_region_it_says_how_to_name_one(aws: MotoCloud) -> None:
    line = refusal_of(aws.deploy(AWS_REGION=""))
    assert line == "deploy: No region is named: add --region us-east-1, or set AWS_REGION."


def test_an_unknown_profile_is_named(aws: MotoCloud) -> None:
    assert "There is no AWS profile 'nobody'" in refusal_of(aws.deploy("--profile", "nobody"))


def test_an_endpoint_that_does_not_answer_is_the_network_or_the_region(aws: MotoCloud) -> None:
    line = refusal_of(aws.deploy(AWS_ENDPOINT_URL="http://127.0.0.1:1"))
    assert "check the network and the region's name" in line


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ExpiredToken", "have expired"),
        ("RequestExpired", "have expired"),
        ("InvalidClientTokenId", "does not know these credentials"),
        ("UnauthorizedOperation", "may not call DescribeVpcs"),
        ("Throttling", "refuses DescribeVpcs"),
    ],
)
def test_what_aws_says_of_the_credentials_is_shown_in_our_words(code: str, text: str) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "two\nlines"}}
    with pytest.raises(Refusal, match=text) as caught, as_refusals():
        raise ClientError(answer, "DescribeVpcs")
    assert "\n" not in str(caught.value)


EXPIRED_AT = (
    "Signature expired: 20260101T000000Z is now earlier than 20260101T010000Z (… - 15 min.)"
)


@pytest.mark.parametrize(
    ("code", "message", "seconds", "text"),
    [
        ("SignatureDoesNotMatch", EXPIRED_AT, 3600, r"behind AWS; synchronise the clock \(NTP\)"),
        ("RequestExpired", "Request has expired.", -3600, "ahead of AWS; synchronise the clock"),
        ("AuthFailure", "AWS was not able to validate", 400, "synchronise the clock"),
        ("InvalidSignatureException", EXPIRED_AT, 3600, "synchronise the clock"),
        # Without AWS's time, the message has it; with another reason, the credentials are wrong.
        ("SignatureDoesNotMatch", EXPIRED_AT, None, "synchronise the clock"),
        ("SignatureDoesNotMatch", "The signature we calculated", 1, "does not know these"),
        ("RequestExpired", "Request has expired.", 1, "have expired"),
        ("ExpiredToken", "The token has expired", None, "have expired"),
    ],
)
def test_a_clock_that_is_off_is_not_taken_for_wrong_credentials(
    code: str, message: str, seconds: int | None, text: str
) -> None:
    answer: Any = {"Error": {"Code": code, "Message": message}}
    if seconds is not None:
        at = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        answer["ResponseMetadata"] = {"HTTPHeaders": {"date": at}}
    with pytest.raises(Refusal, match=text), as_refusals():
        raise ClientError(answer, "GetCallerIdentity")


def test_without_a_default_vpc_it_asks_for_one(aws: MotoCloud) -> None:
    ec2 = aws.client("ec2")
    [vpc] = ec2.describe_vpcs()["Vpcs"]
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    line = refusal_of(aws.deploy(*ALLOW))
    assert line.startswith("deploy: us-east-1 has no default VPC: name one with --vpc vpc-…")


def test_a_vpc_that_is_not_there_or_has_no_public_subnet_is_named(aws: MotoCloud) -> None:
    assert "There is no VPC vpc-0" in refusal_of(aws.deploy(*ALLOW, "--vpc", "vpc-0"))
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")
    assert f"{vpc} has no public subnet" in refusal_of(aws.deploy(*ALLOW, "--vpc", vpc))


def test_an_instance_type_that_ec2_does_not_know_is_named(aws: MotoCloud) -> None:
    line = refusal_of(aws.deploy(*ALLOW, "--instance-type", "t99.small"))
    assert "t99.small is not offered in" in line


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        ("ROLLBACK_COMPLETE", "deploy/destroy.sh --stack docker-job"),
        ("ROLLBACK_FAILED", "deploy/destroy.sh --stack docker-job"),
        ("DELETE_FAILED", "deploy/destroy.sh --stack docker-job"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
        ("UPDATE_IN_PROGRESS", "Wait until that has ended"),
    ],
)
def test_a_stack_that_cannot_be_updated_is_refused_with_the_way_out(
    aws: MotoCloud, status: str, way_out: str
) -> None:
    make_stack(aws, status)
    line = refusal_of(aws.deploy(*ALLOW))
    assert f"The stack docker-job is in {status}" in line
    assert way_out in line


def test_a_stack_that_is_being_updated_is_not_destroyed(aws: MotoCloud) -> None:
    make_stack(aws, "UPDATE_IN_PROGRESS")
    line = refusal_of(aws.destroy("--yes"), "destroy")
    assert "is being updated now" in line


@pytest.mark.parametrize("snapshot", ["snap-0123456789abcdef0", "no-snapshot"])
def test_a_snapshot_that_is_not_there_is_named(aws: MotoCloud, snapshot: str) -> None:
    line = refusal_of(aws.deploy(*ALLOW, "--from-snapshot", snapshot))
    assert line == f"deploy: There is no snapshot {snapshot} in us-east-1."


def test_a_snapshot_that_is_not_complete_is_refused() -> None:
    account, stub = stubbed("ec2")
    for state in ("pending", "completed"):
        stub.add_response("describe_snapshots", {"Snapshots": [{"State": state}]})
    with stub:
        with pytest.raises(Refusal, match="wait until it is completed"):
            place.refuse_no_snapshot(account, "snap-1")
        place.refuse_no_snapshot(account, "snap-1")


def test_a_certificate_needs_the_name_that_it_is_for(aws: MotoCloud) -> None:
    arn = "arn:aws:acm:us-east-1:123456789012:certificate/11111111-1111-1111-1111-111111111111"
    line = refusal_of(aws.deploy(*ALLOW, "--certificate", arn))
    assert "--certificate needs the name that it is for: --domain jobs.example.com" in line


def test_a_network_that_is_none_is_refused(aws: MotoCloud) -> None:
    assert "--allow needs an IPv4 network" in refusal_of(aws.deploy("--allow", "everybody"))


def test_a_quota_of_no_spot_vcpus_is_refused_and_a_small_one_reported() -> None:
    with pytest.raises(Refusal, match="quota of Spot vCPUs is 0"):
        refuse_no_spot(SpotQuota(0))
    refuse_no_spot(SpotQuota(5))
    assert SpotQuota(5).text.startswith("5 vCPUs at once: few")
    assert SpotQuota(64).text == "64 vCPUs at once"
    assert "not known" in SpotQuota(None).text


def stubbed(service: str) -> tuple[Account, Stubber]:
    """Make an account whose one client has stubbed answers."""
    client: Any = boto3.client(
        service,
        region_name=REGION,
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    session = Mock()
    session.client.return_value = client
    return Account(session, ACCOUNT, REGION, "aws", "user/me"), Stubber(client)


def test_nothing_to_update_is_success() -> None:
    account, stub = stubbed("cloudformation")
    stub.add_client_error("update_stack", "ValidationError", "No updates are to be performed.")
    old = Mock()
    with stub:
        assert apply(account, "docker-job", {}, old) is False


def test_a_missing_stack_is_distinguished_from_one_that_may_not_be_seen() -> None:
    account, stub = stubbed("cloudformation")
    message = "Stack with id docker-job does not exist"
    stub.add_client_error("describe_stacks", "ValidationError", message)
    stub.add_client_error("describe_stacks", "AccessDenied", "no")
    with stub:
        assert find_stack(account, "docker-job") is None
        with pytest.raises(ClientError):
            find_stack(account, "docker-job")


def test_several_volumes_left_by_earlier_stacks_are_for_an_operator_to_choose_from() -> None:
    account, stub = stubbed("ec2")
    volumes = [{"VolumeId": f"vol-{n}", "State": "available"} for n in (1, 2)]
    stub.add_response("describe_volumes", {"Volumes": volumes})
    with stub, pytest.raises(Refusal, match="vol-1, vol-2"):
        place.kept_volume(account, "docker-job")


def test_options_that_it_does_not_know_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        up.parser().parse_args(["--access-key", "AKIA"])
    assert "unrecognized arguments" in capsys.readouterr().err
