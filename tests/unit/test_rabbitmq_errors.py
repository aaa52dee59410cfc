"""Every error of the AMQP library on a connection in doubt leaves as `BusUnavailable`."""

import asyncio

import pytest
from aiormq.exceptions import ChannelInvalidStateError, ConnectionClosed

from shared.bus.port import BusUnavailable
from shared.bus.rabbitmq.connection import unavailable


@pytest.mark.parametrize(
    "raised",
    [
        ConnectionClosed(320, "a test"),
        ChannelInvalidStateError("closed"),
        ConnectionResetError("reset"),
        TimeoutError(),
        asyncio.CancelledError(),  # though this task was not cancelled
        Exception(),
    ],
)
async def test_what_a_lost_connection_raises_is_unavailable(raised: BaseException) -> None:
    with pytest.raises(BusUnavailable, match=r"^doing: ."), unavailable("doing"):
        raise raised


@pytest.mark.parametrize("raised", [ValueError("ours"), KeyError("ours"), AssertionError("ours")])
async def test_a_mistake_of_ours_stays_what_it_is(raised: Exception) -> None:
    with pytest.raises(type(raised), match="ours"), unavailable("doing"):
        raise raised
