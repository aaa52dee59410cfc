"""The adapter of a port by its URL: the one place that knows all schemes."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from msgspec.structs import replace

from agent.build import build, keep
from shared.bus.memory import MemoryBus
from shared.bus.port import Bus, Topology
from shared.bus.rabbitmq import RabbitMQBus
from shared.clock import Clock
from shared.compute.api_ca import read_api_ca
from shared.compute.docker.adapter import DockerCompute
from shared.compute.docker.container import DockerSettings
from shared.compute.docker.engine import DEFAULT_HOST
from shared.compute.ec2.settings import Ec2Settings, ec2_settings
from shared.compute.port import Compute, Notices
from shared.compute.process.adapter import ProcessCompute, Runtime
from shared.compute.process.instances import ProcessSettings
from shared.compute.shared_engine import SharedEngine, shared_engine_from
from shared.compute.simulator.adapter import RemoteCloud, SimulatorCompute
from shared.events.readers import MANDATORY
from shared.settings import BadSetting, Settings


@dataclass(frozen=True)
class ComputePlace:
    """The deployment and this machine, as the adapters of the compute port need them."""

    deployment: str
    data_dir: Path
    agent_path: Path | None
    """The agent's built file; None: the one that is built from the sources beside ours."""
    runtime: Runtime
    docker: DockerSettings = field(default_factory=DockerSettings)
    shared_engine: SharedEngine = field(default_factory=SharedEngine)
    engine: str = DEFAULT_HOST
    ec2: Ec2Settings = field(default_factory=Ec2Settings)
    api_ca: str = ""
    """PEM of the authority by which agents verify the API; EC2's is among its settings."""


def open_bus(url: str, topology: Topology) -> Bus:
    """Open the bus at *url*. Raises `BadSetting`."""
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return MemoryBus(topology)
    if scheme in ("amqp", "amqps"):
        return RabbitMQBus(url, MANDATORY)
    raise BadSetting(f"DOCKER_JOB_BUS_URL begins with {scheme!r}: it must be amqp://… or memory://")


def open_compute(url: str, place: ComputePlace, clock: Clock) -> Compute:
    """Open the compute at *url*. Raises `BadSetting`."""
    scheme = urlsplit(url).scheme
    if scheme == "process":
        return ProcessCompute(
            place.data_dir,
            place.deployment,
            clock,
            place.agent_path or keep(place.data_dir / "agent"),
            place.runtime,
            settings=ProcessSettings(shared_engine=place.shared_engine, api_ca=place.api_ca),
        )
    if scheme == "sim":
        try:
            if urlsplit(url).netloc:
                return RemoteCloud(url, place.deployment)
            return SimulatorCompute.from_url(url, place.deployment, clock)
        except ValueError as error:
            raise BadSetting(f"DOCKER_JOB_COMPUTE_URL is {url!r}: {error}") from None
    if scheme == "docker":
        docker = replace(place.docker, shared_engine=place.shared_engine, api_ca=place.api_ca)
        return DockerCompute(place.deployment, clock, docker, host=place.engine)
    if scheme == "ec2":
        from shared.compute.ec2.compute import Ec2Compute  # noqa: PLC0415 - see shared.compute.ec2

        sha256 = agent_sha256(place.agent_path)
        return Ec2Compute(region_of(url), place.deployment, clock, sha256, place.ec2)
    raise BadSetting(
        f"DOCKER_JOB_COMPUTE_URL is {url!r}: it must begin with ec2://, docker://, process:// "
        "or sim://"
    )


def agent_sha256(path: Path | None) -> str:
    """Return the hash of the agent at *path*, or of the one built here. Raises `BadSetting`."""
    try:
        content = path.read_bytes() if path else build()
    except OSError as error:
        raise BadSetting(f"DOCKER_JOB_AGENT_PATH is {str(path)!r}: {error.strerror}") from None
    return hashlib.sha256(content).hexdigest()


def have_role(url: str, environ: Mapping[str, str]) -> bool:
    """Return whether the instances of the compute at *url* may have a role, with which to read."""
    needs_metadata = urlsplit(url).scheme in ("docker", "process")
    return not needs_metadata or bool(environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"))


def region_of(url: str) -> str:
    """Read the region in `ec2://<region>`. Raises `BadSetting`."""
    region = urlsplit(url).netloc
    if not region:
        raise BadSetting(f"DOCKER_JOB_COMPUTE_URL is {url!r}: it must be like ec2://us-east-1")
    return region


def open_notices(settings: Settings) -> Notices | None:
    """Open the queue that DOCKER_JOB_INTERRUPTION_QUEUE_URL names, if any. Raises `BadSetting`."""
    url = settings.text("INTERRUPTION_QUEUE_URL")
    if not url:
        return None
    compute = settings.text("COMPUTE_URL", "")
    if urlsplit(compute).scheme != "ec2":
        raise BadSetting(
            "DOCKER_JOB_INTERRUPTION_QUEUE_URL is set: that needs DOCKER_JOB_COMPUTE_URL=ec2://…"
        )
    from shared.compute.ec2.notices import InterruptionQueue  # noqa: PLC0415 - as above

    return InterruptionQueue(url, region_of(compute))


def compute_from(settings: Settings, clock: Clock) -> Compute:
    """Open the compute of a service that runs as a process of its own. Raises `BadSetting`."""
    agent_path = settings.text("AGENT_PATH", "")
    place = ComputePlace(
        deployment=settings.required("DEPLOYMENT", "production"),
        data_dir=Path(settings.text("DATA_DIR", ".data")).absolute(),
        agent_path=Path(agent_path).absolute() if agent_path else None,
        runtime=read_runtime(settings),
        docker=_docker_settings(settings),
        shared_engine=shared_engine_from(settings),
        engine=settings.text("DOCKER_HOST", os.environ.get("DOCKER_HOST") or DEFAULT_HOST),
        ec2=ec2_settings(settings),
        api_ca=read_api_ca(settings),
    )
    return open_compute(settings.required("COMPUTE_URL", "docker://"), place, clock)


def read_runtime(settings: Settings) -> Runtime:
    """Read the container runtime: an engine, none, or an engine where one answers."""
    runtime = settings.choice("RUNTIME", "auto", ("auto", "docker", "simulated"))
    return "docker" if runtime == "docker" else "simulated" if runtime == "simulated" else "auto"


def _docker_settings(settings: Settings) -> DockerSettings:
    defaults = DockerSettings()
    return DockerSettings(
        image=settings.text("INSTANCE_IMAGE", defaults.image),
        network=settings.text("INSTANCE_NETWORK", defaults.network),
        socket=settings.text("ENGINE_SOCKET", defaults.socket),
        runtime="simulated" if read_runtime(settings) == "simulated" else "docker",
        metadata_url=os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
    )
