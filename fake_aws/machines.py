"""The machines of running instances: each runs its instance's user data.

A machine is one child process, `machine/boot.py`, here or in a container, with a directory and a
metadata service of its own. Its output is the console. When the child has ended the machine is
off; when the cloud ends it, it first gets the time for an orderly shutdown.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from fake_aws.boot_faults import BootFaults, spoil
from fake_aws.instance import Instance
from fake_aws.metadata import Metadata
from fake_aws.settings import CloudSettings
from fake_aws.timers import Timers

MOST_CONSOLE = 64 * 1024
GRACE_SECONDS = 8.0
"""Longer than boot.py takes to kill processes that ignore SIGTERM."""


class MachineRuntime(Protocol):
    """The port of the two ways to make a machine: as a process here, or in a container."""

    metadata_host: str
    """The address on which its metadata service listens."""

    def reach(self, port: int) -> str:
        """Return the URL of a port of this process, as the machine reaches it."""
        ...

    async def prepare(self, home: Path, instance: Instance) -> None:
        """Write the machine's files into *home*."""
        ...

    async def start(
        self, home: Path, instance: Instance, metadata: Metadata, environment: dict[str, str]
    ) -> asyncio.subprocess.Process:
        """Start its first process, with pipes for standard input and output."""
        ...

    async def kill(self, instance_id: str, process: asyncio.subprocess.Process) -> None:
        """Kill the machine with all of its processes."""
        ...

    async def clean(self, home: Path, instance_id: str) -> None:
        """Remove the remains after its first process has ended."""
        ...


Environment = Callable[[Callable[[int], str], Metadata], dict[str, str]]
"""Builds a machine's variables from `MachineRuntime.reach` and its metadata service."""


class Machine:
    """The machine of one running instance."""

    def __init__(self, instance: Instance, home: Path, metadata: Metadata) -> None:
        self.instance = instance
        self.home = home
        self.metadata = metadata
        self.process: asyncio.subprocess.Process | None = None
        self.wanted_off = asyncio.Event()


class Machines:
    """All machines of the cloud."""

    def __init__(
        self,
        settings: CloudSettings,
        directory: Path,
        runtime: MachineRuntime,
        timers: Timers,
        metadata_for: Callable[[Instance], Metadata],
        environment: Environment,
        on_off: Callable[[str], None],
        boot_faults: BootFaults,
    ) -> None:
        """*on_off* is called with the id of each instance that has powered itself off."""
        self._boot_faults = boot_faults
        self._settings = settings
        self._directory = directory
        self._runtime = runtime
        self._timers = timers
        self._metadata_for = metadata_for
        self._environment = environment
        self._on_off = on_off
        self.running: dict[str, Machine] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, instance: Instance) -> None:
        """Begin to boot the instance."""
        if self._closed or instance.id in self.running:
            return
        machine = Machine(instance, self._directory / instance.id, self._metadata_for(instance))
        self.running[instance.id] = machine
        self._spawn(self._live(machine))

    def kill(self, instance_id: str) -> None:
        """Begin to end the instance's machine."""
        machine = self.running.get(instance_id)
        if machine is not None:
            machine.wanted_off.set()

    async def close(self) -> None:
        """End every machine; return when all of them are removed."""
        self._closed = True
        for machine in list(self.running.values()):
            machine.wanted_off.set()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _live(self, machine: Machine) -> None:
        instance = machine.instance
        try:
            await machine.metadata.start(self._runtime.metadata_host)
            await self._prepare(machine)
            process = await self._runtime.start(
                machine.home,
                instance,
                machine.metadata,
                self._environment(self._runtime.reach, machine.metadata),
            )
            machine.process = process
            await self._until_off(machine, process)
        except OSError as error:
            instance.console += f"cannot start the machine: {error}\n"
        finally:
            await self._runtime.clean(machine.home, instance.id)
            await machine.metadata.close()
            del self.running[instance.id]
        if not machine.wanted_off.is_set():
            self._timers.after(self._settings.shutdown_seconds, lambda: self._on_off(instance.id))

    async def _prepare(self, machine: Machine) -> None:
        machine.home.mkdir(mode=0o700, parents=True)
        (machine.home / "root").mkdir()
        data = base64.b64decode(machine.instance.plan.user_data)
        (machine.home / "user-data").write_bytes(data)
        gpus = machine.instance.plan.usable_gpus
        if gpus is not None:
            (machine.home / "gpus").write_text(str(gpus))
        await self._runtime.prepare(machine.home, machine.instance)
        spoil(machine.home, self._boot_faults.of(machine.instance.id))

    async def _until_off(self, machine: Machine, process: asyncio.subprocess.Process) -> None:
        reader = asyncio.create_task(_read(process, machine.instance))
        ended = asyncio.create_task(process.wait())
        wanted = asyncio.create_task(machine.wanted_off.wait())
        try:
            await asyncio.wait({ended, wanted}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                if process.stdin is not None:
                    process.stdin.close()  # boot.py then powers off
                await asyncio.wait({ended}, timeout=GRACE_SECONDS)
            if not ended.done():
                await self._runtime.kill(machine.instance.id, process)
            await ended
            await asyncio.wait({reader}, timeout=1.0)
        finally:
            for task in (reader, ended, wanted):
                task.cancel()
            await asyncio.gather(reader, ended, wanted, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _read(process: asyncio.subprocess.Process, instance: Instance) -> None:
    if process.stdout is None:
        return
    while data := await process.stdout.read(16 * 1024):
        text = instance.console + data.decode(errors="replace")
        instance.console = text[-MOST_CONSOLE:]
