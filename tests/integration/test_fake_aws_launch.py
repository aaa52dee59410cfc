"""Launches on the fake AWS: visibility, capacity and quotas, throttling, lost answers."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from fake_aws.settings import Bucket
from tests.support.compute.ec2_clouds import (
    TYPES,
    Launcher,
    Strict,
    code_of,
    eventually,
    ids_of,
    strict_cloud,
)

NEVER = 1e-9


@pytest.fixture
def cloud() -> Iterator[Strict]:
    with strict_cloud(seed=3) as made:
        yield made


@pytest.fixture
def launcher(cloud: Strict) -> Launcher:
    return Launcher(cloud)


def errors_of(fleet: dict[str, list[dict[str, str]]]) -> set[str]:
    return {each["ErrorCode"] for each in fleet["Errors"]}


# -- what is seen when


def test_a_launch_is_not_seen_at_once() -> None:
    with strict_cloud(visible_after_seconds=1e9) as cloud:
        launcher = Launcher(cloud)
        [instance_id] = launcher.launch()

        assert launcher.shown() == []
        with pytest.raises(ClientError) as refused:
            launcher.shown([instance_id])
        assert code_of(refused) == "InvalidInstanceID.NotFound"
        with pytest.raises(ClientError) as refused:
            launcher.ec2.terminate_instances(InstanceIds=[instance_id])
        assert code_of(refused) == "InvalidInstanceID.NotFound"
        assert launcher.ec2.describe_spot_instance_requests()["SpotInstanceRequests"] == []

        cloud.control.reveal()
        eventually(lambda: launcher.state(instance_id) == "running")


def test_a_terminated_instance_is_shown_for_a_while_and_then_no_more() -> None:
    with strict_cloud(terminated_shown_seconds=60.0) as cloud:
        launcher = Launcher(cloud)
        [instance_id] = launcher.launch()
        eventually(lambda: launcher.state(instance_id) == "running")
        launcher.ec2.terminate_instances(InstanceIds=[instance_id])

        eventually(lambda: launcher.state(instance_id) == "terminated")
        eventually(lambda: launcher.state(instance_id) == "hidden")


# -- tokens


def test_a_token_of_run_instances_counts_in_its_zone_alone(launcher: Launcher) -> None:
    first = launcher.run("us-east-1a", token="zonal")
    other = launcher.run("us-east-1b", token="zonal")

    assert first["Instances"][0]["InstanceId"] != other["Instances"][0]["InstanceId"]


def test_a_repeated_run_shows_the_state_of_now(launcher: Launcher) -> None:
    [first] = launcher.run(token="again")["Instances"]
    eventually(lambda: launcher.state(first["InstanceId"]) == "running")

    [again] = launcher.run(token="again")["Instances"]

    assert (first["State"]["Name"], again["State"]["Name"]) == ("pending", "running")


def test_a_refused_call_leaves_no_trace_of_its_token(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.set_capacity(0)
    with pytest.raises(ClientError):
        launcher.run(token="later")
    cloud.control.set_capacity(None)

    assert launcher.run(token="later", InstanceType="m7i.large")["Instances"]


# -- buckets


def test_calls_beyond_the_bucket_are_throttled() -> None:
    buckets = {"RunInstances": Bucket(2, NEVER), "*": Bucket(100, 100)}
    with strict_cloud(request_buckets=buckets) as cloud:
        launcher = Launcher(cloud)
        launcher.run()
        launcher.run()

        with pytest.raises(ClientError) as refused:
            launcher.run()

        assert code_of(refused) == "RequestLimitExceeded"
        assert launcher.ec2.describe_instances()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_fleet_gets_as_many_instances_as_the_bucket_holds() -> None:
    with strict_cloud(instance_buckets={"RunInstances": Bucket(3, NEVER)}) as cloud:
        answer = Launcher(cloud).fleet(5)

        assert len(ids_of(answer)) == 3
        assert errors_of(answer) == {"RequestLimitExceeded"}


def test_terminations_beyond_the_bucket_end_none() -> None:
    with strict_cloud(instance_buckets={"TerminateInstances": Bucket(1, NEVER)}) as cloud:
        launcher = Launcher(cloud)
        ids = launcher.launch(2)
        eventually(lambda: all(launcher.state(each) == "running" for each in ids))

        with pytest.raises(ClientError) as refused:
            launcher.ec2.terminate_instances(InstanceIds=ids)

        assert code_of(refused) == "RequestLimitExceeded"
        assert sorted(cloud.control.running()) == sorted(ids)


# -- capacity and quotas


def test_what_a_pool_has_no_room_for_comes_from_the_next(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.set_capacity(1)

    answer = launcher.fleet(3)

    assert len(ids_of(answer)) == 3
    assert len({str(each["LaunchTemplateAndOverrides"]) for each in answer["Instances"]}) == 3


def test_a_fleet_reports_its_missing_capacity_beside_its_instances(
    cloud: Strict, launcher: Launcher
) -> None:
    cloud.control.set_capacity(1)

    answer = launcher.fleet(6)

    assert len(ids_of(answer)) == 4
    assert errors_of(answer) == {"InsufficientInstanceCapacity"}
    assert {each["Lifecycle"] for each in answer["Errors"]} == {"spot"}


def test_capacity_comes_back(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.set_capacity(1, instance_type=TYPES[0])
    cloud.control.set_capacity(0, instance_type=TYPES[1])
    ids = launcher.launch(2)
    assert ids_of(launcher.fleet()) == []

    eventually(lambda: launcher.state(ids[0]) == "running")
    launcher.ec2.terminate_instances(InstanceIds=ids[:1])
    assert len(ids_of(launcher.fleet())) == 1

    cloud.control.set_capacity(None, instance_type=TYPES[1])
    assert len(ids_of(launcher.fleet(5))) == 5


def test_a_run_without_capacity_launches_none(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.set_capacity(2, market="on-demand")

    with pytest.raises(ClientError) as refused:
        launcher.run(MinCount=3, MaxCount=3)

    assert code_of(refused) == "InsufficientInstanceCapacity"
    assert cloud.control.instances() == []
    assert len(launcher.run(MinCount=1, MaxCount=5)["Instances"]) == 2


def test_a_new_account_has_five_spot_vcpus(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.set_quota(5)

    answer = launcher.fleet(4)

    assert len(ids_of(answer)) == 2
    assert errors_of(answer) == {"MaxSpotInstanceCountExceeded"}
    assert len(answer["Errors"]) == 1, "the account is at its end: no other pool is tried"


def test_a_new_account_has_no_vcpus_of_other_families() -> None:
    with strict_cloud(new_account_quotas=True) as cloud:
        launcher = Launcher(cloud)
        with pytest.raises(ClientError) as refused:
            launcher.run(InstanceType="g4dn.xlarge")
        assert code_of(refused) == "VcpuLimitExceeded"
        cloud.control.set_quota(4, market="on-demand", family="g")
        assert launcher.run(InstanceType="g4dn.xlarge")
        assert launcher.run()
        assert errors_of(launcher.fleet(3)) == {"MaxSpotInstanceCountExceeded"}


def test_a_credit_option_is_refused_for_types_that_take_none(launcher: Launcher) -> None:
    standard: dict[str, Any] = {"CreditSpecification": {"CpuCredits": "standard"}}
    with pytest.raises(ClientError) as refused:
        launcher.run(InstanceType="m5.large", **standard)
    assert code_of(refused) == "InstanceCreditSpecification.NotSupported"
    assert launcher.run(InstanceType="t3.large", **standard)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("t2.large", "standard"), ("t3.large", "unlimited"), ("m5.large", "")],
)
def test_burstable_types_have_ec2_s_default_credits(
    cloud: Strict, launcher: Launcher, name: str, expected: str
) -> None:
    launcher.run(InstanceType=name)
    assert cloud.control.instances()[0]["cpu_credits"] == expected


def test_the_on_demand_quota_is_another(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.set_quota(2, market="on-demand")
    launcher.run()

    with pytest.raises(ClientError) as refused:
        launcher.run()

    assert code_of(refused) == "VcpuLimitExceeded"
    assert launcher.launch(3)


def test_a_maximum_price_below_the_market_gets_nothing(launcher: Launcher) -> None:
    template = {"LaunchTemplateId": launcher.template, "Version": "$Default"}
    override = {"InstanceType": TYPES[0], "MaxPrice": "0.001"}

    answer = launcher.fleet(
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": [override]}]
    )

    assert ids_of(answer) == []
    assert errors_of(answer) == {"SpotMaxPriceTooLow"}


def test_types_can_be_asked_for_by_what_they_have(launcher: Launcher) -> None:
    template = {"LaunchTemplateId": launcher.template, "Version": "$Default"}
    wanted = {
        "VCpuCount": {"Min": 4, "Max": 4},
        "MemoryMiB": {"Min": 16384, "Max": 16384},
        "AllowedInstanceTypes": ["m7*", "m6*"],
    }

    answer = launcher.fleet(
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": template,
                "Overrides": [{"InstanceRequirements": wanted}],
            }
        ]
    )

    [group] = answer["Instances"]
    assert group["InstanceType"].partition(".")[2] == "xlarge"
    assert group["InstanceType"].startswith(("m6", "m7"))


def test_a_type_that_a_zone_does_not_offer_is_an_error_of_its_own(launcher: Launcher) -> None:
    template = {"LaunchTemplateId": launcher.template, "Version": "$Default"}
    overrides = [
        {"InstanceType": kind, "SubnetId": launcher.subnets["us-east-1e"]}
        for kind in ("c7i.large", "c7g.large", "x9.large")
    ]

    answer = launcher.fleet(
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": overrides}]
    )

    assert ids_of(answer) == []
    assert errors_of(answer) == {"InvalidFleetConfiguration", "InvalidParameterValue"}


# -- faults


def test_an_answer_can_be_lost_after_its_effect(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.fail("CreateFleet", "lost_after")

    with pytest.raises(ConnectionClosedError):
        launcher.fleet(2, token="lost")
    [first, second] = cloud.control.instances()

    assert ids_of(launcher.fleet(2, token="lost")) == [first["id"], second["id"]]
    assert len(cloud.control.instances()) == 2


def test_a_call_can_be_lost_before_its_effect(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.fail("CreateFleet", "lost_before")

    with pytest.raises(ConnectionClosedError):
        launcher.fleet()

    assert cloud.control.instances() == []


def test_an_error_can_come_after_the_effect(cloud: Strict, launcher: Launcher) -> None:
    cloud.control.fail("CreateFleet", "error_after", code="InternalError", status=500)

    with pytest.raises(ClientError) as refused:
        launcher.fleet()

    assert code_of(refused) == "InternalError"
    assert len(cloud.control.instances()) == 1


def test_faults_strike_by_the_seed() -> None:
    def struck() -> list[bool]:
        with strict_cloud(seed=5) as cloud:
            ec2 = cloud.client("ec2")
            cloud.control.fail("Describe*", "error", status=503, times=None, chance=0.5)
            found = []
            for _ in range(12):
                try:
                    ec2.describe_instances()
                    found.append(False)
                except ClientError:
                    found.append(True)
            cloud.control.heal()
            ec2.describe_instances()
            return found

    first = struck()
    assert first == struck()
    assert 0 < sum(first) < 12


def test_a_termination_can_be_accepted_and_have_no_effect(
    cloud: Strict, launcher: Launcher
) -> None:
    [instance_id] = launcher.launch()
    eventually(lambda: launcher.state(instance_id) == "running")
    cloud.control.ignore_terminations(1)

    [change] = launcher.ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]
    assert change["CurrentState"]["Name"] == "shutting-down"
    assert launcher.state(instance_id) == "running"

    launcher.ec2.terminate_instances(InstanceIds=[instance_id])
    assert launcher.state(instance_id) == "shutting-down"


def test_every_call_is_on_record(cloud: Strict, launcher: Launcher) -> None:
    launcher.fleet(3)

    [call] = cloud.control.calls("CreateFleet")
    assert (call.outcome, call.instances) == ("ok", 3)


# -- tags


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({f"key-{each}": "" for each in range(51)}, "TagLimitExceeded"),
        ({"k" * 129: ""}, "InvalidParameterValue"),
        ({"key": "v" * 257}, "InvalidParameterValue"),
        ({"AWS:name": ""}, "InvalidParameterValue"),
    ],
)
def test_a_tag_that_ec2_does_not_take_refuses_the_fleet(
    launcher: Launcher, tags: dict[str, str], code: str
) -> None:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    with pytest.raises(ClientError) as refused:
        launcher.fleet(TagSpecifications=[{"ResourceType": "instance", "Tags": listed}])
    assert code_of(refused) == code
    assert launcher.shown() == []
