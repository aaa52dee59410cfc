"""An instance whose clock is wrong: durations decide when a container is stopped, no time of day.

The metadata service's clock is moved instead of the instance's, which is the test's own.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import cast

import pytest

from tests.integration.test_agent import FakeApi, FakeMetadata, running

SKEWS = [timedelta(minutes=10), timedelta(minutes=-10), timedelta(days=-20_000)]


class SkewedMetadata(FakeMetadata):
    """A metadata service whose clock is *skew* ahead of the instance's."""

    def __init__(self, skew: timedelta) -> None:
        super().__init__()
        self.skew = skew
        served = cast("type", self._server.RequestHandlerClass)

        def date(_handler: object, _timestamp: float | None = None) -> str:
            return format_datetime(self.now(), usegmt=True)

        self._server.RequestHandlerClass = type("Skewed", (served,), {"date_time_string": date})

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew

    def give_notice(self, seconds: float) -> None:
        at = self.now() + timedelta(seconds=seconds)
        self.notice = json.dumps({"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"})


@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_a_container_is_stopped_before_the_end_of_the_notice(
    tmp_path: Path, skew: timedelta
) -> None:
    api, metadata = FakeApi(env_vars={"SIMULATE_SECONDS": "60"}), SkewedMetadata(skew)
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running(api, tmp_path / "i", **endpoint) as agent:
            api.wait_for(lambda: "running" in api.phases)
            metadata.give_notice(seconds=31.5)  # the margin is 30
            assert agent.wait() == 0
    assert api.callbacks[-1] == {"schedule": "", "stopped": True, "exit_code": 143}


@pytest.mark.parametrize("skew", SKEWS, ids=str)
def test_a_container_has_the_whole_notice(tmp_path: Path, skew: timedelta) -> None:
    api, metadata = FakeApi(env_vars={"SIMULATE_SECONDS": "2"}), SkewedMetadata(skew)
    with metadata.serving():
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url}
        with running(api, tmp_path / "i", **endpoint) as agent:
            api.wait_for(lambda: "running" in api.phases)
            metadata.give_notice(seconds=120)
            assert agent.wait() == 0
    assert api.callbacks == [{"schedule": ""}, {"exit_code": 0}]
