"""The calls that prove a permission, each with the parameters of the launcher or the reaper.

EC2 checks a dry run's permissions first, and of most calls these alone: CreateFleet's template and
subnets need not exist, unless a policy depends on the template's tags. RunInstances is checked as a
whole, with the tags at creation and the role that it passes. https://github.com/aws/karpenter-provider-aws,
pkg/controllers/nodeclass/validation.go, examines a cluster's permissions in the same way.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from shared.compute.ec2.doctor.asking import DRY_RUN, Outcome, ask, dry_run
from shared.compute.ec2.doctor.drafts import Draft, fleet_call, run_calls, template_call
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.price_list import price_list_query
from shared.compute.ec2.settings import AMI_PARAMETERS
from shared.compute.ec2.shapes import DEPLOYMENT, tag_filter
from shared.compute.ec2.template import Version, name_of
from shared.compute.port import ComputeError
from shared.events.events import Market

MARKETS: tuple[Market, ...] = ("spot", "on-demand")

Probe = Callable[[Scene], Awaitable[Outcome]]


class Unprovable(Exception):
    """The permission cannot be proven now. The message is why, and what would help."""


NO_TEMPLATE = "it depends on the launch template, which the first launch makes: check again then"
NO_INSTANCE = "it depends on an instance's tag, and EC2 shows none of this deployment now"
NO_REQUEST = "it depends on a Spot request's tag, and EC2 shows none of this deployment now"


def reading(action: str, **parameters: Any) -> Probe:
    """Return a probe for a call of EC2 that only reads."""

    async def probe(scene: Scene) -> Outcome:
        return await dry_run(scene.aws, action, **parameters)

    return probe


async def template_versions(scene: Scene) -> Outcome:
    """DescribeLaunchTemplateVersions of the deployment's template."""
    name = name_of(scene.has.deployment)
    return await dry_run(scene.aws, "DescribeLaunchTemplateVersions", LaunchTemplateName=name)


async def image_parameter(scene: Scene) -> Outcome:
    """GetParameter of the public image."""
    name = AMI_PARAMETERS[scene.settings.architecture]
    return await ask(scene.aws, "GetParameter", service="ssm", Name=name)


async def price_list(scene: Scene) -> Outcome:
    """GetProducts: one product."""
    query = price_list_query(scene.has.region, instanceType="m5.large")
    return await ask(scene.aws, "GetProducts", service="pricing", MaxResults=1, **query)


async def fleets(scene: Scene) -> Outcome:
    """CreateFleet, on both markets; from an invented template while there is none."""
    outcomes = []
    for market in MARKETS:
        draft = await _draft(scene, market)
        call = fleet_call(draft, scene.offer)
        outcome = await dry_run(scene.aws, "CreateFleet", **call)
        if draft.version is None and _depends(outcome, "ec2:CreateTags", ":fleet/"):
            raise Unprovable(f"{NO_TEMPLATE}; of an invented one: {outcome.error}")
        outcomes.append(outcome)
    return worst(outcomes)


async def runs(scene: Scene) -> Outcome:
    """RunInstances, in each subnet and on both markets: the fleet's own launches."""
    outcomes = []
    for market in MARKETS:
        draft = await _draft(scene, market)
        calls = run_calls(draft, scene.has.deployment)
        # The permission on a subnet is the same for both markets.
        for call in calls if market == "spot" else calls[:1]:
            outcome = await dry_run(scene.aws, "RunInstances", **call)
            if draft.version is None and _depends(outcome, "ec2:CreateTags", "iam:PassRole"):
                raise Unprovable(f"{NO_TEMPLATE}; without one: {outcome.error}")
            outcomes.append(_in_subnet(outcome, call["SubnetId"]))
    # A zone may lack the type, which a fleet passes over.
    answered = [each for each in outcomes if each.code != "Unsupported"]
    return worst(answered or outcomes)


def _depends(outcome: Outcome, *names: str) -> bool:
    """Return whether a call may be refused for the template alone, which does not exist yet.

    A policy may allow launches from the deployment's template alone (docs/iam/launcher.json), so a
    refusal proves a missing permission only if it names another resource or action.
    """
    if outcome.is_denied:
        return not any(each in outcome.message for each in names)
    return "LaunchTemplate" in outcome.code


def _in_subnet(outcome: Outcome, subnet: str) -> Outcome:
    if outcome.code in ("", DRY_RUN):
        return outcome
    return replace(outcome, message=f"{outcome.message} ({subnet})")


async def new_template(scene: Scene) -> Outcome:
    """CreateLaunchTemplate with the contents of a Spot launch."""
    call = template_call(await _draft(scene, "spot"), name_of(scene.has.deployment))
    return await dry_run(scene.aws, "CreateLaunchTemplate", **call)


async def new_version(scene: Scene) -> Outcome:
    """CreateLaunchTemplateVersion with the same contents."""
    draft = await _draft(scene, "spot")
    if draft.version is None:
        raise Unprovable(NO_TEMPLATE)
    call = template_call(draft, name_of(scene.has.deployment))
    del call["TagSpecifications"]
    return await dry_run(scene.aws, "CreateLaunchTemplateVersion", **call)


async def default_version(scene: Scene) -> Outcome:
    """ModifyLaunchTemplate."""
    version = await _version(scene)
    return await dry_run(
        scene.aws,
        "ModifyLaunchTemplate",
        LaunchTemplateId=version.template_id,
        DefaultVersion=version.number,
    )


async def old_versions(scene: Scene) -> Outcome:
    """DeleteLaunchTemplateVersions."""
    version = await _version(scene)
    return await dry_run(
        scene.aws,
        "DeleteLaunchTemplateVersions",
        LaunchTemplateId=version.template_id,
        Versions=[version.number],
    )


async def _version(scene: Scene) -> Version:
    """Return the version that a launch would name. Raises `Unprovable` while there is none."""
    draft = await _draft(scene, "spot")
    if draft.version is None:
        raise Unprovable(NO_TEMPLATE)
    return draft.version


async def termination(scene: Scene) -> Outcome:
    """TerminateInstances of an instance of ours, best of one that is terminated."""
    instance = await _instance(scene)
    return await dry_run(scene.aws, "TerminateInstances", InstanceIds=[instance])


async def console(scene: Scene) -> Outcome:
    """GetConsoleOutput of an instance of ours."""
    return await dry_run(scene.aws, "GetConsoleOutput", InstanceId=await _instance(scene))


async def cancellation(scene: Scene) -> Outcome:
    """CancelSpotInstanceRequests of a request of ours, best of one that is closed."""
    outcome = await ask(scene.aws, "DescribeSpotInstanceRequests", **_ours(scene))
    requests = outcome.answer.get("SpotInstanceRequests") or []
    if not requests:
        raise Unprovable(NO_REQUEST if outcome.is_answer else outcome.error)
    requests.sort(key=lambda each: each["State"] in ("open", "active"))
    chosen = requests[0]["SpotInstanceRequestId"]
    return await dry_run(scene.aws, "CancelSpotInstanceRequests", SpotInstanceRequestIds=[chosen])


async def decoding(scene: Scene) -> Outcome:
    """DecodeAuthorizationMessage of an invalid message: refused as that if the call is allowed."""
    return await ask(
        scene.aws, "DecodeAuthorizationMessage", service="sts", EncodedMessage="docker-job"
    )


async def reception(scene: Scene) -> Outcome:
    """ReceiveMessage: at most one, which stays visible to the reaper."""
    return await ask(
        scene.aws,
        "ReceiveMessage",
        service="sqs",
        QueueUrl=_queue(scene),
        MaxNumberOfMessages=1,
        VisibilityTimeout=0,
        WaitTimeSeconds=0,
    )


async def deletion(scene: Scene) -> Outcome:
    """DeleteMessage with a handle of no message, which SQS refuses to those who may call it."""
    return await ask(
        scene.aws,
        "DeleteMessage",
        service="sqs",
        QueueUrl=_queue(scene),
        ReceiptHandle="docker-job-doctor",
    )


async def _draft(scene: Scene, market: Market) -> Draft:
    try:
        return await scene.drafts.draft(market)
    except ComputeError as error:
        raise Unprovable(f"no launch can be planned: {error}") from error


async def _instance(scene: Scene) -> str:
    """Return an instance of the deployment, best one that is terminated."""
    outcome = await ask(scene.aws, "DescribeInstances", **_ours(scene))
    shown = [
        each
        for group in outcome.answer.get("Reservations") or []
        for each in group.get("Instances") or []
    ]
    if not shown:
        raise Unprovable(NO_INSTANCE if outcome.is_answer else outcome.error)
    shown.sort(key=lambda each: each["State"]["Name"] != "terminated")
    return str(shown[0]["InstanceId"])


def _ours(scene: Scene) -> dict[str, Any]:
    return {"Filters": [tag_filter(DEPLOYMENT, scene.has.deployment)]}


def _queue(scene: Scene) -> str:
    if not scene.has.queue_url:
        raise Unprovable("DOCKER_JOB_INTERRUPTION_QUEUE_URL is not set")
    return scene.has.queue_url


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return the first that is denied, or else the first other error, or else the last. Pure."""
    refused = [each for each in outcomes if each.code not in ("", DRY_RUN)]
    denied = [each for each in refused if each.is_denied]
    return [*denied, *refused, outcomes[-1]][0]
