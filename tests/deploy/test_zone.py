"""destroy.sh and the hosted zone, which Route 53 deletes only without the instance's record."""

from email.message import Message
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from botocore.stub import Stubber

from deploy import zone
from deploy.account import Account
from deploy.place import SERVICES_TAG
from deploy.refusal import Refusal
from tests.deploy.conftest import ACCOUNT, REGION, MotoCloud
from tests.support.deploy.instance_world import SmallServer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Tried to parse"),
    pytest.mark.filterwarnings("ignore:Unable to delete"),
]

ALLOW = ("--allow", "203.0.113.0/24")
NAME = "api.docker-job.docker-job.internal"


def zone_id(aws: MotoCloud) -> str:
    """Return the zone that the stack owns."""
    listed = aws.client("cloudformation").list_stack_resources(StackName="docker-job")
    [found] = [
        each["PhysicalResourceId"]
        for each in listed["StackResourceSummaries"]
        if each["LogicalResourceId"] == "Zone"
    ]
    return str(found)


def record(name: str = NAME, value: str = "10.0.0.7", kind: str = "A", ttl: int = 10) -> Any:
    values = [{"Value": value}]
    return {"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": values}


def put(aws: MotoCloud, zone: str, *records: Any) -> None:
    """Make the record, as `cloud.py name` does on the instance."""
    changes = [{"Action": "UPSERT", "ResourceRecordSet": each} for each in records]
    aws.client("route53").change_resource_record_sets(
        HostedZoneId=zone, ChangeBatch={"Changes": changes}
    )


def names(aws: MotoCloud, zone: str) -> set[str]:
    """List the names of all records of *zone* but its own SOA and NS."""
    found = aws.client("route53").list_resource_record_sets(HostedZoneId=zone)
    return {
        each["Name"] for each in found["ResourceRecordSets"] if each["Type"] not in ("NS", "SOA")
    }


def zones(aws: MotoCloud) -> list[str]:
    found = aws.client("route53").list_hosted_zones()["HostedZones"]
    return [each["Id"].rpartition("/")[2] for each in found]


def status(aws: MotoCloud) -> str:
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    return str(stack["StackStatus"])


def test_destroy_deletes_the_record_that_the_instance_has_made_and_then_the_zone(
    aws: MotoCloud,
) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    put(aws, zone_id(aws), record(value="10.0.0.6", ttl=60))
    put(aws, zone_id(aws), record())
    run = aws.destroy("--yes", "--keep-data")
    assert run.returncode == 0, run.stderr
    assert zones(aws) == []
    assert aws.client("cloudformation").describe_stacks()["Stacks"] == []


def test_a_stack_whose_deletion_failed_at_the_record_is_deleted_when_destroy_is_run(
    aws: MotoCloud,
) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    put(aws, zone_id(aws), record())
    aws.client("cloudformation").delete_stack(StackName="docker-job")
    assert status(aws) == "DELETE_FAILED", "moto is as strict as Route 53"
    run = aws.destroy("--yes", "--keep-data")
    assert run.returncode == 0, run.stderr
    assert zones(aws) == []
    assert aws.client("cloudformation").describe_stacks()["Stacks"] == []


def test_a_zone_that_is_deleted_already_is_not_in_the_way(aws: MotoCloud) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    aws.client("route53").delete_hosted_zone(Id=zone_id(aws))
    run = aws.destroy("--yes", "--keep-data")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "other",
    [
        record("db.docker-job.docker-job.internal"),
        record(kind="TXT", value='"kept"'),
        {**record(), "SetIdentifier": "blue", "Weight": 1},
    ],
)
def test_a_record_that_docker_job_has_not_made_is_named_and_nothing_is_removed(
    aws: MotoCloud, other: Any
) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    put(aws, zone_id(aws), other)
    run = aws.destroy("--yes")
    assert run.returncode == 1
    [line] = run.stderr.splitlines()
    assert f"{other['Name']}. {other['Type']}" in line
    assert zone_id(aws) in line
    assert names(aws, zone_id(aws)) == {f"{other['Name']}."}
    assert len(aws.instances(SERVICES_TAG)) == 1


def test_another_owners_zone_with_the_same_name_is_left_as_it_is(aws: MotoCloud) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    made = aws.client("route53").create_hosted_zone(
        Name="docker-job.docker-job.internal", CallerReference="another"
    )
    another = made["HostedZone"]["Id"].rpartition("/")[2]
    put(aws, another, record())
    put(aws, zone_id(aws), record())
    run = aws.destroy("--yes", "--keep-data")
    assert run.returncode == 0, run.stderr
    assert zones(aws) == [another]
    assert names(aws, another) == {f"{NAME}."}


# -- what moto does not do: pages, changes in between, denials ------------------------------------


@pytest.fixture
def stubbed() -> tuple[Account, Stubber]:
    """Make an account whose Route 53 has stubbed answers."""
    client: Any = boto3.client(
        "route53", region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b"
    )
    session = Mock()
    session.client.return_value = client
    return Account(session, ACCOUNT, REGION, "aws", "user/me"), Stubber(client)


SOA = record("docker-job.docker-job.internal.", "ns.example. root.example. 1 2 3 4 5", "SOA")
NS = record("docker-job.docker-job.internal.", "ns.example.", "NS")
OWN = record(f"{NAME}.")


def page(*records: Any, following: Any = None) -> dict[str, Any]:
    answer = {
        "ResourceRecordSets": list(records),
        "IsTruncated": following is not None,
        "MaxItems": "300",
    }
    if following is not None:
        answer |= {"NextRecordName": following["Name"], "NextRecordType": following["Type"]}
    return answer


def deletion(stub: Stubber, own: Any, code: str | None = None) -> None:
    """Expect the next call to delete *own*, with all its values."""
    wanted = {
        "HostedZoneId": "Z1",
        "ChangeBatch": {"Changes": [{"Action": "DELETE", "ResourceRecordSet": own}]},
    }
    if code:
        stub.add_client_error("change_resource_record_sets", code, expected_params=wanted)
        return
    change = {"Id": "/change/C1", "Status": "PENDING", "SubmittedAt": 0}
    stub.add_response("change_resource_record_sets", {"ChangeInfo": change}, wanted)
    for state in ("PENDING", "INSYNC"):
        stub.add_response("get_change", {"ChangeInfo": {**change, "Status": state}})


def test_records_on_later_pages_are_seen(stubbed: tuple[Account, Stubber]) -> None:
    account, stub = stubbed
    later = record("z.docker-job.docker-job.internal.")
    stub.add_response("list_resource_record_sets", page(NS, SOA, following=OWN))
    stub.add_response("list_resource_record_sets", page(OWN, following=later))
    stub.add_response("list_resource_record_sets", page(later))
    with (
        stub,
        pytest.raises(Refusal, match=r"holds z\.docker-job\.docker-job\.internal\. A, which"),
    ):
        zone.refuse_foreign_records(account, "Z1", "docker-job")
    stub.assert_no_pending_responses()


def test_a_name_server_record_below_the_zone_is_not_the_zones_own(
    stubbed: tuple[Account, Stubber],
) -> None:
    account, stub = stubbed
    delegated = record("sub.docker-job.docker-job.internal.", "ns.example.", "NS")
    stub.add_response("list_resource_record_sets", page(NS, SOA, delegated))
    with stub, pytest.raises(Refusal, match="NS"):
        zone.refuse_foreign_records(account, "Z1", "docker-job")


def test_a_record_that_changes_after_it_was_listed_is_deleted_with_its_new_values(
    stubbed: tuple[Account, Stubber],
) -> None:
    account, stub = stubbed
    changed = record(f"{NAME}.", "10.0.0.8")
    slept: list[float] = []
    stub.add_response("list_resource_record_sets", page(NS, SOA, OWN))
    deletion(stub, OWN, "InvalidChangeBatch")
    stub.add_response("list_resource_record_sets", page(NS, SOA, changed))
    deletion(stub, changed)
    stub.add_response("list_resource_record_sets", page(NS, SOA))
    with stub:
        zone.delete_own_record(account, "Z1", "docker-job", slept.append)
    stub.assert_no_pending_responses()
    assert len(slept) == 2, "before it looks again, and until the change is everywhere"


def test_a_record_that_is_recreated_each_time_is_reported_in_the_end(
    stubbed: tuple[Account, Stubber],
) -> None:
    account, stub = stubbed
    for _ in range(zone.TRIES):
        stub.add_response("list_resource_record_sets", page(NS, SOA, OWN))
        deletion(stub, OWN)
    with stub, pytest.raises(Refusal, match="is made again"):
        zone.delete_own_record(account, "Z1", "docker-job", lambda _: None)


@pytest.mark.parametrize("stack", ["docker-job", "Docker-Job"])
def test_route_53_writes_names_in_small_letters(
    stubbed: tuple[Account, Stubber], stack: str
) -> None:
    account, stub = stubbed
    stub.add_response("list_resource_record_sets", page(NS, SOA, OWN))
    with stub:
        zone.refuse_foreign_records(account, "Z1", stack)


class Denying(SmallServer):
    """Denies every call, which moto does not."""

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        return 403, (
            '<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error>'
            "<Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>"
            "<RequestId>1</RequestId></ErrorResponse>"
        )


def test_without_the_permission_the_call_that_is_denied_is_named(aws: MotoCloud) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    denying = Denying()
    try:
        run = aws.destroy("--yes", AWS_ENDPOINT_URL_ROUTE_53=denying.url)
    finally:
        denying.close()
    assert run.returncode == 1
    assert "may not call ListResourceRecordSets" in run.stderr
    assert len(aws.instances(SERVICES_TAG)) == 1, "found out before anything is removed"
