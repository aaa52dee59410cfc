"""Failures of several tasks at once: each is shown."""

import asyncio
from typing import NoReturn

import pytest
import structlog

from shared.runtime.failures import as_one, await_all

LOG = structlog.get_logger()


async def fails(error: BaseException) -> NoReturn:
    raise error


async def works() -> int:
    return 1


def test_one_failure_is_itself_and_several_are_a_group() -> None:
    one, two = ValueError("one"), KeyError("two")
    assert as_one([]) is None
    assert as_one([one]) is one
    group = as_one([one, two])
    assert isinstance(group, BaseExceptionGroup)
    assert group.exceptions == (one, two)


def test_each_failed_call_is_logged_and_one_that_will_not_pass_is_raised() -> None:
    calls = {
        "first": fails(ConnectionError("away")),
        "second": works(),
        "third": fails(ValueError("wrong")),
        "fourth": fails(KeyError("missing")),
    }
    with (
        structlog.testing.capture_logs() as entries,
        pytest.raises(ValueError, match="wrong"),
    ):
        asyncio.run(await_all(calls, "launching failed", LOG))
    assert [(each["event"], each["call"], each["log_level"]) for each in entries] == [
        ("launching failed", "first", "warning"),
        ("launching failed", "third", "error"),
        ("launching failed", "fourth", "error"),
    ]


def test_what_passes_by_itself_is_raised_if_there_is_nothing_else() -> None:
    calls = {"first": works(), "second": fails(ConnectionError("away"))}
    with pytest.raises(ConnectionError, match="away"):
        asyncio.run(await_all(calls, "launching failed", LOG))


def test_without_a_failure_nothing_is_logged() -> None:
    with structlog.testing.capture_logs() as entries:
        asyncio.run(await_all({"first": works()}, "launching failed", LOG))
    assert entries == []
