"""Machines as containers: a root file system, processes, and a network if asked for.

The Docker client makes them and copies into them what they need, so that the engine may be
anywhere. On the engine's "host" network an instance reaches all that this machine reaches, a
control plane on 127.0.0.1 too, and its metadata service is on 127.0.0.1, which no container on a
bridge reaches. On another network the service answers only the instance's own address.
"""

import asyncio
import ipaddress
import json
import shutil
from pathlib import Path

from fake_aws.as_process import LABEL, put_tools, remove_containers
from fake_aws.instance import Instance
from fake_aws.machine import TOOLS
from fake_aws.metadata import Metadata

MACHINE = "/opt/rehearsal"
CLIENT = "/usr/local/bin/docker"
SOCKET = "/var/run/docker.sock"
PULL_SECONDS = 300.0
# An instance's share of this machine. Its processes run as root, as on EC2, in a container that
# has few rights.
LIMITS = ("--memory", "512m", "--pids-limit", "512", "--security-opt", "no-new-privileges")


class NoEngineError(Exception):
    """No container engine answers, or the image is unavailable."""


class AsContainer:
    """Runs each machine as a container. With *engine*, the engine's socket is mounted into it."""

    def __init__(self, image: str, network: str, address: str, *, engine: bool) -> None:
        """*address* is where instances reach this process; empty: the network's gateway."""
        found = shutil.which("docker")
        self._docker = str(Path(found).resolve()) if found else ""
        self._image = image
        self._network = network
        self._address = "127.0.0.1" if network == "host" else address
        self._engine = engine
        # Each metadata service checks the address of its caller.
        self.metadata_host = "127.0.0.1" if network == "host" else "0.0.0.0"  # noqa: S104

    async def open(self) -> None:
        """Check that the engine answers and has the image. Raises NoEngineError."""
        if not self._docker:
            raise NoEngineError("there is no docker on the PATH")
        code, out = await run(self._docker, "version", "--format", "{{.Server.Version}}")
        if code != 0:
            raise NoEngineError(f"no Docker engine answers: {out}")
        code, _ = await run(self._docker, "image", "inspect", self._image)
        if code != 0:
            code, out = await run(self._docker, "pull", "--quiet", self._image)
        if code != 0:
            raise NoEngineError(f"the Docker engine cannot get {self._image}: {out}")
        if not self._address:
            form = "{{json .IPAM.Config}}"
            _, out = await run(self._docker, "network", "inspect", "--format", form, self._network)
            self._address = _gateway(out)

    def reach(self, port: int) -> str:
        """Return the URL of a port of this process, as an instance reaches it."""
        return f"http://{self._address}:{port}"

    async def prepare(self, home: Path, instance: Instance) -> None:
        """Copy the tools into *home*, for the container's file system."""
        docker = CLIENT if self._engine else None
        shutil.copytree(TOOLS, home / "tools", ignore=shutil.ignore_patterns("__pycache__"))
        put_tools(home, "python3", f"{MACHINE}/tools", docker, instance.id)

    async def start(
        self, home: Path, instance: Instance, metadata: Metadata, environment: dict[str, str]
    ) -> asyncio.subprocess.Process:
        """Create it, copy its home into it, and start boot.py as its first process."""
        name = container_name(instance.id)
        variables = [
            part for key, value in environment.items() for part in ("--env", f"{key}={value}")
        ]
        code, out = await run(
            *(self._docker, "create", "--interactive", "--rm", "--name", name, *LIMITS),
            *("--label", f"{LABEL}={instance.id}", "--network", self._network),
            *(("--volume", f"{SOCKET}:{SOCKET}") if self._engine else ()),
            *(*variables, self._image),
            *("python3", "-I", "-S", f"{MACHINE}/tools/boot.py", MACHINE),
        )
        if code != 0:
            raise OSError(out)
        await self._copy(f"{home}/.", f"{name}:{MACHINE}")
        if self._engine:
            await self._copy(self._docker, f"{name}:{CLIENT}")
        process = await asyncio.create_subprocess_exec(
            *(self._docker, "start", "--attach", "--interactive", name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        if self._network == "host":
            metadata.allow({self.metadata_host})
        else:
            metadata.allow(await self._addresses(name))
        return process

    async def kill(self, instance_id: str, process: asyncio.subprocess.Process) -> None:
        """Remove the container at once; its client process ends with it."""
        await run(self._docker, "rm", "--force", "--volumes", container_name(instance_id))
        await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=5.0)
        if process.returncode is None:
            process.kill()

    async def clean(self, _home: Path, instance_id: str) -> None:
        """Remove its container, and the containers that it has started on the engine."""
        await remove_containers(self._docker, instance_id)

    async def _copy(self, source: str, target: str) -> None:
        code, out = await run(self._docker, "cp", "--quiet", source, target)
        if code != 0:
            raise OSError(out)

    async def _addresses(self, name: str) -> set[str]:
        # The engine assigns an address at the start, which the client does not wait for.
        for _ in range(100):
            _, out = await run(
                self._docker, "inspect", "--format", "{{json .NetworkSettings.Networks}}", name
            )
            found = {each["IPAddress"] for each in json.loads(out or "{}").values()} - {""}
            if found:
                return found
            await asyncio.sleep(0.05)
        raise OSError(f"{name} has no address")


def _gateway(configuration: str) -> str:
    """Return the engine's own address on a network. Raises NoEngineError."""
    try:
        [given, *_] = json.loads(configuration)
        first = next(ipaddress.ip_network(given["Subnet"]).hosts())
    except (ValueError, KeyError, TypeError) as error:
        raise NoEngineError(f"no such network: {configuration}") from error
    return str(given.get("Gateway") or first)


def container_name(instance_id: str) -> str:
    """Return the name of an instance's container."""
    return f"rehearsal-{instance_id}"


async def run(*command: str) -> tuple[int, str]:
    """Run *command*; return its exit code and its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PULL_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return 1, f"{command[0]} {command[1]} took too long"
    return process.returncode or 0, out.decode(errors="replace")
