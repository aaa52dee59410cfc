"""The fields of a job that are about secrets: `secrets`, `registry_auth`, and that none clash.

No message quotes a value of `secret_env`.
"""

import re
from typing import Any

from services.api.submission.capacity import BadWish

MAX_SECRETS = 100
MAX_PLACE = 2048
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLACE = re.compile(
    r"[A-Za-z0-9_./-]+(?::[A-Za-z0-9_.-]+)?"  # an SSM parameter, perhaps with a version or label
    r"|arn:aws[a-z-]*:ssm:[a-z0-9-]+:\d{12}:parameter/[A-Za-z0-9_./-]+"
    r"|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[A-Za-z0-9/_+=.@!-]+"
)


def read_secrets(value: Any) -> dict[str, str]:
    """`secrets`: where the instance finds the value of each variable."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_SECRETS:
        right = 'secrets must be an object, like {"DB_PASSWORD": "/prod/db/password"}'
        raise BadWish(f"{right}, of at most {MAX_SECRETS} entries")
    for name, place in value.items():
        if not NAME.fullmatch(name):
            raise BadWish(
                f"secrets has the name {name[:80]!r}: a name is made of letters, digits and "
                "underscores and does not begin with a digit"
            )
        if not isinstance(place, str) or len(place) > MAX_PLACE or not PLACE.fullmatch(place):
            raise BadWish(
                f"secrets.{name} must be the name or ARN of an SSM parameter, or the ARN of a "
                "Secrets Manager secret"
            )
    return value


def read_registry_auth(value: Any, names: set[str]) -> str | None:
    """`registry_auth`: "ecr", or which of the job's secrets (*names*) is the registry's login."""
    if value is None or value == "ecr":
        return value  # type: ignore[no-any-return]  # both are what they look like
    if isinstance(value, str) and value in names:
        return value
    raise BadWish(
        "registry_auth must be 'ecr', or a name in secret_env or secrets whose value is "
        '{"username": …, "password": …} or user:password'
    )


def check_apart(**fields: dict[str, str]) -> None:
    """No variable may have two values."""
    seen: dict[str, str] = {}
    for field, variables in fields.items():
        for name in variables:
            if name in seen:
                raise BadWish(f"{field}.{name} is in {seen[name]} too: give it once")
            seen[name] = field
