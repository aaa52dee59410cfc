"""The interruption queue, and the rule that fills it."""

import json
from typing import Any
from urllib.parse import urlsplit

from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.probes import Unprovable, reception
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.notices import KINDS
from shared.findings import Finding, FindingGroup

GROUP = "interruptions"
GUIDE = "docs/ec2.md, The interruption queue"


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
    await _check_rule(found, scene, _arn(url, scene.has.region))
    await _check_policy(found, scene, url)
    return found.all


async def _check_rule(found: FindingGroup, scene: Scene, arn: str) -> None:
    outcome = await ask(scene.aws, "ListRuleNamesByTarget", service="events", TargetArn=arn)
    if not outcome.is_answer:
        _skip(found, "rule", outcome, "events:ListRuleNamesByTarget")
        return
    kinds: set[str] = set()
    for name in outcome.answer.get("RuleNames") or []:
        rule = await ask(scene.aws, "DescribeRule", service="events", Name=name)
        if not rule.is_answer:
            _skip(found, "rule", rule, "events:DescribeRule")
            return
        if rule.answer.get("State") != "DISABLED":
            kinds |= _kinds(rule.answer.get("EventPattern") or "{}")
    missing = set(KINDS) - kinds
    if missing:
        text = f"no enabled rule sends to it: {', '.join(sorted(missing))}"
        found.add("fail", "rule", text, f"make the rule of {GUIDE}, with {arn} as its target")
    else:
        found.add("ok", "rule", "EventBridge sends all three kinds of events")


async def _check_policy(found: FindingGroup, scene: Scene, url: str) -> None:
    outcome = await ask(
        scene.aws, "GetQueueAttributes", service="sqs", QueueUrl=url, AttributeNames=["Policy"]
    )
    if not outcome.is_answer:
        _skip(found, "queue's policy", outcome, "sqs:GetQueueAttributes")
        return
    policy = (outcome.answer.get("Attributes") or {}).get("Policy") or ""
    if "events.amazonaws.com" in policy:
        found.add("ok", "queue's policy", "EventBridge may send")
    else:
        do = f"allow sqs:SendMessage to events.amazonaws.com ({GUIDE})"
        found.add("fail", "queue's policy", "EventBridge may not send to the queue", do)


def _skip(found: FindingGroup, name: str, outcome: Outcome, action: str) -> None:
    found.add("skip", name, outcome.error, f"to check it, allow {action} ({MORE})")


def _kinds(pattern: str) -> set[str]:
    """Return the detail types that a rule's pattern lets through: all, unless it names some."""
    read: dict[str, Any] = json.loads(pattern)
    source, named = read.get("source"), read.get("detail-type")
    if source is not None and "aws.ec2" not in source:
        return set()
    return set(KINDS) if named is None else set(named) & set(KINDS)


def _arn(url: str, region: str) -> str:
    """Return the ARN of the queue at `https://sqs.<region>.amazonaws.com/<account>/<name>`."""
    parts = urlsplit(url)
    account, _, name = parts.path.strip("/").partition("/")
    labels = (parts.hostname or "").split(".")
    where = labels[1] if labels[0] == "sqs" and len(labels) > 2 else region
    partition = "aws-cn" if where.startswith("cn-") else "aws"
    return f"arn:{partition}:sqs:{where}:{account}:{name}"
