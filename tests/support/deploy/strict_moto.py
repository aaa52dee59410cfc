"""A stricter moto, as strict as AWS: for deleting a stack with a hosted zone.

Route 53 deletes no zone that holds records other than its own SOA and NS (`HostedZoneNotEmpty`,
https://docs.aws.amazon.com/Route53/latest/APIReference/API_DeleteHostedZone.html). CloudFormation
asks it to, and where it is refused the stack ends in DELETE_FAILED, from which it can be deleted
again. moto's CloudFormation never asks, and has no such state. Route 53 also deletes a record only
where every value is given as it is; moto compares none. And moto has no GetEbsDefaultKmsKeyId.
"""

from datetime import UTC, datetime
from typing import Any

import pytest
from moto.autoscaling.responses import AutoScalingResponse
from moto.cloudformation.models import CloudFormationBackend, Event, Stack
from moto.core.responses import ActionResult
from moto.ec2.responses.settings import Settings as EbsSettings
from moto.kms.models import kms_backends
from moto.route53.exceptions import Route53ClientError
from moto.route53.models import FakeZone, RecordSet, Route53Backend, route53_backends

AWS_KEY = "alias/aws/ebs"


def be_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch moto for the rest of the test."""
    delete_stack = CloudFormationBackend.delete_stack
    change_records = Route53Backend.change_resource_record_sets

    def delete_or_fail(self: CloudFormationBackend, name_or_stack_id: str) -> None:
        stack = self.stacks.get(name_or_stack_id)
        if stack is None:
            delete_stack(self, name_or_stack_id)  # finds its id, and calls this again
            return
        try:
            delete_stack(self, name_or_stack_id)
        except Exception as error:  # noqa: BLE001 - as CloudFormation, whatever the cause
            _fail(stack, error)
            self.stacks[stack.stack_id] = stack

    def change_exactly(self: Route53Backend, zoneid: str, changes: list[dict[str, Any]]) -> None:
        zone = self.get_hosted_zone(zoneid)
        for change in changes:
            if change["Action"] == "DELETE":
                _require_exactly(zone, change["ResourceRecordSet"])
        change_records(self, zoneid, changes)

    monkeypatch.setattr(CloudFormationBackend, "delete_stack", delete_or_fail)
    monkeypatch.setattr(Route53Backend, "change_resource_record_sets", change_exactly)
    monkeypatch.setattr(EbsSettings, "get_ebs_default_kms_key_id", _get_default_key, raising=False)
    monkeypatch.setattr(FakeZone, "delete", _delete_zone, raising=False)


def _get_default_key(self: EbsSettings) -> ActionResult:
    """Answer as EC2 does; its own key has the alias `alias/aws/ebs`."""
    backend = self.ec2_backend
    chosen = getattr(backend, "default_kms_key_id", None) or AWS_KEY
    keys = kms_backends[backend.account_id][backend.region_name]
    is_own = chosen != AWS_KEY and chosen.endswith(keys.get_key_id_from_alias(AWS_KEY) or "-")
    return ActionResult({"KmsKeyId": AWS_KEY if is_own else chosen})


def _delete_zone(zone: FakeZone, account_id: str, _region: str) -> None:
    backend = route53_backends[account_id]["aws"]
    if zone.resource_id in backend.zones:
        backend.delete_hosted_zone(zone.resource_id)


def _fail(stack: Stack, error: Exception) -> None:
    """Keep the undeletable resource, with the reason; delete the rest of the stack."""
    resources = stack.resource_map
    left = [name for name in resources._resource_json_map if name in resources._parsed_resources]
    resources._resource_json_map = {name: resources._resource_json_map[name] for name in left}
    for name in left:
        resource: Any = resources._parsed_resources[name]
        if isinstance(resource, FakeZone):
            stack.events.append(
                Event(
                    stack_id=stack.stack_id,
                    stack_name=stack.name,
                    logical_resource_id=name,
                    physical_resource_id=resource.resource_id,
                    resource_type="AWS::Route53::HostedZone",
                    resource_status="DELETE_FAILED",
                    resource_status_reason=str(error),
                    resource_properties=None,
                )
            )
    stack.status = "DELETE_FAILED"
    stack._add_stack_event("DELETE_FAILED", f"The following resource(s) failed to delete: {left}.")


def _require_exactly(zone: FakeZone, wanted: dict[str, Any]) -> None:
    """Raise as Route 53 does if no record of *zone* has all of these values."""
    name = wanted["Name"].rstrip(".") + "."
    values = sorted(each["Value"] for each in wanted.get("ResourceRecords", []))
    if not any(_values(each) == (name, wanted["Type"], values) for each in zone.rrsets):
        message = f"[Tried to delete resource record set [name='{name}'] but it was not found]"
        raise Route53ClientError("InvalidChangeBatch", message)


def _values(record: RecordSet) -> tuple[str, str, list[str]]:
    return record.name, str(record.type), sorted(record.records)


def fail_launches(monkeypatch: pytest.MonkeyPatch, *reasons: str) -> None:
    """Have Auto Scaling describe a failed launch for each reason; moto describes none.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_Activity.html
    """
    failed = [
        {
            "ActivityId": f"activity-{number}",
            "AutoScalingGroupName": "docker-job-Services",
            "Cause": "At 2026-01-01T00:00:00Z an instance was started in response to a difference",
            "Description": "Launching a new EC2 instance.  Status Reason: " + reason,
            "StartTime": datetime.now(UTC),
            "StatusCode": "Failed",
            "StatusMessage": reason,
            "Progress": 100,
        }
        for number, reason in enumerate(reasons)
    ]
    running = {**failed[0], "ActivityId": "running", "StatusCode": "PreInService"}
    del running["StatusMessage"]

    def describe(_self: AutoScalingResponse) -> ActionResult:
        return ActionResult({"Activities": [running, *reversed(failed)]})

    monkeypatch.setattr(AutoScalingResponse, "describe_scaling_activities", describe)


def end_in(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Have the creation of stacks end in *status*."""
    create_stack = CloudFormationBackend.create_stack

    def create(self: CloudFormationBackend, *given: Any, **named: Any) -> Stack:
        stack = create_stack(self, *given, **named)
        stack.status = status
        return stack

    monkeypatch.setattr(CloudFormationBackend, "create_stack", create)
