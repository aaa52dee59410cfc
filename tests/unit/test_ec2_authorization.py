"""Encoded authorization messages: decoded once, briefly, and never shown as they are."""

import json

import pytest

from fake_aws.refusals import decoded_refusal
from shared.compute.ec2.authorization import AuthorizationDecoder, read_decoded
from shared.compute.port import Misconfigured, Unknown

PLAIN = "You are not authorized to perform this operation."
CALLER = "arn:aws:sts::1:assumed-role/Launcher/one"
TEXT = decoded_refusal(
    CALLER,
    "ec2:RunInstances",
    "arn:aws:ec2:us-east-1:1:instance/*",
    {"ec2:MetadataHttpTokens": "optional", "ec2:Region": "us-east-1"},
)
WORDS = (
    "[ec2:RunInstances on arn:aws:ec2:us-east-1:1:instance/*, with "
    "ec2:MetadataHttpTokens=optional: no statement allows it]"
)


def encoded(blob: str) -> str:
    return f"{PLAIN} Encoded authorization failure message: {blob}"


class Sts:
    """Answers with `answer`, or raises it."""

    def __init__(self, answer: str | Exception = TEXT) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.now = 0.0
        self.decoder = AuthorizationDecoder(self.ask, lambda: self.now)

    async def ask(self, blob: str) -> str:
        self.asked.append(blob)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_it_names_action_resource_and_the_conditions_of_our_policies() -> None:
    sts = Sts()
    assert await sts.decoder.explain("RunInstances", encoded("AQ")) == f"{PLAIN} {WORDS}"
    assert sts.asked == ["AQ"]


async def test_the_same_refusal_in_other_characters_is_decoded_once_in_a_while() -> None:
    sts = Sts()
    for blob in ("one", "two"):
        assert WORDS in await sts.decoder.explain("RunInstances", encoded(blob))
    sts.now = 301
    await sts.decoder.explain("RunInstances", encoded("three"))
    await sts.decoder.explain("CreateFleet", encoded("four"))
    assert sts.asked == ["one", "three", "four"]


async def test_without_the_permission_sts_is_not_asked_each_time() -> None:
    sts = Sts(Misconfigured("AccessDenied: no", change="allow it"))
    for blob in ("one", "two"):
        assert await sts.decoder.explain("RunInstances", encoded(blob)) == PLAIN
    sts.now = 601
    await sts.decoder.explain("RunInstances", encoded("three"))
    assert sts.asked == ["one", "three"]


@pytest.mark.parametrize("answer", [Unknown("no answer"), "no JSON", "[]", "{}", '{"context": 1}'])
async def test_an_answer_that_cannot_be_read_leaves_the_message_without_the_encoded_part(
    answer: str | Exception,
) -> None:
    explained = await Sts(answer).decoder.explain("RunInstances", encoded("AQ"))
    assert explained.startswith(PLAIN)
    assert "AQ" not in explained


async def test_any_other_message_stays_as_it_is() -> None:
    sts = Sts()
    assert await sts.decoder.explain("RunInstances", "Max spot instance count") == (
        "Max spot instance count"
    )
    assert sts.asked == []


def test_a_statement_that_denies_is_named() -> None:
    # The example of AWS's documentation, whose action has no service.
    shown = {
        "allowed": False,
        "explicitDeny": True,
        "matchedStatements": {"items": [{"statementId": "VisualEditor0", "effect": "DENY"}]},
        "context": {"action": "RunInstances", "resource": "arn:aws:ec2:us-east-1:1:instance/*"},
    }
    assert read_decoded(json.dumps(shown)) == (
        "[ec2:RunInstances on arn:aws:ec2:us-east-1:1:instance/*: "
        "denied by statement VisualEditor0]"
    )
