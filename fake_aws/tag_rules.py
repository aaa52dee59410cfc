"""EC2's rules for tags, and its errors.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions says 128
characters of a key, https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Tag.html says 127:
here the stricter counts.
"""

import re
from collections.abc import Iterable
from typing import Any

from fake_aws.errors import AwsError, invalid

Params = dict[str, Any]

MOST = 50
MOST_KEY = 127
MOST_VALUE = 256
RESERVED = "aws:"
_IN_METADATA = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")


def checked(tags: Iterable[Params]) -> dict[str, str]:
    """Return a call's tags by key. Raises AwsError for one that EC2 does not accept."""
    found: dict[str, str] = {}
    for tag in tags:
        key, value = tag["Key"], tag.get("Value") or ""
        if key.lower().startswith(RESERVED):
            raise invalid("Tag keys starting with 'aws:' are reserved for internal use")
        if not key:
            raise invalid("Tag key cannot be empty.")
        if len(key) > MOST_KEY:
            raise invalid(f"Tag key exceeds the maximum length of {MOST_KEY} characters")
        if len(value) > MOST_VALUE:
            raise invalid(f"Tag value exceeds the maximum length of {MOST_VALUE} characters")
        if key in found:
            raise invalid(f"Duplicate tag key '{key}' specified.")
        found[key] = value
    check_count(found)
    return found


def check_shown_in_metadata(tags: Iterable[str]) -> None:
    """Check the keys of an instance whose metadata shows its tags. Raises AwsError.

    The message is EC2's own: https://github.com/aws/karpenter-provider-aws/pull/7012
    """
    for key in tags:
        if not _IN_METADATA.fullmatch(key) or key in {".", "..", "_index"}:
            raise invalid(
                f"'{key}' is not a valid tag key. Tag keys must match pattern "
                "([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', "
                "'_index')"
            )


def check_count(tags: Iterable[str]) -> None:
    """Check the number of a resource's tags; those of AWS itself do not count. Raises AwsError."""
    if sum(not key.lower().startswith(RESERVED) for key in tags) > MOST:
        raise AwsError("TagLimitExceeded", f"The maximum number of Tags is {MOST}.")


def tags_for(resource: str, specifications: Iterable[Params]) -> dict[str, str]:
    """Return the tags of a call for resources of this type. Raises AwsError."""
    return checked(
        tag
        for specification in specifications
        if specification.get("ResourceType") == resource
        for tag in specification.get("Tags", ())
    )
