"""CreateTags, DeleteTags and DescribeTags for our resources; moto has the tags of all others."""

from collections.abc import Callable
from typing import Any

from fake_aws.errors import AwsError
from fake_aws.filters import paginate, select
from fake_aws.registry import Registry
from fake_aws.spot import SpotRequests
from fake_aws.tag_rules import check_count, checked
from fake_aws.templates import Templates

Params = dict[str, Any]
OURS = ("i-", "sir-", "lt-")
FILTERS: dict[str, Callable[[dict[str, str]], str | None]] = {
    "resource-type": lambda each: each["ResourceType"],
    "resource-id": lambda each: each["ResourceId"],
    "key": lambda each: each["Key"],
    "value": lambda each: each["Value"],
}


class TagCalls:
    """The tags of instances, Spot requests and launch templates."""

    def __init__(self, registry: Registry, spot: SpotRequests, templates: Templates) -> None:
        self._registry = registry
        self._spot = spot
        self._templates = templates

    def concerns(self, params: Params) -> bool:
        """Return True if all resources of a call are ours."""
        return all(each.startswith(OURS) for each in params["Resources"])

    def create(self, params: Params) -> Params:
        """CreateTags: tag all resources, or none."""
        found = [self._tags_of(each) for each in params["Resources"]]
        given = checked(params["Tags"])
        for tags in found:
            check_count(tags | given)
        for tags in found:
            tags.update(given)
        return {}

    def delete(self, params: Params) -> Params:
        """DeleteTags."""
        found = [self._tags_of(each) for each in params["Resources"]]
        for tags in found:
            for tag in params.get("Tags") or [{"Key": key} for key in list(tags)]:
                value = tag.get("Value")
                if tag["Key"] in tags and value in (None, tags[tag["Key"]]):
                    del tags[tag["Key"]]
        return {}

    def describe(self, params: Params) -> Params:
        """DescribeTags."""
        owned = [("instance", each.id, each.tags) for each in self._registry.visible()]
        owned += [
            ("spot-instances-request", each.id, each.tags) for each in self._spot.by_id.values()
        ]
        owned += [
            ("launch-template", each.id, each.tags) for each in self._templates.by_id.values()
        ]
        shown = [
            {"ResourceType": kind, "ResourceId": owner, "Key": key, "Value": value}
            for kind, owner, tags in owned
            for key, value in tags.items()
        ]
        found = select(shown, params, FILTERS)
        page, token = paginate(found, params, least=5)
        return {"Tags": page, "NextToken": token}

    def _tags_of(self, resource: str) -> dict[str, str]:
        if resource.startswith("i-"):
            return self._registry.named([resource])[0].tags
        if resource.startswith("lt-"):
            return self._templates.find({"LaunchTemplateId": resource}).tags
        request = self._spot.by_id.get(resource)
        if request is None:
            raise AwsError("InvalidID", f"The ID '{resource}' is not valid")
        return request.tags
