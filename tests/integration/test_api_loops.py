"""The API's own loops: one that ends by itself ends the API, and says why."""

import dataclasses
from typing import Any

import pytest

from tests.support.api.api_world import World


class Broken:
    """A loop that fails at once."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def run(self) -> None:
        raise self._error


async def test_the_errors_of_all_loops_that_end_are_shown(world: World) -> None:
    one, two = ValueError("one"), KeyError("two")
    intake: Any = Broken(one)
    agents: Any = Broken(two)
    with pytest.raises(RuntimeError, match=r"api\.intake ended by itself") as raised:
        await dataclasses.replace(world.api, intake=intake).run()
    assert raised.value.__cause__ is one
    both = dataclasses.replace(world.api, intake=intake, agents=agents)
    with pytest.raises(RuntimeError, match=r"api\.intake, api\.agents ended by itself") as raised:
        await both.run()
    group = raised.value.__cause__
    assert isinstance(group, BaseExceptionGroup)
    assert group.exceptions == (one, two)
