"""Encoded authorization messages: which action on which resource was not allowed, and why.

EC2 ends the message of a call that is not allowed with some hundred characters that only STS can
read, for a caller with the permission `sts:DecodeAuthorizationMessage`. It is optional: without it
the message stays as it is, without these characters. Newer messages name action and resource in
plain words too (https://github.com/kubernetes-sigs/karpenter/issues/2813), older ones nothing.
https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from shared.compute.ec2.errors import ENCODED, without_encoded
from shared.compute.port import ComputeError, Misconfigured
from shared.log import get_logger

_log = get_logger(part="ec2")

DECODE_SECONDS = 5.0
KNOWN_SECONDS = 300.0
"""A refusal comes again with each try, in other characters."""

REFUSED_SECONDS = 600.0
MOST_KNOWN = 100

SHOWN_CONDITIONS = (
    *("aws:requesttag/docker-job:deployment", "aws:resourcetag/docker-job:deployment"),
    *("ec2:metadatahttptokens", "ec2:metadatahttpputresponsehoplimit", "ec2:launchtemplate"),
    *("ec2:createaction", "iam:passedtoservice", "aws:requestedregion"),
)
"""The condition keys that our policies name (docs/iam); AWS sends some thirty."""


class AuthorizationDecoder:
    """Decodes the messages; *ask* calls STS with the encoded part and returns the decoded one."""

    def __init__(
        self, ask: Callable[[str], Awaitable[str]], seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask = ask
        self._seconds = seconds
        self._known: dict[tuple[str, str], tuple[float, str]] = {}
        self._refused_at = float("-inf")

    async def explain(self, action: str, message: str) -> str:
        """Return *message* of *action* with its encoded part in words, or without it."""
        plain = without_encoded(message)
        if ENCODED not in message:
            return message
        key, now = (action, plain), self._seconds()
        known = self._known.get(key)
        if known is None or now - known[0] > KNOWN_SECONDS:
            if now - self._refused_at < REFUSED_SECONDS:
                return plain
            words = await self._decode(message.partition(ENCODED)[2].strip())
            if words is None:
                return plain
            known = self._keep(key, words)
        return f"{plain} {known[1]}".strip()

    def _keep(self, key: tuple[str, str], words: str) -> tuple[float, str]:
        self._known.pop(key, None)  # kept in the order of their age
        self._known[key] = self._seconds(), words
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        return self._known[key]

    async def _decode(self, encoded: str) -> str | None:
        try:
            async with asyncio.timeout(DECODE_SECONDS):
                return read_decoded(await self._ask(encoded))
        except (ComputeError, TimeoutError, ValueError) as error:
            if isinstance(error, (Misconfigured, TimeoutError)):
                self._refused_at = self._seconds()
            _log.info("an authorization message stays encoded", error=str(error))
            return None


def read_decoded(decoded: str) -> str:
    """Return the decoded reason in one sentence. Raises `ValueError`."""
    shown = msgspec.json.decode(decoded, type=dict[str, Any])
    held = shown.get("context")
    context: dict[str, Any] = held if isinstance(held, dict) else {}
    action = str(context.get("action") or "the call")
    if ":" not in action:
        action = f"ec2:{action}" if context.get("action") else action
    where = f" on {context['resource']}" if context.get("resource") else ""
    if shown.get("explicitDeny"):
        denying = [each.get("statementId") or "?" for each in _items(shown, "matchedStatements")]
        why = f"denied by statement {', '.join(denying)}" if denying else "denied explicitly"
    else:
        why = "no statement allows it"
    conditions = _conditions(context)
    given = f", with {conditions}" if conditions else ""
    return f"[{action}{where}{given}: {why}]"


def _conditions(context: Mapping[str, Any]) -> str:
    shown = []
    for each in _items(context, "conditions"):
        key = str(each.get("key"))
        if key.lower() in SHOWN_CONDITIONS:
            values = [str(value.get("value")) for value in _items(each, "values")]
            shown.append(f"{key}={'|'.join(values)}")
    return ", ".join(shown)


def _items(shown: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    held = shown.get(name) or {}
    found = held.get("items") if isinstance(held, dict) else None
    return [each for each in found or [] if isinstance(each, dict)]
