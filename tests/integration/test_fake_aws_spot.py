"""Spot on the fake AWS: requests, interruptions, events, and costs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fake_aws.prices import PUBLIC_IPV4_USD
from tests.support.compute.ec2_clouds import Launcher, Strict, code_of, eventually, strict_cloud

PERSISTENT = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "persistent"}}


@pytest.fixture
def cloud() -> Iterator[Strict]:
    with strict_cloud(seed=3) as made:
        yield made


@pytest.fixture
def launcher(cloud: Strict) -> Launcher:
    return Launcher(cloud)


def running(launcher: Launcher, instance_id: str) -> str:
    eventually(lambda: launcher.state(instance_id) == "running")
    return instance_id


def request_of(launcher: Launcher, instance_id: str) -> Any:
    [found] = launcher.ec2.describe_spot_instance_requests(
        Filters=[{"Name": "instance-id", "Values": [instance_id]}]
    )["SpotInstanceRequests"]
    return found


# -- interruption


def test_an_interrupted_instance_is_taken_after_its_notice(
    cloud: Strict, launcher: Launcher
) -> None:
    instance_id = running(launcher, launcher.launch()[0])

    at = cloud.control.interrupt(instance_id)

    assert launcher.state(instance_id) == "running", "the notice comes first"
    warned = request_of(launcher, instance_id)  # at once, while the instance still runs
    assert (warned["State"], warned["Status"]["Code"]) == (
        "closed",
        "instance-terminated-no-capacity",
    )
    eventually(lambda: launcher.state(instance_id) == "terminated")
    assert datetime.now(UTC) >= at
    [shown] = launcher.shown([instance_id])
    assert shown["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert request_of(launcher, instance_id)["Status"]["Code"] == "instance-terminated-no-capacity"


def test_an_instance_may_be_taken_without_notice(cloud: Strict, launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])

    cloud.control.interrupt(instance_id, notice=False)

    eventually(lambda: launcher.state(instance_id) == "terminated")


def test_what_is_bought_on_demand_is_not_interrupted(cloud: Strict, launcher: Launcher) -> None:
    [shown] = launcher.run()["Instances"]

    with pytest.raises(Exception, match="is no Spot instance"):
        cloud.control.interrupt(shown["InstanceId"])


# -- requests


def test_a_request_ends_with_its_instance(launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])
    assert request_of(launcher, instance_id)["State"] == "active"

    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    request = request_of(launcher, instance_id)
    assert (request["State"], request["Status"]["Code"]) == (
        "closed",
        "instance-terminated-by-user",
    )


def test_cancelling_a_request_leaves_its_instance(launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])
    request_id = request_of(launcher, instance_id)["SpotInstanceRequestId"]

    launcher.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request_id])

    assert request_of(launcher, instance_id)["State"] == "cancelled"
    assert launcher.state(instance_id) == "running"


def test_an_instance_of_a_one_time_request_cannot_be_stopped(launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])

    with pytest.raises(ClientError) as refused:
        launcher.ec2.stop_instances(InstanceIds=[instance_id])
    assert code_of(refused) == "UnsupportedOperation"


def test_a_stopped_spot_instance_comes_back_as_another_without_its_tags(
    launcher: Launcher,
) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "deployment", "Value": "test"}]}]
    [shown] = launcher.run(InstanceMarketOptions=PERSISTENT, TagSpecifications=tags)["Instances"]
    stopped = running(launcher, shown["InstanceId"])

    launcher.ec2.stop_instances(InstanceIds=[stopped])

    eventually(lambda: launcher.state(stopped) == "stopped")
    eventually(lambda: len(launcher.shown()) == 2)
    [other] = [each for each in launcher.shown() if each["InstanceId"] != stopped]
    assert other.get("Tags", []) == []
    assert other["SpotInstanceRequestId"] == shown["SpotInstanceRequestId"]


def test_a_terminated_instance_of_a_persistent_request_comes_back_until_it_is_cancelled(
    launcher: Launcher,
) -> None:
    [shown] = launcher.run(InstanceMarketOptions=PERSISTENT)["Instances"]
    first = running(launcher, shown["InstanceId"])
    launcher.ec2.terminate_instances(InstanceIds=[first])

    eventually(lambda: len(launcher.shown()) == 2)
    request = shown["SpotInstanceRequestId"]
    launcher.ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request])
    [second] = [each["InstanceId"] for each in launcher.shown() if each["InstanceId"] != first]
    running(launcher, second)
    launcher.ec2.terminate_instances(InstanceIds=[second])

    eventually(lambda: launcher.state(second) == "terminated")
    assert len(launcher.shown()) == 2


# -- events


def messages(sqs: Any, url: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [json.loads(each["Body"]) for each in answer.get("Messages", [])]


def test_a_rule_of_eventbridge_brings_the_warning_into_a_queue(
    cloud: Strict, launcher: Launcher
) -> None:
    sqs, events = cloud.client("sqs"), cloud.client("events")
    url = sqs.create_queue(QueueName="interruptions")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    pattern = {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Spot Instance Interruption Warning"],
    }
    events.put_rule(Name="warnings", EventPattern=json.dumps(pattern))
    targets = [{"Id": "queue", "Arn": attributes["Attributes"]["QueueArn"]}]
    events.put_targets(Rule="warnings", Targets=targets)
    instance_id = running(launcher, launcher.launch()[0])
    other = running(launcher, launcher.launch()[0])

    cloud.control.interrupt(other)  # before the queue's policy lets EventBridge send
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": targets[0]["Arn"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    cloud.control.interrupt(instance_id)

    found: list[dict[str, Any]] = []

    def reported() -> bool:
        found.extend(messages(sqs, url))
        return bool(found)

    eventually(reported)
    [event] = found
    assert event["detail-type"] == "EC2 Spot Instance Interruption Warning"
    assert event["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}
    assert event["resources"][0].endswith(f"instance/{instance_id}")


def test_a_queue_can_have_every_event(cloud: Strict, launcher: Launcher) -> None:
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="all")["QueueUrl"]
    cloud.control.send_events_to(url)
    instance_id = running(launcher, launcher.launch()[0])
    cloud.control.rebalance(instance_id)
    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    reported: list[tuple[str, str]] = []

    def all_reported() -> bool:
        reported.extend(
            (each["detail-type"], each["detail"].get("state", "")) for each in messages(sqs, url)
        )
        return ("EC2 Instance State-change Notification", "terminated") in reported

    eventually(all_reported)
    assert ("EC2 Instance Rebalance Recommendation", "") in reported
    states = {state for _, state in reported}
    assert {"pending", "running", "shutting-down", "terminated"} <= states


# -- money


def bill_of(cloud: Strict, instance_id: str) -> Any:
    [found] = [each for each in cloud.control.ledger() if each.instance_id == instance_id]
    return found


def test_what_aws_takes_in_the_first_hour_is_free(cloud: Strict, launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])
    cloud.control.interrupt(instance_id)
    eventually(lambda: launcher.state(instance_id) == "terminated")

    bill = bill_of(cloud, instance_id)
    assert (bill.billed_seconds, bill.instance_usd) == (0.0, 0.0)
    assert bill.seconds > 0
    # Its address and its volume are billed, for a minute at least.
    assert bill.public_ipv4_usd == pytest.approx(PUBLIC_IPV4_USD / 60)
    assert bill.volume_usd > 0
    assert bill.cost_usd == pytest.approx(bill.public_ipv4_usd + bill.volume_usd)


def test_a_short_life_is_billed_as_a_minute(cloud: Strict, launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])
    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    bill = bill_of(cloud, instance_id)
    assert bill.billed_seconds == 60
    assert 0 < bill.instance_usd < bill.on_demand_usd
    lines = bill.instance_usd + bill.public_ipv4_usd + bill.volume_usd
    assert bill.cost_usd == pytest.approx(lines)


def test_the_bill_follows_the_price_history() -> None:
    with strict_cloud(price_step_seconds=0.25, minimum_billed_seconds=0.0) as cloud:
        launcher = Launcher(cloud)
        instance_id = running(launcher, launcher.launch()[0])
        began = datetime.now(UTC)
        eventually(lambda: (datetime.now(UTC) - began).total_seconds() > 1.0)
        launcher.ec2.terminate_instances(InstanceIds=[instance_id])

        bill = bill_of(cloud, instance_id)
        prices = launcher.ec2.describe_spot_price_history(
            InstanceTypes=[bill.instance_type],
            AvailabilityZone=bill.zone,
            ProductDescriptions=["Linux/UNIX"],
            StartTime=bill.running_at,
            EndTime=bill.ended_at,
        )["SpotPriceHistory"]
        asked = [float(each["SpotPrice"]) for each in prices]
        assert len(asked) >= 4
        hours = bill.seconds / 3600
        assert min(asked) * hours <= bill.instance_usd <= max(asked) * hours


def test_a_history_from_now_until_now_has_the_current_price_of_each_pool_page_by_page(
    cloud: Strict, launcher: Launcher
) -> None:
    now = datetime.now(UTC)
    pages = launcher.ec2.get_paginator("describe_spot_price_history").paginate(
        ProductDescriptions=["Linux/UNIX"],
        Filters=[{"Name": "availability-zone", "Values": ["us-east-1a", "us-east-1b"]}],
        StartTime=now,
        EndTime=now,
    )
    shown = [page["SpotPriceHistory"] for page in pages]
    assert len(shown) > 1
    assert all(len(page) <= 1000 for page in shown)
    rows = [row for page in shown for row in page]
    pools = {(row["InstanceType"], row["AvailabilityZone"]) for row in rows}
    assert len(pools) == len(rows) > 1000
    assert {zone for _, zone in pools} == {"us-east-1a", "us-east-1b"}
    assert all(row["Timestamp"] <= now for row in rows)


OURS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
}


def terms(**fields: str) -> list[dict[str, str]]:
    return [{"Type": "TERM_MATCH", "Field": name, "Value": text} for name, text in fields.items()]


def test_the_price_list_of_all_types_has_pages(cloud: Strict) -> None:
    paginator = cloud.client("pricing").get_paginator("get_products")
    pages = paginator.paginate(ServiceCode="AmazonEC2", Filters=terms(**OURS))
    products = [json.loads(each) for page in pages for each in page["PriceList"]]
    names = {each["product"]["attributes"]["instanceType"] for each in products}
    assert len(names) == len(products) > 100


def test_the_price_list_has_the_on_demand_prices(cloud: Strict) -> None:
    answer = cloud.client("pricing").get_products(
        ServiceCode="AmazonEC2",
        Filters=terms(instanceType="c7i.large", **OURS),
    )

    [product] = [json.loads(each) for each in answer["PriceList"]]
    [term] = product["terms"]["OnDemand"].values()
    [dimension] = term["priceDimensions"].values()
    assert 0.01 < float(dimension["pricePerUnit"]["USD"]) < 1


def test_unused_reservations_and_capacity_blocks_are_products_of_their_own(cloud: Strict) -> None:
    """Without the filters for ours, a price of theirs is easily taken for the price of a type."""
    answer = cloud.client("pricing").get_products(
        ServiceCode="AmazonEC2", Filters=terms(instanceType="g5.xlarge")
    )
    products = [json.loads(each)["product"]["attributes"] for each in answer["PriceList"]]
    kinds = {(each["capacitystatus"], each["marketoption"]) for each in products}
    assert kinds == {
        ("Used", "OnDemand"),
        ("Used", "CapacityBlock"),
        ("UnusedCapacityReservation", "OnDemand"),
    }


def test_an_address_is_shown_while_its_instance_runs(cloud: Strict, launcher: Launcher) -> None:
    instance_id = running(launcher, launcher.launch()[0])
    [shown] = launcher.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    assert shown["Instances"][0]["PublicIpAddress"].startswith("203.0.113.")
    launcher.ec2.terminate_instances(InstanceIds=[instance_id])
    [shown] = launcher.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    assert "PublicIpAddress" not in shown["Instances"][0]
