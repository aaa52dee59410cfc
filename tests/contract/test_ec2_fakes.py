"""EC2's behaviour that its callers rely on, on both fakes: moto for shape, the strict one for all.

Where moto does otherwise than EC2, MOTO_CANNOT says what it does instead, and the strict xfail
fails when it has learned it.
"""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from tests.support.compute.ec2_clouds import (
    Ec2Cloud,
    Launcher,
    code_of,
    eventually,
    ids_of,
    moto_cloud,
    strict_cloud,
)

MOTO_CANNOT = {
    "test_the_same_token_and_parameters_launch_once": "it ignores ClientToken: launches again",
    "test_a_token_with_other_parameters_is_refused": "it ignores ClientToken: launches again",
    "test_run_instances_launches_once_for_a_token": "it ignores ClientToken: launches again",
    "test_a_token_whose_instances_are_terminated_launches_nothing": "it ignores ClientToken",
    "test_a_spot_instance_of_a_fleet_names_its_request": "its instances name no request",
    "test_a_spot_instance_of_a_fleet_is_one_time": "a fleet's requests are persistent",
    "test_a_superseded_version_of_a_template_can_be_deleted": "it has no such call",
    "test_terminating_twice_is_no_error": "answers shutting-down for what is terminated",
    "test_what_is_no_id_is_malformed": "it takes any text for an id",
    "test_termination_takes_its_time": "terminated at once",
    "test_a_bad_image_is_an_error_beside_no_instances": "it fails the whole call",
    "test_spot_prices_differ_by_zone": "one price for all",
    "test_an_unknown_filter_is_an_error": "NotImplementedError, without an answer of EC2's",
}


@pytest.fixture(params=["moto", "strict"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Ec2Cloud]:
    """Each fake in turn."""
    name = request.node.originalname
    if request.param == "moto" and name in MOTO_CANNOT:
        request.applymarker(pytest.mark.xfail(reason=MOTO_CANNOT[name]))
    with moto_cloud() if request.param == "moto" else strict_cloud() as made:
        yield made


@pytest.fixture
def launcher(cloud: Ec2Cloud) -> Launcher:
    return Launcher(cloud)


def until_running(launcher: Launcher, ids: list[str]) -> None:
    eventually(lambda: all(launcher.state(each) == "running" for each in ids))


# -- launching


def test_a_fleet_launches_as_many_as_asked(launcher: Launcher) -> None:
    answer = launcher.fleet(3)

    ids = ids_of(answer)
    assert len(set(ids)) == 3
    assert not answer.get("Errors")
    until_running(launcher, ids)


def test_a_fleet_says_which_pool_each_instance_is_from(launcher: Launcher) -> None:
    [group] = launcher.fleet()["Instances"]

    assert group["Lifecycle"] == "spot"
    assert group["InstanceType"] in {"c7i.large", "m7i.large"}
    override = group["LaunchTemplateAndOverrides"]["Overrides"]
    assert override["InstanceType"] == group["InstanceType"]
    assert override["SubnetId"] in launcher.subnets.values()


def test_the_template_is_what_the_instance_is_made_of(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])

    [shown] = launcher.shown([instance_id])
    assert shown["ImageId"] == launcher.image
    assert shown["InstanceLifecycle"] == "spot"
    assert {"Key": "deployment", "Value": "test"} in shown["Tags"]
    assert shown["Placement"]["AvailabilityZone"].startswith("us-east-1")


def test_the_same_token_and_parameters_launch_once(launcher: Launcher) -> None:
    first = launcher.fleet(2, token="once")
    again = launcher.fleet(2, token="once")

    assert again["FleetId"] == first["FleetId"]
    assert ids_of(again) == ids_of(first)
    until_running(launcher, ids_of(first))
    assert len(launcher.shown()) == 2


def test_a_token_with_other_parameters_is_refused(launcher: Launcher) -> None:
    launcher.fleet(1, token="mine")

    with pytest.raises(ClientError) as refused:
        launcher.fleet(2, token="mine")
    assert code_of(refused) == "IdempotentParameterMismatch"


def test_run_instances_launches_once_for_a_token(launcher: Launcher) -> None:
    first = launcher.run(token="once")
    again = launcher.run(token="once")

    assert again["ReservationId"] == first["ReservationId"]
    assert again["Instances"][0]["InstanceId"] == first["Instances"][0]["InstanceId"]


def test_a_token_whose_instances_are_terminated_launches_nothing(launcher: Launcher) -> None:
    [instance_id] = ids_of(launcher.fleet(token="over"))
    until_running(launcher, [instance_id])
    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    with pytest.raises(ClientError) as refused:
        launcher.fleet(token="over")
    assert code_of(refused) == "IdempotentInstanceTerminated"


def test_a_bad_image_is_an_error_beside_no_instances(launcher: Launcher) -> None:
    launcher.template = launcher.ec2.create_launch_template(
        LaunchTemplateName="bad", LaunchTemplateData={"ImageId": "ami-0123456789abcdef0"}
    )["LaunchTemplate"]["LaunchTemplateId"]

    answer = launcher.fleet()

    assert answer["Instances"] == []
    assert {each["ErrorCode"] for each in answer["Errors"]} == {"InvalidAMIID.NotFound"}


def test_a_dry_run_launches_nothing(launcher: Launcher) -> None:
    with pytest.raises(ClientError) as refused:
        launcher.run(DryRun=True)
    assert code_of(refused) == "DryRunOperation"
    assert launcher.shown() == []


def test_a_template_that_is_not_there_is_refused(launcher: Launcher) -> None:
    launcher.template = "lt-0123456789abcdef0"

    with pytest.raises(ClientError) as refused:
        launcher.fleet()
    assert code_of(refused).startswith("InvalidLaunchTemplateId.NotFound")


def test_a_template_name_is_taken_once(launcher: Launcher) -> None:
    data = {"ImageId": launcher.image}
    launcher.ec2.create_launch_template(LaunchTemplateName="same", LaunchTemplateData=data)

    with pytest.raises(ClientError) as refused:
        launcher.ec2.create_launch_template(LaunchTemplateName="same", LaunchTemplateData=data)
    assert code_of(refused) == "InvalidLaunchTemplateName.AlreadyExistsException"


def test_a_superseded_version_of_a_template_can_be_deleted(launcher: Launcher) -> None:
    ec2, template = launcher.ec2, launcher.template
    ec2.create_launch_template_version(
        LaunchTemplateId=template, LaunchTemplateData={"ImageId": launcher.image}
    )
    ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="2")

    ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1"])

    shown = ec2.describe_launch_template_versions(LaunchTemplateId=template)
    assert [each["VersionNumber"] for each in shown["LaunchTemplateVersions"]] == [2]


# -- Spot


def test_a_spot_instance_of_a_fleet_names_its_request(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])

    [shown] = launcher.shown([instance_id])
    asked = launcher.ec2.describe_spot_instance_requests(
        SpotInstanceRequestIds=[shown["SpotInstanceRequestId"]]
    )
    [request] = asked["SpotInstanceRequests"]
    assert request["InstanceId"] == instance_id
    assert request["State"] == "active"


def test_a_spot_instance_of_a_fleet_is_one_time(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])

    [request] = launcher.ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    assert request["Type"] == "one-time"


def test_spot_prices_differ_by_zone(launcher: Launcher) -> None:
    shown = launcher.ec2.describe_spot_price_history(
        InstanceTypes=["c7i.large"], ProductDescriptions=["Linux/UNIX"], MaxResults=6
    )["SpotPriceHistory"]

    assert len({each["AvailabilityZone"] for each in shown}) > 1
    assert len({each["SpotPrice"] for each in shown}) > 1


# -- ending


def test_a_terminated_instance_is_shown_as_such(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])

    [change] = launcher.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]

    assert change["PreviousState"]["Name"] == "running"
    assert change["CurrentState"]["Name"] in {"shutting-down", "terminated"}
    eventually(lambda: launcher.state(instance_id) == "terminated")


def test_termination_takes_its_time(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])

    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    assert launcher.state(instance_id) == "shutting-down"


def test_terminating_twice_is_no_error(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])
    launcher.ec2.terminate_instances(InstanceIds=[instance_id])
    eventually(lambda: launcher.state(instance_id) == "terminated")

    [change] = launcher.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]

    assert change["CurrentState"]["Name"] == "terminated"


def test_one_bad_id_in_a_batch_ends_none(launcher: Launcher) -> None:
    [instance_id] = launcher.launch()
    until_running(launcher, [instance_id])

    with pytest.raises(ClientError) as refused:
        launcher.ec2.terminate_instances(InstanceIds=[instance_id, "i-0123456789abcdef0"])

    assert code_of(refused) == "InvalidInstanceID.NotFound"
    assert launcher.state(instance_id) == "running"


def test_what_is_no_id_is_malformed(launcher: Launcher) -> None:
    with pytest.raises(ClientError) as refused:
        launcher.ec2.terminate_instances(InstanceIds=["instance-1"])
    assert code_of(refused) == "InvalidInstanceID.Malformed"


# -- looking


def test_instances_are_found_by_tag_and_state(launcher: Launcher) -> None:
    first, second = launcher.launch(2)
    until_running(launcher, [first, second])
    launcher.ec2.create_tags(Resources=[first], Tags=[{"Key": "launch", "Value": "7"}])
    launcher.ec2.terminate_instances(InstanceIds=[second])

    def found(**filters: str) -> list[str]:
        given = [{"Name": name, "Values": [value]} for name, value in filters.items()]
        groups = launcher.ec2.describe_instances(Filters=given)["Reservations"]
        return [each["InstanceId"] for group in groups for each in group["Instances"]]

    assert found(**{"tag:launch": "7"}) == [first]
    assert found(**{"instance-state-name": "running"}) == [first]
    assert found(**{"tag:deployment": "test", "tag-key": "launch"}) == [first]
    assert found(**{"tag:deployment": "other"}) == []


def test_an_unknown_filter_is_an_error(launcher: Launcher) -> None:
    with pytest.raises(ClientError) as refused:
        launcher.ec2.describe_instances(Filters=[{"Name": "colour", "Values": ["red"]}])
    assert code_of(refused) == "InvalidParameterValue"


def test_a_long_list_comes_in_pages(launcher: Launcher) -> None:
    ids = launcher.launch(12)
    until_running(launcher, ids)

    pages = list(
        launcher.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5})
    )

    found = [
        each["InstanceId"]
        for page in pages
        for group in page["Reservations"]
        for each in group["Instances"]
    ]
    assert sorted(found) == sorted(ids)
    assert len(pages) >= 3


def test_an_unknown_instance_is_not_found(launcher: Launcher) -> None:
    with pytest.raises(ClientError) as refused:
        launcher.shown(["i-0123456789abcdef0"])
    assert code_of(refused) == "InvalidInstanceID.NotFound"


def test_instance_types_are_described_with_their_resources(cloud: Ec2Cloud) -> None:
    shown = cloud.client("ec2").describe_instance_types(InstanceTypes=["c7g.large"])

    [kind] = shown["InstanceTypes"]
    assert kind["VCpuInfo"]["DefaultVCpus"] == 2
    assert kind["MemoryInfo"]["SizeInMiB"] == 4096
    assert kind["ProcessorInfo"]["SupportedArchitectures"] == ["arm64"]


def test_the_caller_gets_its_identity(cloud: Ec2Cloud) -> None:
    assert cloud.client("sts").get_caller_identity()["Arn"].startswith("arn:aws:")


def test_a_queue_takes_and_gives(cloud: Ec2Cloud) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]

    sqs.send_message(QueueUrl=url, MessageBody="hello")

    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert message["Body"] == "hello"
