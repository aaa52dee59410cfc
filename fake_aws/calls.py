"""The calls that are answered here in moto's place. Every other call is passed on to moto."""

from collections.abc import Callable
from typing import Any, NamedTuple

from fake_aws.account import AccountCalls
from fake_aws.credentials import Credential
from fake_aws.deliveries import check_pattern
from fake_aws.endings import Endings
from fake_aws.fleets import Fleets
from fake_aws.instance_queries import InstanceQueries
from fake_aws.permissions import Permissions
from fake_aws.pricing import PriceCalls
from fake_aws.runs import Runs
from fake_aws.spot import SpotRequests
from fake_aws.tags import TagCalls
from fake_aws.templates import Templates

Params = dict[str, Any]
Handler = Callable[[Params], Params]


class CallGroups(NamedTuple):
    """The objects that answer the calls, one for each kind of resource."""

    endings: Endings
    looks: InstanceQueries
    fleets: Fleets
    runs: Runs
    spot: SpotRequests
    templates: Templates
    tags: TagCalls
    prices: PriceCalls
    account: AccountCalls
    permissions: Permissions


class Calls:
    """The strict part of the cloud, by service and action."""

    def __init__(self, account: str, groups: CallGroups) -> None:
        endings, looks, fleets, runs, spot, templates, tags, prices, own, permissions = groups
        self._account = account
        self._tags = tags
        self._handlers: dict[tuple[str, str], Handler] = {
            ("ec2", "CreateFleet"): fleets.create,
            ("ec2", "RunInstances"): runs.run,
            ("ec2", "TerminateInstances"): endings.terminate,
            ("ec2", "StopInstances"): endings.stop,
            ("ec2", "DescribeInstances"): looks.describe,
            ("ec2", "DescribeInstanceStatus"): looks.status,
            ("ec2", "GetConsoleOutput"): looks.console,
            ("ec2", "DescribeSpotInstanceRequests"): spot.describe,
            ("ec2", "CancelSpotInstanceRequests"): spot.cancel,
            ("ec2", "DescribeSpotPriceHistory"): prices.spot_history,
            ("ec2", "CreateLaunchTemplate"): templates.create,
            ("ec2", "CreateLaunchTemplateVersion"): templates.create_version,
            ("ec2", "ModifyLaunchTemplate"): templates.modify,
            ("ec2", "DeleteLaunchTemplate"): templates.delete,
            ("ec2", "DeleteLaunchTemplateVersions"): templates.delete_versions,
            ("ec2", "DescribeLaunchTemplates"): templates.describe,
            ("ec2", "DescribeLaunchTemplateVersions"): templates.describe_versions,
            ("ec2", "CreateTags"): tags.create,
            ("ec2", "DeleteTags"): tags.delete,
            ("ec2", "DescribeTags"): tags.describe,
            ("pricing", "GetProducts"): prices.products,
            ("ec2", "GetEbsDefaultKmsKeyId"): own.volume_key_id,
            ("service-quotas", "GetServiceQuota"): own.service_quota,
            ("sts", "DecodeAuthorizationMessage"): permissions.decode,
            ("events", "TestEventPattern"): check_pattern,
        }

    def find(self, service: str, action: str, params: Params) -> Handler | None:
        """Return the handler of a call; None: moto answers it."""
        if action in {"CreateTags", "DeleteTags"} and not self._tags.concerns(params):
            return None
        return self._handlers.get((service, action))

    def caller_identity(self, caller: Credential) -> Params:
        """GetCallerIdentity of STS: the identity that signed the call."""
        return {"UserId": caller.user_id, "Account": self._account, "Arn": caller.arn}
