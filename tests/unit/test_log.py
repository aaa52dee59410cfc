"""No secret, and no control sequence of a terminal, gets into a log line."""

import logging
from typing import Any

import pytest

from shared.log import mask, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://api:s3cret@db:5432/x", "postgresql://api:***@db:5432/x"),
        ("amqp://api:p%40ss@mq and more", "amqp://api:***@mq and more"),
        ("postgresql://api:a@b/c@db/x", "postgresql://api:***@db/x"),
        (
            "postgresql://api@/x?host=/run&password=s3cret",
            "postgresql://api@/x?host=/run&password=***",
        ),
        ("http://h/?a=1&token=s3cret&b=2", "http://h/?a=1&token=***&b=2"),
        ("Authorization: Bearer s3cret.abc", "Authorization: Bearer ***"),
        ("authorization: bearer s3cret", "authorization: bearer ***"),
        ("DETAIL: Failing row contains (1, s3cret,\n x).", "DETAIL: ***"),
        ("Failing row contains (1, s3cret).", "Failing row contains ***"),
        ("no such row\nDETAIL:  Key (k)=(s3cret)", "no such row\nDETAIL:  ***"),
        (
            "invalid input for query argument $1: 's3cret' (expected str)",
            "invalid input for query argument $1: ***",
        ),
        (
            'invalid input syntax for type integer: "s3cret\n"',
            "invalid input syntax for type integer: ***",
        ),
        ('value "99999" is out of range for type smallint', "value ***"),
        ("the value is out of range", "the value is out of range"),
        ("red \x1b[31m\x07\x00\x9b", "red \\x1b[31m\\x07\\x00\\x9b"),
        ("a\r\nb\tc", "a\\x0d\nb\tc"),
        ("http://example.org/plain?x=1", "http://example.org/plain?x=1"),
        ("12:30:00 a:b@c", "12:30:00 a:b@c"),
    ],
)
def test_text_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


SECRET = "s3cret"


@pytest.mark.parametrize(
    "key",
    [
        "token", "tokens", "agent_token", "secret", "client_secret", "password", "bus_password",
        "authorization", "Authorization", "api_key", "token_key", "env_vars", "secret_env",
        "env_values",
    ],
)  # fmt: skip
def test_a_key_that_names_a_secret_loses_its_value(key: str) -> None:
    for value in (SECRET, {"KEY": SECRET}, [SECRET], 12):
        assert redact(None, "info", {key: value})[key] == "***"


@pytest.mark.parametrize(
    "value",
    [
        {"deep": [{"password": SECRET}]},
        ({"token": SECRET},),
        ["amqp://u:s3cret@h"],
        ValueError("postgresql://u:s3cret@h"),
        {"a": {"b": {"env_vars": {"K": SECRET}}}},
    ],
)
def test_secrets_are_found_however_deep_they_lie(value: Any) -> None:
    assert SECRET not in str(redact(None, "info", {"event": "x", "detail": value}))


def test_what_is_not_secret_stays_as_it_was() -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "m", None, None)
    entry: dict[str, Any] = {
        "event": "job accepted",
        "job": 7,
        "ok": True,
        "none": None,
        "seconds": 1.5,
        "labels": {"team": "data"},
        "_record": record,
        "tokens_left": 3,
    }
    assert redact(None, "info", dict(entry)) == entry
