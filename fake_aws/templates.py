"""Launch templates and their versions, since moto cannot delete a version."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fake_aws.errors import AwsError, missing
from fake_aws.filters import paginate, select
from fake_aws.tag_rules import tags_for
from fake_aws.tokens import ClientTokens

Params = dict[str, Any]


class Template:
    """One launch template."""

    def __init__(self, name: str, creator: str, tags: dict[str, str]) -> None:
        self.id = f"lt-{secrets.token_hex(9)[:17]}"
        self.name = name
        self.creator = creator
        self.tags = tags
        self.made_at = datetime.now(UTC)
        self.versions: dict[int, Params] = {}
        self.default = 1

    @property
    def latest(self) -> int:
        """The number of the newest version."""
        return max(self.versions)

    def add(self, data: Params, description: str | None) -> Params:
        """Add a version; return it in the form of Describe calls."""
        number = max(self.versions, default=0) + 1
        self.versions[number] = {
            "LaunchTemplateId": self.id,
            "LaunchTemplateName": self.name,
            "VersionNumber": number,
            "VersionDescription": description,
            "CreateTime": datetime.now(UTC),
            "CreatedBy": self.creator,
            "LaunchTemplateData": data,
        }
        return self.version_shown(number)

    def number(self, version: str | None) -> int:
        """Return the number of a version, given by number or name. Raises AwsError."""
        names = {"$Latest": self.latest, "$Default": self.default, None: self.default}
        if version in names:
            return names[version]
        if version is None or not version.isdecimal() or int(version) not in self.versions:
            raise AwsError(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"Could not find the specified version {version} for the launch template with ID "
                f"{self.id}.",
            )
        return int(version)

    def version_shown(self, number: int) -> Params:
        """Return a version in the form of Describe calls."""
        return {**self.versions[number], "DefaultVersion": number == self.default}

    def shown(self) -> Params:
        """Return the template in the form of Describe calls."""
        return {
            "LaunchTemplateId": self.id,
            "LaunchTemplateName": self.name,
            "CreateTime": self.made_at,
            "CreatedBy": self.creator,
            "DefaultVersionNumber": self.default,
            "LatestVersionNumber": self.latest,
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
        }


class Templates:
    """The launch templates of the account, and the calls on them."""

    def __init__(self, creator: str) -> None:
        self._creator = creator
        self.by_id: dict[str, Template] = {}
        self._tokens = ClientTokens()

    def find(self, given: Params) -> Template:
        """Find the template that a call names by id or by name. Raises AwsError."""
        if given.get("LaunchTemplateId"):
            found = self.by_id.get(given["LaunchTemplateId"])
            if found is None:
                raise AwsError(
                    "InvalidLaunchTemplateId.NotFound",
                    f"The specified launch template, with template ID "
                    f"{given['LaunchTemplateId']}, does not exist.",
                )
            return found
        name = given.get("LaunchTemplateName")
        if not name:
            raise missing("LaunchTemplateId or LaunchTemplateName")
        found = next((each for each in self.by_id.values() if each.name == name), None)
        if found is None:
            raise AwsError(
                "InvalidLaunchTemplateName.NotFoundException",
                f"The specified launch template, with template name {name}, does not exist.",
            )
        return found

    def create(self, params: Params) -> Params:
        """CreateLaunchTemplate."""
        again = self._tokens.find("create", params)
        if again is not None:
            return again.answer
        name = params["LaunchTemplateName"]
        if any(each.name == name for each in self.by_id.values()):
            raise AwsError(
                "InvalidLaunchTemplateName.AlreadyExistsException",
                "Launch template name already in use.",
            )
        tags = tags_for("launch-template", params.get("TagSpecifications", []))
        template = Template(name, self._creator, tags)
        template.add(params["LaunchTemplateData"], params.get("VersionDescription"))
        self.by_id[template.id] = template
        answer = {"LaunchTemplate": template.shown()}
        self._tokens.remember("create", params, answer)
        return answer

    def create_version(self, params: Params) -> Params:
        """CreateLaunchTemplateVersion."""
        again = self._tokens.find("version", params)
        if again is not None:
            return again.answer
        template = self.find(params)
        source = params.get("SourceVersion")
        base: Params = {}
        if source:
            base = template.versions[template.number(source)]["LaunchTemplateData"]
        data = base | params["LaunchTemplateData"]
        answer = {"LaunchTemplateVersion": template.add(data, params.get("VersionDescription"))}
        self._tokens.remember("version", params, answer)
        return answer

    def modify(self, params: Params) -> Params:
        """ModifyLaunchTemplate."""
        template = self.find(params)
        template.default = template.number(params.get("DefaultVersion"))
        return {"LaunchTemplate": template.shown()}

    def delete(self, params: Params) -> Params:
        """DeleteLaunchTemplate."""
        template = self.find(params)
        del self.by_id[template.id]
        return {"LaunchTemplate": template.shown()}

    def delete_versions(self, params: Params) -> Params:
        """DeleteLaunchTemplateVersions: delete the deletable ones; the answer lists the others."""
        template = self.find(params)
        done, failed = [], []
        for version in params["Versions"]:
            shown = {
                "LaunchTemplateId": template.id,
                "LaunchTemplateName": template.name,
                "VersionNumber": int(version),
            }
            if int(version) == template.default:
                error = {
                    "Code": "unexpectedError",
                    "Message": "The default version cannot be deleted.",
                }
                failed.append({**shown, "ResponseError": error})
            elif int(version) not in template.versions:
                error = {
                    "Code": "launchTemplateVersionDoesNotExist",
                    "Message": f"Version {version} does not exist.",
                }
                failed.append({**shown, "ResponseError": error})
            else:
                del template.versions[int(version)]
                done.append(shown)
        return {
            "SuccessfullyDeletedLaunchTemplateVersions": done,
            "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
        }

    def describe(self, params: Params) -> Params:
        """DescribeLaunchTemplates."""
        ids, names = params.get("LaunchTemplateIds"), params.get("LaunchTemplateNames")
        if ids or names:
            found = [self.find({"LaunchTemplateId": each}) for each in ids or ()]
            found += [self.find({"LaunchTemplateName": each}) for each in names or ()]
        else:
            found = list(self.by_id.values())
        names_only: dict[str, Callable[[Template], str | None]] = {
            "launch-template-name": lambda each: each.name
        }
        found = select(found, params, names_only, lambda each: each.tags)
        page, token = paginate([each.shown() for each in found], params)
        return {"LaunchTemplates": page, "NextToken": token}

    def describe_versions(self, params: Params) -> Params:
        """DescribeLaunchTemplateVersions."""
        template = self.find(params)
        wanted = params.get("Versions")
        numbers = (
            [template.number(each) for each in wanted] if wanted else sorted(template.versions)
        )
        shown = [template.version_shown(each) for each in numbers]
        page, token = paginate(shown, params)
        return {"LaunchTemplateVersions": page, "NextToken": token}
