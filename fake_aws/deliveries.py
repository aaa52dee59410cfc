"""EventBridge's deliveries: which rules an event matches, and which queues take it.

A queue takes an event only if its own policy lets EventBridge send for that rule, and if
EventBridge may use the key that encrypts the queue. Otherwise the event is lost without a trace.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
"""

import json
from collections.abc import Iterator
from typing import Any

from moto.events.exceptions import InvalidEventPatternException
from moto.events.models import EventPattern, events_backends
from moto.kms.models import kms_backends
from moto.sqs.models import sqs_backends

from fake_aws.errors import AwsError
from fake_aws.policies import Context, Statement, allows, statements

Params = dict[str, Any]
EVENTBRIDGE = "events.amazonaws.com"
AWS_KEY = "alias/aws/sqs"
"""The key that AWS manages, whose policy cannot be changed: no service may use it."""

MANDATORY = ("id", "account", "source", "time", "region", "resources", "detail-type")
"""https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_TestEventPattern.html"""


def queues_for(account: str, region: str, event: Any) -> list[str]:
    """Return the names of the queues that receive *event*, once for each target that matches."""
    bus = events_backends[account][region].event_buses["default"]
    return [
        target["Arn"].rpartition(":")[2]
        for rule in list(bus.rules.values())
        if rule.state == "ENABLED" and rule.event_pattern.matches_event(event)
        for target in rule.targets
        if target["Arn"].split(":")[2] == "sqs" and _takes(account, region, target["Arn"], rule.arn)
    ]


def check_pattern(params: Params) -> Params:
    """TestEventPattern of EventBridge. Raises AwsError."""
    try:
        event = json.loads(params["Event"])
        missing = [each for each in MANDATORY if each not in event]
    except (ValueError, TypeError) as error:
        raise AwsError("ValidationException", f"Parameter Event is not valid: {error}") from error
    if missing:
        raise AwsError("ValidationException", f"Parameter Event lacks {', '.join(missing)}")
    try:
        pattern = EventPattern.load(params["EventPattern"])
    except InvalidEventPatternException as error:
        raise AwsError("InvalidEventPatternException", "Event pattern is not valid.") from error
    return {"Result": pattern.matches_event(event)}


def _takes(account: str, region: str, queue_arn: str, rule_arn: str) -> bool:
    queue: Any = sqs_backends[account][region].queues.get(queue_arn.rpartition(":")[2])
    if queue is None:
        return False
    context: Context = {
        "aws:sourcearn": rule_arn,
        "aws:sourceaccount": account,
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": EVENTBRIDGE,
    }
    rules = list(_for_eventbridge(str(queue.policy or '{"Statement": []}')))
    return allows(rules, "sqs:SendMessage", queue_arn, context) and _may_encrypt(
        account, region, str(queue.kms_master_key_id or ""), context
    )


def _may_encrypt(account: str, region: str, key_id: str, context: Context) -> bool:
    """Return whether EventBridge may use the queue's key; without one SQS encrypts by itself."""
    if not key_id:
        return True
    keys = kms_backends[account][region].keys
    found = [
        each
        for each in keys.values()
        if key_id in (each.id, each.arn) or key_id.rpartition(":")[2] in each.aliases
    ]
    if key_id.endswith(AWS_KEY) or not found:
        return False
    rules = list(_for_eventbridge(found[0].policy))
    actions = ("kms:GenerateDataKey", "kms:Decrypt")
    return all(allows(rules, each, found[0].arn, context) for each in actions)


def _for_eventbridge(policy: str) -> Iterator[Statement]:
    """Yield the statements whose principal is EventBridge, or everybody."""
    for each in statements([policy]):
        excluded = "NotPrincipal" in each
        named = _names(each["NotPrincipal"] if excluded else each.get("Principal"))
        if named != excluded:
            yield each if "NotResource" in each else {"Resource": "*", **each}


def _names(principal: Any) -> bool:
    if not isinstance(principal, dict):
        return bool(principal == "*")
    given = [principal.get("Service", ()), principal.get("AWS", ())]
    services, accounts = ([each] if isinstance(each, str) else list(each) for each in given)
    return EVENTBRIDGE in services or "*" in accounts
