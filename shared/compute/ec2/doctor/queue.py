"""The interruption queue, the rules that fill it, and its policy and key."""

import json
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.probes import Unprovable, reception
from shared.compute.ec2.doctor.queue_policy import judge
from shared.compute.ec2.doctor.sample_events import samples
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.notices import KINDS
from shared.findings import Finding, FindingGroup

GROUP = "interruptions"
GUIDE = "docs/ec2.md, The interruption queue"
AWS_KEY = "alias/aws/sqs"
"""The key that AWS manages: its policy lets no service send, and cannot be changed.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html
"""
ATTRIBUTES = ["Policy", "KmsMasterKeyId", "QueueArn"]


class EventRule(Struct, frozen=True):
    """An enabled rule with the queue as a target, and the detail types that it lets through."""

    arn: str
    kinds: frozenset[str]


class Unasked(Exception):
    """A call that the check needs is refused."""

    def __init__(self, outcome: Outcome, action: str) -> None:
        self.outcome = outcome
        self.action = action


async def queue(scene: Scene) -> list[Finding]:
    """Check that the queue exists, that its rule is on, and that the rule may send to it."""
    found, url = FindingGroup(GROUP), scene.has.queue_url
    try:
        outcome = await reception(scene)
    except Unprovable:
        do = f"make one, and set DOCKER_JOB_INTERRUPTION_QUEUE_URL ({GUIDE})"
        found.add("warn", "queue", "none is set: only agents report interruptions", do)
        return found.all
    if not outcome.is_answer:
        do = f"make it, or mend DOCKER_JOB_INTERRUPTION_QUEUE_URL ({GUIDE})"
        found.add("fail", "queue", f"{url}: {outcome.error}", do)
        return found.all
    found.add("ok", "queue", url)
    rules = await _check_rules(found, scene, _arn(url, scene.has.region))
    await _check_attributes(found, scene, rules)
    return found.all


async def _check_rules(found: FindingGroup, scene: Scene, arn: str) -> list[EventRule]:
    """Return the rules that let any of the events through; none where that cannot be read."""
    try:
        rules = [each for each in await _rules(scene, arn) if each.kinds]
    except Unasked as error:
        _skip(found, "rule", error.outcome, error.action)
        return []
    missing = set(KINDS) - {kind for each in rules for kind in each.kinds}
    if missing:
        text = f"no enabled rule sends to it: {', '.join(sorted(missing))}"
        found.add("fail", "rule", text, f"make the rule of {GUIDE}, with {arn} as its target")
    else:
        found.add("ok", "rule", "EventBridge sends all three kinds of events")
    return rules


async def _rules(scene: Scene, arn: str) -> list[EventRule]:
    named = await ask(scene.aws, "ListRuleNamesByTarget", service="events", TargetArn=arn)
    if not named.is_answer:
        raise Unasked(named, "events:ListRuleNamesByTarget")
    rules = []
    for name in named.answer.get("RuleNames") or []:
        rule = await ask(scene.aws, "DescribeRule", service="events", Name=name)
        if not rule.is_answer:
            raise Unasked(rule, "events:DescribeRule")
        pattern = rule.answer.get("EventPattern")
        if pattern and rule.answer.get("State") != "DISABLED":
            kinds = await _kinds(scene, pattern, arn.split(":")[4])
            rules.append(EventRule(str(rule.answer["Arn"]), kinds))
    return rules


async def _kinds(scene: Scene, pattern: str, account: str) -> frozenset[str]:
    """Return the detail types of which EventBridge itself finds an event to match *pattern*.

    https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_TestEventPattern.html
    """
    kinds = set()
    for kind, events in samples(account, scene.has.region, scene.clock.now()).items():
        for event in events:
            outcome = await _match(scene, pattern, event)
            if not outcome.is_answer:
                raise Unasked(outcome, "events:TestEventPattern")
            if outcome.answer["Result"]:
                kinds.add(kind)
                break
    return frozenset(kinds)


async def _match(scene: Scene, pattern: str, event: dict[str, Any]) -> Outcome:
    given = {"EventPattern": pattern, "Event": json.dumps(event)}
    return await ask(scene.aws, "TestEventPattern", service="events", **given)


async def _check_attributes(found: FindingGroup, scene: Scene, rules: list[EventRule]) -> None:
    outcome = await ask(
        scene.aws,
        "GetQueueAttributes",
        service="sqs",
        QueueUrl=scene.has.queue_url,
        AttributeNames=ATTRIBUTES,
    )
    if not outcome.is_answer:
        _skip(found, "queue's policy", outcome, "sqs:GetQueueAttributes")
        return
    attributes = outcome.answer.get("Attributes") or {}
    arn = attributes.get("QueueArn") or _arn(scene.has.queue_url, scene.has.region)
    _note_policy(found, attributes.get("Policy") or "", arn, rules)
    _note_key(found, attributes.get("KmsMasterKeyId") or "")


def _note_policy(found: FindingGroup, policy: str, arn: str, rules: list[EventRule]) -> None:
    name = "queue's policy"
    judged = {each.arn: judge(policy, arn, each.arn) for each in rules}
    verdicts = set(judged.values()) or {judge(policy, arn, None)}
    do = f"allow sqs:SendMessage on {arn} to events.amazonaws.com ({GUIDE})"
    if "denied" in verdicts:
        closed = ", ".join(each for each, verdict in judged.items() if verdict == "denied")
        text = f"it does not let {closed or 'EventBridge'} send to the queue"
        found.add("fail", name, text, do)
    elif "unclear" not in verdicts:
        found.add("ok", name, "EventBridge may send")
    elif rules:
        text = "its conditions cannot be judged from here"
        found.add("warn", name, text, f"see to it that it lets the rule send; else {do}")
    else:
        found.add("skip", name, "it depends on the rule, which is not known")


def _note_key(found: FindingGroup, key: str) -> None:
    name = "queue's key"
    if not key:
        found.add("ok", name, "SQS's own: EventBridge needs no permission")
    elif key.endswith(AWS_KEY):
        do = (
            "use SQS's own encryption (aws sqs set-queue-attributes --attributes "
            "KmsMasterKeyId=,SqsManagedSseEnabled=true), or a key of your own"
        )
        text = f"{key} lets no service send, so no notice arrives"
        found.add("fail", name, text, do)
    else:
        do = (
            "its policy must allow events.amazonaws.com kms:GenerateDataKey and kms:Decrypt, and "
            "the reaper kms:Decrypt; a key that AWS manages will not do"
        )
        found.add("warn", name, f"a key of your own, {key}", do)


def _skip(found: FindingGroup, name: str, outcome: Outcome, action: str) -> None:
    found.add("skip", name, outcome.error, f"to check it, allow {action} ({MORE})")


def _arn(url: str, region: str) -> str:
    """Return the ARN of the queue at `https://sqs.<region>.amazonaws.com/<account>/<name>`."""
    parts = urlsplit(url)
    account, _, name = parts.path.strip("/").partition("/")
    labels = (parts.hostname or "").split(".")
    where = labels[1] if labels[0] == "sqs" and len(labels) > 2 else region
    partition = "aws-cn" if where.startswith("cn-") else "aws"
    return f"arn:{partition}:sqs:{where}:{account}:{name}"
