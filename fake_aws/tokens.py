"""Client tokens by EC2's documentation: a call repeated with its token has no further effect.

Same token and parameters: the first answer again, with the current states. Other parameters:
IdempotentParameterMismatch. All of its instances terminated: IdempotentInstanceTerminated. A token
of RunInstances with a subnet or a zone is valid in that zone alone: the same token launches again
in another one. A refused call does not use up its token.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

import json
from typing import Any, NamedTuple

from fake_aws.errors import AwsError, invalid

LONGEST = 64


class Remembered(NamedTuple):
    """The effect of a token's first call: the answer in boto3's form, and its instance ids."""

    parameters: str
    answer: dict[str, Any]
    instance_ids: tuple[str, ...]


class ClientTokens:
    """The tokens of one kind of call."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Remembered] = {}

    def find(self, scope: str, params: dict[str, Any]) -> Remembered | None:
        """Return the effect of the call's token within *scope*. Raises on other parameters."""
        token = _token(params)
        found = self._known.get((scope, token)) if token else None
        if found is not None and found.parameters != _canonical(params):
            raise AwsError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in "
                "previous request(s).",
            )
        return found

    def remember(
        self, scope: str, params: dict[str, Any], answer: dict[str, Any], ids: tuple[str, ...] = ()
    ) -> None:
        """Record the effect of the call with its token."""
        token = _token(params)
        if token:
            self._known[scope, token] = Remembered(_canonical(params), answer, ids)


def terminated() -> AwsError:
    """Build the error for a token whose instances are all terminated."""
    return AwsError(
        "IdempotentInstanceTerminated",
        "The request to launch an instance uses the same client token as a previous request for "
        "which the instance has been terminated.",
    )


def _token(params: dict[str, Any]) -> str:
    token: str = params.get("ClientToken") or ""
    if len(token) > LONGEST or not token.isascii():
        raise invalid(f"ClientToken must be at most {LONGEST} ASCII characters.")
    return token


def _canonical(params: dict[str, Any]) -> str:
    compared = {name: value for name, value in params.items() if name != "DryRun"}
    return json.dumps(compared, sort_keys=True, default=str)
