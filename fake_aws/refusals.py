"""The reason of a refused call, in the JSON that STS answers to DecodeAuthorizationMessage.

Its form is that of AWS's example:
https://docs.aws.amazon.com/IAM/latest/UserGuide/sts_example_sts_DecodeAuthorizationMessage_section.html
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def decoded_refusal(
    caller: str, action: str, resource: str, context: Mapping[str, str | Sequence[str]]
) -> str:
    """Write that no statement allows *caller* this *action*."""
    conditions: list[dict[str, Any]] = []
    for key, value in context.items():
        values = [value] if isinstance(value, str) else list(value)
        conditions.append({"key": key, "values": {"items": [{"value": each} for each in values]}})
    return json.dumps(
        {
            "allowed": False,
            "explicitDeny": False,
            "matchedStatements": {"items": []},
            "failures": {"items": []},
            "context": {
                "principal": {"id": caller.rpartition("/")[2], "arn": caller},
                "action": action,
                "resource": resource,
                "conditions": {"items": conditions},
            },
        }
    )
