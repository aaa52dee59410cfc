"""The permissions that a call needs: actions, resources, and the condition keys of both.

They follow the Service Authorization Reference, for the calls of a launcher, a reaper and an
instance. CreateFleet needs its own action on the fleet, RunInstances on each part of an instance
that it launches, CreateTags with the call's name for tags at the launch, iam:PassRole for a role.
A call of another service needs its action alone, on `*` unless a resource is named below.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

from moto.iam.models import iam_backends

from fake_aws.credentials import Credential
from fake_aws.errors import AwsError, unauthorized
from fake_aws.instance import Plan
from fake_aws.moto_side import MotoSide
from fake_aws.policies import Context, Statement, allows, statements
from fake_aws.refusals import decoded_refusal
from fake_aws.registry import Registry
from fake_aws.spot import SpotRequests
from fake_aws.tag_rules import tags_for
from fake_aws.templates import Templates
from fake_aws.wire import SHORT_NAMES

Params = dict[str, Any]
# Allowed to every caller.
FREE = {("sts", "GetCallerIdentity")}
TEMPLATE_CALLS = {
    *("CreateLaunchTemplateVersion", "ModifyLaunchTemplate", "DeleteLaunchTemplate"),
    *("DeleteLaunchTemplateVersions",),
}
INSTANCE_CALLS = {"TerminateInstances", "StopInstances", "GetConsoleOutput"}
# A batch needs the permission of the single call.
SAME_PERMISSION = {
    "DeleteMessageBatch": "DeleteMessage",
    "SendMessageBatch": "SendMessage",
    "ChangeMessageVisibilityBatch": "ChangeMessageVisibility",
}
MOST_REFUSALS = 1000
TAGGED_AT_CREATION = {
    "CreateFleet": "fleet",
    "CreateLaunchTemplate": "launch-template",
}


class Need(NamedTuple):
    """One needed permission."""

    action: str
    resource: str
    context: dict[str, str | list[str]]


class Permissions:
    """Checks each call against its caller's policies."""

    def __init__(
        self,
        moto: MotoSide,
        registry: Registry,
        spot: SpotRequests,
        templates: Templates,
        *,
        enforced: bool,
    ) -> None:
        self._moto = moto
        self._registry = registry
        self._spot = spot
        self._templates = templates
        self._enforced = enforced
        self._decoded: dict[str, str] = {}
        self._caller: ContextVar[Credential | None] = ContextVar("caller", default=None)

    def check(self, caller: Credential, service: str, action: str, params: Params) -> None:
        """Check a call. Raises UnauthorizedOperation, or AccessDenied for services but EC2."""
        self._caller.set(caller)
        if (service, action) in FREE or not self._binds(caller):
            return
        rules = self._rules(caller)
        for need in self._needs(service, action, params):
            if not self._grants(rules, need):
                raise self._refusal(caller, service, need)

    def check_launch(self, plan: Plan, call: str, template: str = "") -> None:
        """Check the launch of *plan* by *call*, from the template with the ARN *template*."""
        caller = self._caller.get()
        if caller is None or not self._binds(caller):
            return
        rules = self._rules(caller)
        for need in self._launch_needs(plan, call, template):
            if not self._grants(rules, need):
                raise self._refusal(caller, "ec2", need)

    def decode(self, params: Params) -> Params:
        """DecodeAuthorizationMessage of STS: the reason of a refusal, as JSON in a text."""
        found = self._decoded.get(params["EncodedMessage"])
        if found is None:
            raise AwsError("InvalidAuthorizationMessageException", "Message is not valid")
        return {"DecodedMessage": found}

    def template_arn(self, template_id: str) -> str:
        """Return the ARN of a launch template."""
        return self._arn("launch-template", template_id)

    def _refusal(self, caller: Credential, service: str, need: Need) -> AwsError:
        reason = (
            f"User: {caller.arn} is not authorized to perform: {need.action} on resource: "
            f"{need.resource} because no identity-based policy allows the {need.action} action"
        )
        if service == "ec2":
            looks = need.action.startswith("ec2:Describe")
            return (
                unauthorized() if looks else unauthorized(f"{reason}.", self._encode(caller, need))
            )
        own = service in {"ssm", "pricing", "events", "service-quotas"}
        code = "AccessDeniedException" if own else "AccessDenied"
        return AwsError(code, reason, 400 if own else 403)

    def _encode(self, caller: Credential, need: Need) -> str:
        """Keep the reason of a refusal under random characters, which only `decode` reads."""
        encoded = secrets.token_urlsafe(480)
        self._decoded[encoded] = decoded_refusal(caller.arn, *need)
        if len(self._decoded) > MOST_REFUSALS:
            del self._decoded[next(iter(self._decoded))]
        return encoded

    def _binds(self, caller: Credential) -> bool:
        return self._enforced and not caller.is_operator

    def _grants(self, rules: list[Statement], need: Need) -> bool:
        known: Context = {
            "aws:requestedregion": self._moto.region,
            "ec2:region": self._moto.region,
            **need.context,
        }
        return allows(rules, need.action, need.resource, known)

    def _rules(self, caller: Credential) -> list[Statement]:
        iam = iam_backends[self._moto.account]["aws"]
        if caller.role:
            owner = next(each for each in iam.roles.values() if each.name == caller.role)
            return statements(_documents(owner))
        user = iam.users[caller.arn.rpartition("/")[2]]
        groups = iam.get_groups_for_user(user.name)
        return statements(each for owner in (user, *groups) for each in _documents(owner))

    def _needs(self, service: str, action: str, params: Params) -> Iterator[Need]:
        if service != "ec2":
            named = f"{SHORT_NAMES.get(service, service)}:{SAME_PERMISSION.get(action, action)}"
            yield Need(named, self._resource(service, params), {})
            return
        tags = params.get("TagSpecifications", [])
        if action in TAGGED_AT_CREATION:
            kind = TAGGED_AT_CREATION[action]
            given = tags_for(kind, tags)
            yield Need(f"ec2:{action}", self._arn(kind, "*"), _requested(given))
            if given:
                yield self._tagging(kind, given, action)
        elif action == "RunInstances":
            return  # `check_launch` does, with the plan
        elif action in {"CreateTags", "DeleteTags"}:
            given = {each["Key"]: each.get("Value", "") for each in params.get("Tags", ())}
            for resource in params["Resources"]:
                yield self._on(f"ec2:{action}", resource, _requested(given))
        else:
            for resource in _named(action, params, self._templates):
                yield self._on(f"ec2:{action}", resource, {})

    def _launch_needs(self, plan: Plan, call: str, template: str) -> Iterator[Need]:
        shared: dict[str, str | list[str]] = {
            "ec2:islaunchtemplateresource": str(bool(template)).lower(),
            **({"ec2:launchtemplate": template} if template else {}),
        }
        instance = {
            **shared,
            **_requested(plan.instance_tags),
            "ec2:instancetype": plan.kind.name,
            "ec2:instancemarkettype": plan.market,
            "ec2:metadatahttptokens": plan.metadata.get("HttpTokens", "optional"),
            "ec2:metadatahttpputresponsehoplimit": str(
                plan.metadata.get("HttpPutResponseHopLimit", 1)
            ),
        }
        made = {
            "instance": (instance, plan.instance_tags),
            "volume": ({**shared, **_requested(plan.volume_tags)}, plan.volume_tags),
            "network-interface": (shared, {}),
        }
        if plan.market == "spot":
            requested = {**shared, **_requested(plan.request_tags)}
            made["spot-instances-request"] = (requested, plan.request_tags)
        for kind, (context, tags) in made.items():
            yield Need("ec2:RunInstances", self._arn(kind, "*"), context)
            if tags:
                # AWS does not document which of both names tags a fleet's instances.
                yield from (self._tagging(kind, tags, each) for each in {call, "RunInstances"})
        image = f"arn:aws:ec2:{self._moto.region}::image/{plan.image.id}"
        used = [image, self._arn("subnet", plan.subnet.id)]
        used += [self._arn("security-group", each) for each in plan.security_groups]
        for resource in used:
            yield Need("ec2:RunInstances", resource, shared)
        if template:
            yield self._on("ec2:RunInstances", template.rpartition("/")[2], shared)
        role = self._moto.role_of(plan.profile) if plan.profile else None
        if role:
            arn = f"arn:aws:iam::{self._moto.account}:role/{role}"
            yield Need("iam:PassRole", arn, {"iam:passedtoservice": "ec2.amazonaws.com"})

    def _tagging(self, kind: str, tags: dict[str, str], call: str) -> Need:
        context = {**_requested(tags), "ec2:createaction": call}
        return Need("ec2:CreateTags", self._arn(kind, "*"), context)

    def _on(self, action: str, resource: str, context: dict[str, str | list[str]]) -> Need:
        if resource == "*":
            return Need(action, "*", context)
        kind, tags = self._what(resource)
        held = {
            f"{prefix}:resourcetag/{key.lower()}": value
            for key, value in tags.items()
            for prefix in ("aws", "ec2")
        }
        return Need(action, self._arn(kind, resource), {**context, **held})

    def _what(self, resource: str) -> tuple[str, dict[str, str]]:
        if resource.startswith("i-"):
            found = self._registry.all.get(resource)
            return "instance", found.tags_at(datetime.now(UTC)) if found else {}
        if resource.startswith("sir-"):
            request = self._spot.by_id.get(resource)
            return "spot-instances-request", request.tags if request else {}
        if resource.startswith("lt-"):
            template = self._templates.by_id.get(resource)
            return "launch-template", template.tags if template else {}
        return "*", {}

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:aws:ec2:{self._moto.region}:{self._moto.account}:{kind}/{name}"

    def _resource(self, service: str, params: Params) -> str:
        place = f"arn:aws:{service}:{self._moto.region}:{self._moto.account}:"
        if service == "ssm" and params.get("Name"):
            name = params["Name"]
            if name.startswith("/aws/"):  # AWS's own, which are in no account
                return f"arn:aws:ssm:{self._moto.region}::parameter{name}"
            return f"{place}parameter{name if name.startswith('/') else '/' + name}"
        if service == "sqs" and params.get("QueueUrl"):
            return place + str(params["QueueUrl"]).rpartition("/")[2]
        return str(params.get("SecretId") or params.get("RoleArn") or "*")


def _named(action: str, params: Params, templates: Templates) -> list[str]:
    if action in INSTANCE_CALLS:
        return params.get("InstanceIds") or [params["InstanceId"]]
    if action == "CancelSpotInstanceRequests":
        return list(params["SpotInstanceRequestIds"])
    if action in TEMPLATE_CALLS:
        return [templates.find(params).id]
    return ["*"]


def _requested(tags: dict[str, str]) -> dict[str, str | list[str]]:
    ours = {key: value for key, value in tags.items() if not key.startswith("aws:")}
    if not ours:
        return {}
    return {
        **{f"aws:requesttag/{key.lower()}": value for key, value in ours.items()},
        "aws:tagkeys": list(ours),
    }


def _documents(owner: Any) -> list[str]:
    inline = list(owner.policies.values())
    managed = [
        next(each.document for each in policy.versions if each.is_default)
        for policy in owner.managed_policies.values()
    ]
    return inline + managed
