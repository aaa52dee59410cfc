"""Prices and cost lines on the strict EC2: its price list, its addresses, its ledger."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.ec2.models import ec2_backends

from fake_aws import CloudSettings, CloudThread, start_cloud
from fake_aws.credentials import Credential
from fake_aws.moto_side import all_instance_types
from fake_aws.prices import GP3_GIB_MONTH_USD, PUBLIC_IPV4_USD
from shared.clock import RealClock, VirtualClock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.list_prices import RETRY, ListPrices
from shared.compute.ec2.price_table import TABLE_AS_OF, table_price
from shared.compute.ec2.prices import VPC_PRODUCT
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.port import Instance, LaunchBatch, LaunchRequest, Offer
from shared.events.events import Market
from tests.support.compute.compute_adapters import launch
from tests.support.compute.compute_ec2 import AGENT, PROFILE, REGION, make_profile

SETTINGS = Ec2Settings(instance_profile=PROFILE, instance_types=("m5.large",))
REQUEST = LaunchRequest(
    token="token",
    deployment="test",
    job_id=1,
    attempt=1,
    max_lifetime_seconds=60,
    api_url="http://api",
)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudThread]:
    given = CloudSettings(speed=200.0, price_step_seconds=1e9)
    with start_cloud(given) as cloud:
        make_profile(cloud)
        use(cloud, monkeypatch)
        yield cloud


def use(
    cloud: CloudThread, monkeypatch: pytest.MonkeyPatch, caller: Credential | None = None
) -> None:
    for name, value in cloud.environment(caller).items():
        monkeypatch.setenv(name, value)


def compute_of(settings: Ec2Settings = SETTINGS) -> Ec2Compute:
    return Ec2Compute(REGION, "test", RealClock(), AGENT, settings)


async def launched(compute: Ec2Compute) -> Instance:
    [instance] = await launch(compute, REQUEST)
    assert isinstance(instance, Instance)
    return instance


async def test_a_launch_has_the_prices_that_the_ledger_bills(cloud: CloudThread) -> None:
    compute = compute_of()
    instance = await launched(compute)
    [bill] = cloud.control.ledger()
    others = instance.other_prices
    assert others.public_ipv4_hourly_usd == PUBLIC_IPV4_USD
    assert others.volume_hourly_usd is not None
    # 60 s at least, of a disk of 30 GiB.
    assert bill.public_ipv4_usd == pytest.approx(PUBLIC_IPV4_USD / 60)
    assert bill.volume_usd == pytest.approx(others.volume_hourly_usd / 60)
    assert others.volume_hourly_usd == pytest.approx(30 * GP3_GIB_MONTH_USD / 730, rel=0.09)


async def test_in_a_subnet_without_public_addresses_none_is_paid(cloud: CloudThread) -> None:
    ec2 = boto3.client("ec2", **cloud.client_arguments())
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.modify_subnet_attribute(
            SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": False}
        )
    compute = compute_of()
    instance = await launched(compute)
    assert instance.other_prices.public_ipv4_hourly_usd == 0.0
    assert [each.public_ipv4_usd for each in cloud.control.ledger()] == [0.0]


async def test_an_address_is_shown_while_the_instance_runs(cloud: CloudThread) -> None:
    compute = compute_of()
    instance = await launched(compute)
    found = await compute.list_instances()
    while [each.state.value for each in found] != ["running"]:
        found = await compute.list_instances()
    assert found[0].other_prices.public_ipv4_hourly_usd == PUBLIC_IPV4_USD
    # EC2 shows the size of a volume to nobody who may not call DescribeVolumes.
    assert found[0].other_prices.volume_hourly_usd is None
    await compute.terminate([instance.instance_id])
    while [each.state.value for each in found] != ["terminated"]:
        found = await compute.list_instances()
    assert found[0].other_prices.public_ipv4_hourly_usd is None


async def test_the_offers_have_the_list_prices_of_all_types(cloud: CloudThread) -> None:
    offers = await compute_of().price_offers()
    listed = {each.name: each.on_demand_hourly_price_usd for each in offers.types}
    prices = cloud.cloud.prices
    of_all = {each.name: prices.on_demand(each) for each in all_instance_types()}
    assert listed == {name: of_all[name] for name in listed}
    # Those that no zone of the deployment offers are left out.
    assert len(of_all) - 100 < len(listed) < len(of_all)
    other = offers.terms.other
    assert other is not None
    assert set(other.public_ipv4_hourly_usd) == set(offers.terms.zones)
    assert (other.disk_gib, offers.terms.listed_as_of) == (30, None)


def a_user(cloud: CloudThread, name: str, *, may_read_prices: bool) -> Credential:
    iam = boto3.client("iam", **cloud.client_arguments())
    iam.create_user(UserName=name)
    grant(iam, name, "ec2:Describe*", *(["pricing:GetProducts"] if may_read_prices else []))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Credential(
        access_key=key["AccessKeyId"],
        secret=key["SecretAccessKey"],
        session_token="",
        expires_at=None,
        arn=f"arn:aws:iam::{cloud.cloud.account}:user/{name}",
        user_id=name,
    )


def grant(iam: Any, name: str, *actions: str) -> None:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)


async def test_without_the_permission_the_table_holds_until_it_is_given(
    cloud: CloudThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(cloud, monkeypatch, a_user(cloud, "poor", may_read_prices=False))
    clock = VirtualClock(RealClock().now())
    listed = ListPrices(Aws(REGION), clock, "auto")
    await listed.read_types(["m5.large"])
    assert listed.on_demand("m5.large") == table_price("m5.large", REGION) == 0.096
    assert (await listed.charges()).public_ipv4_hourly_usd == 0.005
    await listed.read_all_types(["m5.large"])
    assert listed.table_as_of() == TABLE_AS_OF
    refused = [each for each in cloud.control.calls() if each.action == "GetProducts"]
    assert [each.outcome for each in refused] == ["AccessDeniedException"]
    grant(boto3.client("iam", **cloud.client_arguments()), "poor", "pricing:GetProducts")
    clock.advance(RETRY.delay(1, 0))
    await listed.read_all_types(["m5.large"])
    await listed.read_types(["m5.large"])
    assert listed.on_demand("m5.large") not in (None, 0.096)
    assert listed.table_as_of() is None
    assert (await listed.charges()).public_ipv4_hourly_usd == PUBLIC_IPV4_USD


@pytest.mark.parametrize(
    ("region", "asked"), [("eu-west-1", "eu-central-1"), ("cn-north-1", "cn-northwest-1")]
)
async def test_the_price_list_is_asked_in_the_partition_of_the_account(
    monkeypatch: pytest.MonkeyPatch, region: str, asked: str
) -> None:
    """In China the API of us-east-1 does not know the account, and prices are in CNY."""
    with start_cloud(CloudSettings(region=region)) as cloud:
        use(cloud, monkeypatch)
        listed = ListPrices(Aws(region), RealClock(), "api")
        await listed.read_types(["m5.large"])
        charges = await listed.charges()
        calls = [each for each in cloud.control.calls() if each.service == "pricing"]
        assert {each.outcome for each in calls} == {"ok"}
        is_known = region == "eu-west-1"
        assert (listed.on_demand("m5.large") is not None) == is_known
        assert (charges.public_ipv4_hourly_usd is not None) == is_known
        arguments = cloud.client_arguments() | {"region_name": asked}
        assert boto3.client("pricing", **arguments).get_products(ServiceCode="AmazonVPC")
        elsewhere = cloud.client_arguments() | {
            "region_name": "us-east-1" if region == "cn-north-1" else region
        }
        with pytest.raises(ClientError, match=r"UnrecognizedClientException|UnknownEndpoint"):
            boto3.client("pricing", **elsewhere).get_products(ServiceCode="AmazonVPC")


async def test_a_plan_of_an_earlier_release_has_no_size_of_the_volume(cloud: CloudThread) -> None:
    compute = compute_of()
    plan = await compute.plan(Offer(deployment="test", api_url="http://api"))
    assert set(plan["volume_gib"].values()) == {30}
    earlier = {name: plan[name] for name in ("market", "zones", "fleet")}
    batch = LaunchBatch(token="b1", requests=(REQUEST,), plan=earlier)
    [instance] = await compute.launch(batch)
    assert isinstance(instance, Instance)
    assert instance.other_prices.volume_hourly_usd is None


async def test_an_old_account_has_spot_prices_of_another_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has had EC2-Classic, and names the product of instances in a VPC."""
    given = CloudSettings(speed=200.0, price_step_seconds=1e9, spot_product=VPC_PRODUCT)
    with start_cloud(given) as cloud:
        make_profile(cloud)
        use(cloud, monkeypatch)
        history = {
            "InstanceTypes": ["m5.large"],
            "StartTime": RealClock().now(),
            "ProductDescriptions": ["Linux/UNIX"],
        }
        ec2 = boto3.client("ec2", **cloud.client_arguments())
        assert ec2.describe_spot_price_history(**history)["SpotPriceHistory"] == []
        instance = await launched(compute_of())
        [bill] = cloud.control.ledger()
        assert instance.hourly_price_usd == pytest.approx(60 * bill.instance_usd, rel=0.01)


@pytest.mark.parametrize("market", ["spot", "on-demand"])
async def test_an_image_with_a_licence_costs_more_than_linux_so_its_price_is_not_known(
    cloud: CloudThread, market: Market
) -> None:
    images = ec2_backends[cloud.cloud.account][REGION].amis
    for image in images.values():
        image.platform = "Red Hat Enterprise Linux"
    compute = compute_of()
    plan = await compute.plan(Offer(deployment="test", api_url="http://api", market=market))
    batch = LaunchBatch(token="b1", requests=(REQUEST,), plan=plan)
    [instance] = await compute.launch(batch)
    assert isinstance(instance, Instance)
    assert (instance.hourly_price_usd, instance.on_demand_hourly_price_usd) == (None, None)
    assert instance.other_prices.public_ipv4_hourly_usd == PUBLIC_IPV4_USD
    [shown] = await compute.list_instances()
    assert shown.hourly_price_usd is None
