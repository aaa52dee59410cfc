"""The services' memory: at rest, their peak in all parts, and the embedded system."""

import asyncio
import os
import tempfile
from pathlib import Path

from bench.accept import ONE
from bench.client import Load, put_load
from bench.memory import tree_bytes
from bench.report import Figure, at_most
from bench.run import Run
from bench.system import HOST, answers, free_port, run_system, running

PART = "memory"
MIB = 1024 * 1024
REST_SECONDS = 3.0


async def measure(run: Run) -> None:
    """Measure the memory. This part is the last, since it reports the peaks of the others."""
    async with run_system(run.servers) as system:
        await asyncio.sleep(REST_SECONDS)
        at_rest = system.memory()
        processes = {name: system.processes(name) for name in at_rest}
        await system.load(32, run.pick(3, 1), ONE)
        await system.settled()
        run.keep_peaks(system.peak_bytes)
    for name, held in at_rest.items():
        run.add(
            Figure(
                part=PART,
                name=f"{name} at rest",
                value=held / MIB,
                unit="MB",
                goals=(at_most(70 * processes[name]),),
                detail={"processes": processes[name]},
            )
        )
    for name, held in run.peak_bytes.items():
        run.add(
            Figure(
                part=PART,
                name=f"{name}, most of all parts",
                value=held / MIB,
                unit="MB",
                # The others hold a virtual cloud beside the service.
                goals=(at_most(70 * processes[name]),) if name in at_rest else (),
            )
        )
    await _embedded(run)


async def _embedded(run: Run) -> None:
    """Measure all four services, the bus and Postgres: one process and its children."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        environment = dict(os.environ) | {
            "DOCKER_JOB_DATA_DIR": str(Path(directory) / "data"),
            "DOCKER_JOB_PORT": str(port),
        }
        log = Path(directory) / "log"
        with running("embedded.run", environment, log) as process:
            while not await answers(port, "/readyz"):
                if process.poll() is not None:
                    raise RuntimeError(f"the embedded system ended: {log.read_text()}")
                await asyncio.sleep(0.2)
            await asyncio.sleep(REST_SECONDS)
            at_rest = tree_bytes(process.pid)
            load = Load(host=HOST, port=port, clients=32, seconds=run.pick(5, 2), asks=[ONE])
            loading = asyncio.create_task(put_load(load))
            most = at_rest
            while not loading.done():
                most = max(most, tree_bytes(process.pid))
                await asyncio.sleep(0.25)
            taken = await loading
    for name, held in (("at rest", at_rest), ("accepting", most)):
        run.add(
            Figure(
                part=PART,
                name=f"embedded system with its Postgres, {name}",
                value=held / MIB,
                unit="MB",
                goals=(at_most(250),),
                detail={"accepted_rate": taken.rate},
            )
        )
