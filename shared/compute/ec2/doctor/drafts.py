"""The plan of a launch as the launcher would make it, without a new version of the template."""

import asyncio
from typing import Any

from msgspec import Struct

from shared.clock import Clock
from shared.compute.ec2 import fleet
from shared.compute.ec2.client import Aws
from shared.compute.ec2.planner import Planner
from shared.compute.ec2.pools import RestingPools
from shared.compute.ec2.settings import Ec2Settings
from shared.compute.ec2.shapes import DEPLOYMENT, tags
from shared.compute.ec2.template import Contents, Template, Version, data_of, hash_of
from shared.compute.port import LaunchBatch, LaunchRequest, Offer, Plan, Rejected
from shared.events.events import Market

LAUNCH = "docker-job-doctor"
NO_TEMPLATE = "lt-00000000000000000"
"""Stands for the template while there is none."""


class Draft(Struct, frozen=True, kw_only=True):
    """A plan; the first version of the template that it needs, if there is one; its contents."""

    plan: Plan
    contents: Contents
    version: Version | None

    @property
    def types(self) -> tuple[str, ...]:
        """The names of the instance types, the first choice first."""
        return tuple(dict.fromkeys(each["InstanceType"] for each in self.overrides))

    @property
    def overrides(self) -> list[dict[str, Any]]:
        """The pools of the fleet, which may launch from several versions of the template."""
        configs = self.plan["fleet"]["LaunchTemplateConfigs"]
        return [override for each in configs for override in each["Overrides"]]


class ReadOnlyTemplate(Template):
    """Finds a version for the contents, and makes none."""

    first: tuple[Contents, Version | None] | None = None
    """The contents that were asked for first, and the version found."""

    async def version(self, contents: Contents) -> Version:
        """Find the version with these contents, or else the newest one."""
        found = await self._find(contents)
        self.first = self.first or (contents, found)
        return found or Version(NO_TEMPLATE, "1")

    async def _find(self, contents: Contents) -> Version | None:
        key = hash_of(data_of(contents))
        shown = sorted(await self._versions(), key=lambda each: each["VersionNumber"])
        same = [each for each in shown if each.get("VersionDescription") == key]
        ours = [each for each in shown if each.get("VersionDescription")]
        if not shown:
            return None
        chosen = (same or ours or shown)[-1]
        return Version(chosen["LaunchTemplateId"], str(chosen["VersionNumber"]))


class Drafts:
    """A draft for each market, made once."""

    def __init__(
        self,
        aws: Aws,
        clock: Clock,
        settings: Ec2Settings,
        offer: Offer,
        agent_sha256: str,
    ) -> None:
        self._aws = aws
        self._clock = clock
        self._settings = settings
        self._offer = offer
        self._agent_sha256 = agent_sha256
        self._making: dict[Market, asyncio.Task[Draft]] = {}

    async def draft(self, market: Market) -> Draft:
        """Return the draft for *market*. Raises a `ComputeError`."""
        if market not in self._making:
            self._making[market] = asyncio.create_task(self._make(market))
        return await asyncio.shield(self._making[market])

    async def _make(self, market: Market) -> Draft:
        deployment = self._offer.deployment
        planner = Planner(
            self._aws,
            self._clock,
            self._settings,
            RestingPools(self._settings.pool_rest_seconds),
            deployment,
            self._agent_sha256,
        )
        template = ReadOnlyTemplate(self._aws, self._clock, deployment)
        planner.template = template
        offer = Offer(deployment=deployment, api_url=self._offer.api_url, market=market)
        plan = await planner.plan(offer)
        if template.first is None:
            raise Rejected("the plan has no template")
        contents, version = template.first
        return Draft(plan=plan, contents=contents, version=version)


def fleet_call(draft: Draft, offer: Offer) -> dict[str, Any]:
    """Return the parameters of CreateFleet for one instance of *draft*."""
    request = LaunchRequest(
        token=LAUNCH,
        deployment=offer.deployment,
        job_id=0,
        attempt=0,
        max_lifetime_seconds=60,
        api_url=offer.api_url,
    )
    return fleet.call_of(LaunchBatch(token=LAUNCH, requests=(request,), plan=draft.plan))


def run_calls(draft: Draft, deployment: str) -> list[dict[str, Any]]:
    """Return the parameters of RunInstances for the first pool in each subnet.

    A fleet launches by this call, and needs its permissions. While there is no template, its
    contents are parameters of the call itself.
    """
    firsts: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for config in draft.plan["fleet"]["LaunchTemplateConfigs"]:
        for each in config["Overrides"]:
            firsts.setdefault(each["SubnetId"], (config["LaunchTemplateSpecification"], each))
    return [
        {
            **({"LaunchTemplate": named} if draft.version else _direct(draft)),
            "InstanceType": pool["InstanceType"],
            "SubnetId": subnet,
            "MinCount": 1,
            "MaxCount": 1,
            **_tags_and_market(draft, deployment),
        }
        for subnet, (named, pool) in firsts.items()
    ]


def _direct(draft: Draft) -> dict[str, Any]:
    data = data_of(draft.contents)
    # The script grants nothing, and the SDK would encode it again.
    return {name: data[name] for name in data if name not in ("UserData", "TagSpecifications")}


def _tags_and_market(draft: Draft, deployment: str) -> dict[str, Any]:
    kinds = ["instance", "volume"]
    market: dict[str, Any] = {}
    if draft.plan["market"] == "spot":
        kinds.append("spot-instances-request")
        market = {"InstanceMarketOptions": {"MarketType": "spot"}}
    ours = tags(deployment=deployment, launch=LAUNCH, labels={})
    return {"TagSpecifications": [{"ResourceType": each, "Tags": ours} for each in kinds], **market}


def template_call(draft: Draft, name: str) -> dict[str, Any]:
    """Return the parameters of CreateLaunchTemplate for *draft*."""
    data = data_of(draft.contents)
    ours = {"Key": DEPLOYMENT, "Value": draft.contents.deployment}
    return {
        "LaunchTemplateName": name,
        "VersionDescription": hash_of(data),
        "LaunchTemplateData": data,
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": [ours]}],
    }
