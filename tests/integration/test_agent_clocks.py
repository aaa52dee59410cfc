"""An instance whose clock is wrong: durations decide when a container is stopped, no time of day.

The metadata service's clock is moved instead of the instance's, which is the test's own.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import cast

import pytest
from msgspec import structs

from services.api.http.server import bind, http_server
from shared.clock import VirtualClock
from tests.integration.test_agent import AgentProcess, FakeApi, FakeMetadata, running
from tests.integration.test_agent_aws import INSTANCE, At
from tests.support.api.api_world import World, a_config
from tests.support.compute.aws_account import (
    REGION,
    ROLE_ARN,
    FakeSts,
    InstanceMetadata,
    session_of,
)

SKEWS = [timedelta(minutes=10), timedelta(minutes=-10), timedelta(days=-20_000)]


def skewed(metadata: FakeMetadata, skew: timedelta) -> None:
    """Set the clock of a metadata service *skew* ahead of the instance's."""
    served = cast("type", metadata._server.RequestHandlerClass)

    def date(_handler: object, _timestamp: float | None = None) -> str:
        return format_datetime(datetime.now(UTC) + skew, usegmt=True)

    metadata._server.RequestHandlerClass = type("Skewed", (served,), {"date_time_string": date})


class SkewedMetadata(FakeMetadata):
    """A metadata service whose clock is *skew* ahead of the instance's."""

    def __init__(self, skew: timedelta) -> None:
        super().__init__()
        self.skew = skew
        skewed(self, skew)

    def give_notice(self, seconds: float) -> None:
        at = datetime.now(UTC) + self.skew + timedelta(seconds=seconds)
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


AHEAD = timedelta(minutes=10)


@pytest.fixture
def clock() -> VirtualClock:
    """Return the API's clock, which is right."""
    return VirtualClock(datetime.now(UTC) + AHEAD)


async def test_an_instance_whose_clock_is_wrong_still_shows_its_role(
    world: World, tmp_path: Path
) -> None:
    """AWS and the API refuse signatures that are five minutes old."""
    sts = FakeSts(now=lambda: datetime.now(UTC) + AHEAD)
    metadata = InstanceMetadata(*sts.give(session_of(INSTANCE)))
    skewed(metadata, AHEAD)
    api = World(
        world.ports,
        world.clock,
        a_config(INSTANCE_ROLE_ARN=ROLE_ARN, STS_REGION=REGION, STS_URL=sts.url),
    )
    job_id = (await api.post())["id"]
    await api.deliver(structs.replace(api.launched(job_id), instance_id=INSTANCE))
    with sts.serving(), metadata.serving(), bind("127.0.0.1", 0) as sock:
        http = http_server(api.api.app)
        serving = asyncio.create_task(http.serve(sockets=[sock]))
        env = {
            "DOCKER_JOB_IDENTITY": "sts",
            "DOCKER_JOB_STS_URL": sts.url,
            "DOCKER_JOB_DEPLOYMENT": "test",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        }
        agent = AgentProcess(At(f"http://127.0.0.1:{sock.getsockname()[1]}"), tmp_path / "i", **env)
        assert await asyncio.to_thread(agent.wait) == 0
        http.stop()
        await serving
    assert (await api.status(job_id))["status"] == "DONE", agent.log
    await api.close()
