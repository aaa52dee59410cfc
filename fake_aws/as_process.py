"""Machines as processes of this machine, where no container engine is available.

Each has a directory, and a PATH on which the programs that would change the host are simulated
(`machine/tools.py`). A directory does not isolate: paths in the user data that belong to a machine
(/opt, /var/lib …) are moved into the instance's directory, and that is all that is possible here.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from fake_aws.instance import Instance
from fake_aws.machine import TOOL_NAMES, TOOLS
from fake_aws.metadata import Metadata

MACHINE_PATHS = re.compile(
    rb"(?<![\w./$}-])/(opt|srv|root|var/lib|var/log|etc/ecs|etc/docker)(?=[/\s\"';]|$)"
)
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "DOCKER_HOST")
LABEL = "fake_aws.instance"
AGENTS_LABEL = "docker-job.instance"


class AsProcess:
    """Runs each machine as a process. With *engine*, it may use this machine's container engine."""

    metadata_host = "127.0.0.1"

    def __init__(self, *, engine: bool) -> None:
        self._docker = shutil.which("docker") if engine else None

    def reach(self, port: int) -> str:
        """Return the URL of a port on the loopback, which no container on a bridge reaches."""
        return f"http://{self.metadata_host}:{port}"

    async def prepare(self, home: Path, instance: Instance) -> None:
        """Write the tools, and move the paths in the user data into *home*."""
        put_tools(home, sys.executable, str(TOOLS), self._docker, instance.id)
        data = home / "user-data"
        data.write_bytes(
            MACHINE_PATHS.sub(str(home / "root").encode() + rb"/\1", data.read_bytes())
        )
        for name in ("opt", "var/lib", "var/log", "etc/ecs"):
            (home / "root" / name).mkdir(parents=True)

    async def start(
        self, home: Path, _instance: Instance, metadata: Metadata, environment: dict[str, str]
    ) -> asyncio.subprocess.Process:
        """Start boot.py in a session of its own."""
        metadata.allow({self.metadata_host})
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(TOOLS / "boot.py"), str(home)),
            cwd=home / "root",
            env=inherited | environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def kill(self, _instance_id: str, process: asyncio.subprocess.Process) -> None:
        """Kill boot.py, which did not end in time, and its process group."""
        os.killpg(process.pid, signal.SIGKILL)

    async def clean(self, home: Path, instance_id: str) -> None:
        """Kill the processes that boot.py has left, and remove its containers on the engine."""
        await asyncio.to_thread(kill_strays, home)
        if self._docker:
            await remove_containers(self._docker, instance_id)


def put_tools(home: Path, python: str, tools: str, docker: str | None, instance_id: str) -> None:
    """Write into `bin` the programs that shadow the machine's; *tools* is our directory there."""
    programs = home / "bin"
    programs.mkdir()
    if Path(python).is_absolute():
        _script(programs / "python3", f'exec {python} "$@"')
    for name in TOOL_NAMES:
        _script(programs / name, f'exec {python} -I -S {tools}/tools.py {name} "$@"')
    if docker is None:
        _script(programs / "docker", f'exec {python} -I -S {tools}/docker_stub.py "$@"')
    else:
        # The engine is shared: a label marks this instance's containers. Those that the agent
        # creates through the Engine API have one of its own.
        labelled = f'c="$1"; shift; exec {docker} "$c" --label {LABEL}={instance_id} "$@"'
        body = f'case "$1" in create|run) {labelled};; esac; exec {docker} "$@"'
        _script(programs / "docker", body)


def kill_strays(home: Path) -> None:
    """SIGKILL every process that has *home* in its environment, where there is a /proc."""
    mark = b"REHEARSAL_MACHINE=" + os.fsencode(home)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or belongs to another user
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


async def remove_containers(docker: str, instance_id: str) -> None:
    """Kill and remove all containers of an instance."""
    for label in (LABEL, AGENTS_LABEL):
        wanted = f"label={label}={instance_id}"
        ids = await _output(docker, "ps", "--all", "--quiet", "--filter", wanted)
        if ids:
            await _output(docker, "rm", "--force", "--volumes", *ids.split())


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out.decode()


def _script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
