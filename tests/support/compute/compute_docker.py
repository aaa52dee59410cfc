"""The docker adapter under the contract: real containers with the real agent, on a real engine.

A missing engine or base image skips the tests. The image is built once a session, and cached by the
engine after that. Instances use the machine's own network,
since the API of the tests listens on 127.0.0.1.
"""

import asyncio
import functools
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from agent.build import build, write
from shared.clock import Clock, RealClock
from shared.compute.docker.adapter import DockerCompute
from shared.compute.docker.container import LABEL, DockerSettings
from shared.compute.docker.engine import EngineApi
from shared.compute.port import ComputeError, Instance, LaunchBatch

HOST = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
BASE = "python:3.13-slim"
TAG = "docker-job-test-instance"
BUILD_SECONDS = 100
DOCKERFILE = f"""\
FROM {BASE}
RUN install --directory --mode 1777 /var/lib/docker-job
COPY docker /usr/local/bin/docker
COPY docker_job_agent.pyz /app/agent/
"""


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the Docker client."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )


@functools.cache
def instance_image() -> str:
    """Build an image with the agent and this machine's Docker client; return its id, or skip.

    The client is this machine's own, so that building needs no network.
    """
    client = shutil.which("docker")
    if client is None or docker("version").returncode != 0:
        pytest.skip("no Docker engine answers on this machine")
    if docker("image", "inspect", BASE).returncode != 0:
        pytest.skip(f"the Docker engine has no {BASE}")
    with tempfile.TemporaryDirectory() as context:
        write(build(), Path(context) / "docker_job_agent.pyz")
        shutil.copy(client, Path(context) / "docker")
        (Path(context) / "Dockerfile").write_text(DOCKERFILE)
        built = docker("build", "--quiet", "--tag", TAG, context)
    assert built.returncode == 0, built.stderr
    return built.stdout.strip()


class Isolated(DockerCompute):
    """The adapter with its deployments renamed, so that runs at the same time do not interfere."""

    def __init__(
        self, prefix: str, deployment: str, settings: DockerSettings, clock: Clock | None = None
    ) -> None:
        super().__init__(prefix + deployment, clock or RealClock(), settings, host=HOST)
        self.prefix = prefix
        self.deployment = prefix + deployment

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        renamed = tuple(
            msgspec.structs.replace(each, deployment=self.prefix + each.deployment)
            for each in batch.requests
        )
        return await super().launch(msgspec.structs.replace(batch, requests=renamed))


class DockerWorld:
    """This machine's engine."""

    forgets = ""

    def __init__(self, runtime: str = "simulated", **settings: object) -> None:
        given = {
            "image": instance_image(),
            "network": "host",
            "runtime": runtime,
            "shared_engine": {"packet_filter": "off"},  # the image has no nft
            **settings,
        }
        self.settings = msgspec.convert(given, DockerSettings)
        self.prefix = f"{uuid.uuid4().hex[:8]}-"
        self.made: list[Isolated] = []

    def adapter(self, deployment: str = "test", clock: Clock | None = None) -> Isolated:
        compute = Isolated(self.prefix, deployment, self.settings, clock)
        self.made.append(compute)
        return compute

    async def close(self) -> None:
        engine = EngineApi(HOST)
        for deployment in {each.deployment for each in self.made}:
            left = await engine.containers(f"{LABEL}deployment={deployment}")
            await asyncio.gather(*(engine.remove(each.id, force=True) for each in left))
            networks = await engine.networks(f"{LABEL}deployment={deployment}")
            await asyncio.gather(*(engine.remove_network(each.id) for each in networks))
        await engine.close()
        for compute in self.made:
            await compute.close()
