"""deploy.sh and destroy.sh, unchanged, against moto's CloudFormation."""

import base64

import pytest

from deploy.down import DEPLOYMENT_TAG
from deploy.place import DATA_TAG, SERVICES_TAG
from tests.deploy.conftest import MotoCloud, certificate

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tried to parse"),
    pytest.mark.filterwarnings("ignore:Unable to delete"),
]

ALLOW = ("--allow", "203.0.113.0/24")
KEY = "djk_0a1b2c3d_of-the-start-script"

PASSED_OVER = {
    "AWS::DLM::LifecyclePolicy",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::SQS::QueuePolicy",
}
"""What moto's CloudFormation does not make: checked by cfn-lint alone."""

# Besides: moto waits for no signal, ignores a volume's tags and snapshot, replaces no instance when
# the launch template changes, and calls every update a change.


def leave_a_key(aws: MotoCloud) -> None:
    """Leave the first API key, as the instance's start script does."""
    aws.client("ssm").put_parameter(
        Name="/docker-job/docker-job/first_api_key", Type="SecureString", Value=KEY
    )


def tag_volume(aws: MotoCloud) -> str:
    """Set the tags that moto's CloudFormation omits; return the volume's id."""
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    tags = [{"Key": tag, "Value": "docker-job"} for tag in (SERVICES_TAG, DATA_TAG)]
    aws.client("ec2").create_tags(Resources=[outputs["DataVolume"]], Tags=tags)
    return str(outputs["DataVolume"])


def run_a_job_instance(aws: MotoCloud) -> str:
    """Launch a job instance as the launcher does; return its id."""
    started = aws.client("ec2").run_instances(
        ImageId="ami-0123456789abcdef0",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [{"Key": DEPLOYMENT_TAG, "Value": "docker-job"}],
            }
        ],
    )
    return str(started["Instances"][0]["InstanceId"])


def user_data(aws: MotoCloud) -> str:
    """Return the user data of the services' instance, from the newest template."""
    ec2 = aws.client("ec2")
    [template] = ec2.describe_launch_templates()["LaunchTemplates"]
    [version] = ec2.describe_launch_template_versions(
        LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Latest"]
    )["LaunchTemplateVersions"]
    return base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()


def test_one_command_makes_the_stack_and_shows_the_address_the_key_and_the_first_curl(
    aws: MotoCloud, unsupported: set[str]
) -> None:
    leave_a_key(aws)
    run = aws.deploy(*ALLOW)
    assert run.returncode == 0, run.stderr
    assert "Address:  https://" in run.stdout
    assert f"API key:  {KEY}" in run.stdout
    assert f"-H 'Authorization: Bearer {KEY}'" in run.stdout
    assert "t4g.small, always on                 12.26" in run.stdout
    assert unsupported == PASSED_OVER
    again = aws.deploy()
    assert again.returncode == 0, again.stderr
    assert KEY not in again.stdout, "shown once"


def test_a_dry_run_shows_what_it_would_make_and_makes_nothing(aws: MotoCloud) -> None:
    run = aws.deploy("--dry-run", *ALLOW)
    assert run.returncode == 0, run.stderr
    assert "USD a month" in run.stdout
    assert "203.0.113.0/24 alone" in run.stdout
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_with_a_certificate_it_does_not_warn(aws: MotoCloud) -> None:
    arn = certificate(aws, "jobs.example.com")
    https = ("--domain", "jobs.example.com", "--certificate", arn)
    assert aws.deploy("--allow", "0.0.0.0/0", *https).stderr == ""
    assert aws.deploy("--dry-run").stderr == "", "what was chosen once stays"


def test_the_services_instance_does_not_bear_the_tag_for_which_the_reaper_ends_instances(
    aws: MotoCloud,
) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    assert len(aws.instances(SERVICES_TAG)) == 1
    assert aws.instances(DEPLOYMENT_TAG) == []


def test_the_instance_fetches_the_very_source_that_was_uploaded(aws: MotoCloud) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    [bucket] = aws.client("s3").list_buckets()["Buckets"]
    [archive] = aws.client("s3").list_objects_v2(Bucket=bucket["Name"])["Contents"]
    script = user_data(aws)
    assert f"'{bucket['Name']}' '{archive['Key']}'" in script
    assert "None" not in script
    assert "${" not in script
    assert len(script) < 16_384
    access = aws.client("s3").get_public_access_block(Bucket=bucket["Name"])
    assert set(access["PublicAccessBlockConfiguration"].values()) == {True}


def test_run_again_with_another_type_it_changes_the_stack_in_place_and_keeps_the_rest(
    aws: MotoCloud,
) -> None:
    assert aws.deploy(*ALLOW, "--data-gib", "33").returncode == 0
    volume = tag_volume(aws)
    job = run_a_job_instance(aws)
    run = aws.deploy("--instance-type", "t3.medium")
    assert run.returncode == 0, run.stderr
    assert "To change:" in run.stdout
    assert "InstanceType" in run.stdout
    [stack] = aws.client("cloudformation").describe_stacks()["Stacks"]
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    now = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
    assert (now["InstanceType"], now["AllowedCidr"]) == ("t3.medium", "203.0.113.0/24")
    assert now["DataVolumeGib"] == "33"
    assert tag_volume(aws) == volume, "the data stays where it is"
    assert [each["InstanceId"] for each in aws.instances(DEPLOYMENT_TAG)] == [job], "and runs on"


def test_with_a_domain_and_a_certificate_there_is_a_load_balancer_and_no_fixed_address(
    aws: MotoCloud,
) -> None:
    arn = certificate(aws, "jobs.example.com")
    run = aws.deploy(*ALLOW, "--domain", "jobs.example.com", "--certificate", arn)
    assert run.returncode == 0, run.stderr
    assert "Address:  https://jobs.example.com" in run.stdout
    assert "make jobs.example.com a CNAME of" in run.stdout
    assert "load balancer, little traffic" in run.stdout
    assert len(aws.client("elbv2").describe_load_balancers()["LoadBalancers"]) == 1
    assert aws.client("ec2").describe_addresses()["Addresses"] == []
    assert "ADDRESS_ID=\n" in user_data(aws)


def test_destroy_ends_job_instances_and_leaves_nothing(aws: MotoCloud) -> None:
    leave_a_key(aws)
    assert aws.deploy(*ALLOW).returncode == 0
    volume = tag_volume(aws)
    aws.client("ec2").create_snapshot(
        VolumeId=volume,
        TagSpecifications=[
            {"ResourceType": "snapshot", "Tags": [{"Key": SERVICES_TAG, "Value": "docker-job"}]}
        ],
    )
    run_a_job_instance(aws)
    run = aws.destroy("--yes")
    assert run.returncode == 0, run.stderr
    assert "job instances ended: 1" in run.stdout
    assert "Nothing remains." in run.stdout
    assert aws.instances(DEPLOYMENT_TAG) == aws.instances(SERVICES_TAG) == []
    assert aws.client("s3").list_buckets()["Buckets"] == []
    volumes = aws.client("ec2").describe_volumes()["Volumes"]
    assert volume not in {each["VolumeId"] for each in volumes}
    again = aws.destroy("--yes")
    assert again.returncode == 0
    assert "has no stack docker-job" in again.stdout


def test_destroy_that_keeps_the_data_says_what_remains_and_the_next_deploy_goes_on_with_it(
    aws: MotoCloud,
) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    volume = tag_volume(aws)
    # moto ends a group's instance without detaching its volumes; nothing attaches ours there.
    run = aws.destroy("--yes", "--keep-data")
    assert run.returncode == 0, run.stderr
    assert f"data volume {volume}" in run.stdout
    again = aws.deploy(*ALLOW)
    assert again.returncode == 0, again.stderr
    assert f"continues with the data on {volume}" in again.stdout
    assert f"DATA_VOLUME={volume}\n" in user_data(aws)


def test_destroy_asks_and_without_anybody_to_ask_refuses(aws: MotoCloud) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    run = aws.destroy()
    assert run.returncode == 1
    assert run.stderr == "destroy: Standard input is not a terminal: add --yes to remove it.\n"
    assert len(aws.instances(SERVICES_TAG)) == 1
