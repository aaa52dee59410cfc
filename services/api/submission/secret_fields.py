"""The checks of fields about secrets: no name is given twice, places and logins can be right."""

import json
import re
from collections.abc import Mapping

from services.api.jobs.fields import BAD_LOGIN
from services.api.submission.faults import join, short
from services.api.submission.images import host_of
from services.api.submission.json_body import BadRequest

# Those that the agent can log in to, with `GetAuthorizationToken` of the host's region.
_ECR = re.compile(
    r"[0-9]{12}\.(?:dkr\.ecr(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com|amazonaws\.com\.cn"
    r"|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
    r"|dkr-ecr(?:-fips)?\.[a-z0-9-]+\.on\."
    r"(?:aws|amazonwebservices\.com\.cn|amazonwebservices\.eu))"
)

# A version, or a label: https://docs.aws.amazon.com/goto/WebAPI/ssm-2014-11-06/LabelParameterVersion
_SELECTOR = re.compile(r"[1-9][0-9]{0,18}|(?!aws|ssm|[0-9])[a-z0-9_.-]{1,100}", re.IGNORECASE)

_REGION = re.compile("[a-z]{2,}(?:-[a-z]+)+-[0-9]{1,2}")

MAX_NAME = 1011
MAX_LEVELS = 15
"""Of a parameter's name.
https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html
"""

PARTITIONS = {
    "cn": "aws-cn",
    "us-gov": "aws-us-gov",
    "us-iso": "aws-iso",
    "us-isob": "aws-iso-b",
    "eu-isoe": "aws-iso-e",
    "us-isof": "aws-iso-f",
    "eusc": "aws-eusc",
}
"""By how the names of their regions begin; `aws` has the others.
https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json
"""


def check_registry_auth(
    value: str, image: str, secret_env: Mapping[str, str], secrets: Mapping[str, str]
) -> None:
    """Refuse a login that is none, or not to the registry of *image*. Raises `BadRequest`."""
    if value == "ecr":
        if not _ECR.fullmatch(host_of(image) or ""):
            raise BadRequest(
                f"registry_auth is ecr, but docker_image {short(image)} is not of ECR: write one "
                "like '123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app'"
            )
    elif value in secret_env:
        if not _is_login(secret_env[value]):
            raise BadRequest(BAD_LOGIN)
    elif value not in secrets:
        raise BadRequest(BAD_LOGIN)


def _is_login(text: str) -> bool:
    """Check that the agent will find a user's name and a password in *text*."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        parts = [body.get("username"), body.get("password")]
    else:
        username, _, password = text.partition(":")
        parts = [None if "{" in username else username, password.rstrip("\r\n")]
    return all(isinstance(each, str | int) and each != "" for each in parts)


def check_without_role(secrets: Mapping[str, str], registry_auth: str | None) -> None:
    """Refuse what an instance without a role cannot read. Raises `BadRequest`."""
    if secrets:
        raise BadRequest(
            "secrets needs instances with a role, as on EC2, and this deployment's have none: give "
            "the values in secret_env"
        )
    if registry_auth == "ecr":
        raise BadRequest(
            "registry_auth is ecr, which needs instances with a role, as on EC2, and this "
            "deployment's have none: put the login into secret_env, and name it"
        )


def check_places(secrets: Mapping[str, str], region: str) -> None:
    """Refuse a place where no instance of *region* (if not empty) finds a secret.

    Raises `BadRequest`.
    """
    for name, place in secrets.items():
        reason = _fault_of_place(place, region)
        if reason is not None:
            raise BadRequest(f"{join('secrets', name)} cannot be read: {reason}")


def _fault_of_place(place: str, own_region: str) -> str | None:
    if not place.startswith("arn:"):
        name, colon, selector = place.partition(":")
        if "/" in name and not name.startswith("/"):
            return "a parameter's name with levels begins with a slash, like '/prod/db/password'"
        if colon and not _SELECTOR.fullmatch(selector):
            return "after a parameter's name stands a version, like ':3', or a label"
        return _fault_of_name(name)
    _, partition, service, region, _, path = place.split(":", 5)
    fault = _fault_of_region(partition, region, own_region)
    if fault is not None or service == "secretsmanager":
        return fault
    return _fault_of_name(path.removeprefix("parameter"))


def _fault_of_region(partition: str, region: str, own_region: str) -> str | None:
    if not _REGION.fullmatch(region):
        return f"{short(region)} is no region of AWS: write one like 'eu-west-1'"
    if partition != _partition_of(region):
        right = _partition_of(region)
        return f"the region {region} is in the partition {right}, not in {short(partition)}"
    if own_region and partition != _partition_of(own_region):
        return f"it is in another partition of AWS than the instances, which are in {own_region}"
    return None


def _partition_of(region: str) -> str:
    begin = next((each for each in PARTITIONS if region.startswith(f"{each}-")), "")
    return PARTITIONS.get(begin, "aws")


def _fault_of_name(name: str) -> str | None:
    if len(name) > MAX_NAME:
        return f"its parameter's name has {len(name)} characters, at most {MAX_NAME} are possible"
    levels = name.removeprefix("/").split("/")
    if not all(levels):
        return "a level of its parameter's name is empty"
    if len(levels) > MAX_LEVELS:
        return f"its parameter's name has {len(levels)} levels, at most {MAX_LEVELS} are possible"
    return None


def check_apart(**fields: dict[str, str]) -> None:
    """Refuse a variable that has two values. Raises `BadRequest`."""
    seen: dict[str, str] = {}
    for field, variables in fields.items():
        for name in variables:
            if name in seen:
                raise BadRequest(f"{field}.{name} is in {seen[name]} too: give it once")
            seen[name] = field
