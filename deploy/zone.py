"""The stack's private hosted zone: emptied before CloudFormation deletes it.

The instance makes a record in it at each start (`cloud.py name`), which is not in the stack. Route
53 does not delete a zone with records other than its own SOA and NS (`HostedZoneNotEmpty`,
https://docs.aws.amazon.com/Route53/latest/APIReference/API_DeleteHostedZone.html), and the stack
would end in DELETE_FAILED. Only the zone in the stack's resources is changed, and in it only the
instance's record.
"""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.refusal import Refusal, code_of
from deploy.stack import POLL_SECONDS, Stack, physical_id

LOGICAL_ID = "Zone"
"""The zone's name in template.yaml."""

TRIES = 5
NAMED = 5
"""The number of foreign records that a refusal names."""


def find_zone(account: Account, stack: Stack) -> str | None:
    """Return the id of the zone that *stack* owns, or None."""
    return physical_id(account, stack, LOGICAL_ID) or None


def refuse_foreign_records(account: Account, zone: str, stack: str) -> None:
    """Raise `Refusal` where the zone holds a record that docker-job does not make."""
    records = _records(account, zone)
    apex = {_name(each) for each in records if each["Type"] == "SOA"}
    foreign = [
        f"{each['Name']} {each['Type']}"
        for each in records
        if not _is_own(each, stack) and not (each["Type"] in ("SOA", "NS") and _name(each) in apex)
    ]
    if foreign:
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise Refusal(
            f"The hosted zone {zone} of the stack holds {', '.join(foreign[:NAMED])}{more}, which "
            "docker-job has not made, and Route 53 does not delete a zone with such records: move "
            "or delete them, then run this again. Nothing was removed."
        )


def delete_own_record(
    account: Account, zone: str, stack: str, sleep: Callable[[float], None]
) -> None:
    """Delete the record of the API's name, if it exists. Raises `Refusal`.

    Call it after the services' instance is terminated: it would make the record again.
    """
    route53 = account.client("route53")
    for _ in range(TRIES):
        own = [each for each in _records(account, zone) if _is_own(each, stack)]
        if not own:
            return
        changes = [{"Action": "DELETE", "ResourceRecordSet": each} for each in own]
        try:
            answer = route53.change_resource_record_sets(
                HostedZoneId=zone, ChangeBatch={"Changes": changes}
            )
        except ClientError as error:
            # The record was changed or deleted since it was listed: list it again.
            if code_of(error) != "InvalidChangeBatch":
                raise
            sleep(POLL_SECONDS)
            continue
        change = answer["ChangeInfo"]["Id"]
        while route53.get_change(Id=change)["ChangeInfo"]["Status"] != "INSYNC":
            sleep(POLL_SECONDS)
    raise Refusal(
        f"The record {_own_name(stack)} in the hosted zone {zone} is made again each time it is "
        "deleted: find and stop its maker, then run this again."
    )


def _records(account: Account, zone: str) -> list[dict[str, Any]]:
    pages = account.client("route53").get_paginator("list_resource_record_sets")
    try:
        return [
            each
            for page in pages.paginate(HostedZoneId=zone)
            for each in page["ResourceRecordSets"]
        ]
    except ClientError as error:
        if code_of(error) != "NoSuchHostedZone":
            raise
        return []


def _own_name(stack: str) -> str:
    return f"api.{stack}.docker-job.internal"  # as API_NAME in template.yaml


def _is_own(record: dict[str, Any], stack: str) -> bool:
    """Return True for the record that `cloud.py name` makes, with any address."""
    return (
        _name(record) == _own_name(stack).lower()  # Route 53 keeps names in lower case
        and record["Type"] == "A"
        and "SetIdentifier" not in record
        and "AliasTarget" not in record
    )


def _name(record: dict[str, Any]) -> str:
    return str(record["Name"]).rstrip(".").lower()
