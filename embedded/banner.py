"""The text that `make run` prints when it is ready: address, data, compute, first commands."""

import asyncio
import shlex
import shutil
import sys
from pathlib import Path

from embedded.postgres import EmbeddedPostgres

ENGINE_SECONDS = 3.0

USUAL = "http://127.0.0.1:8000"
"""The address that the command calls by default."""


async def start_block(
    address: str, data_dir: Path, postgres: EmbeddedPostgres | None, compute_url: str, runtime: str
) -> str:
    """Build one plain block of text for the terminal."""
    database = f"embedded Postgres {postgres.version}" if postgres else "your Postgres"
    lines = {
        "address": address,
        "data": f"{data_dir} ({database})",
        "compute": _compute(compute_url),
        "containers": await _containers(compute_url, runtime),
    }
    order = '{ "docker_image": "alpine", "scheduled_for": "now" }'
    first = [
        *_command_line(address),
        f"curl {shlex.quote(address + '/list')}",  # brackets are a pattern to a shell
        f"curl -X POST -d '{order}' {shlex.quote(address + '/schedule')}",
    ]
    rows = [*lines.items(), ("try", first[0]), *(("", each) for each in first[1:])]
    shown = "\n".join(f"  {name:<11} {text}" for name, text in rows)
    return f"\ndocker-job is ready\n\n{shown}\n\n  Ctrl-C stops it.\n"


def _command_line(address: str) -> list[str]:
    """Return a first call of the command that `make run` installs, if it is installed."""
    path = Path(sys.executable).with_name("docker-job")
    if not path.exists():
        return []
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    command = shlex.join([str(shown), *(() if address == USUAL else ("--url", address))])
    return [f"{command} run python:3.13-slim python -V"]


def _compute(url: str) -> str:
    scheme, _, rest = url.partition("://")
    texts = {
        "sim": "simulator: instances and containers are simulated",
        "docker": "docker: an instance is a container of this machine's engine",
        "ec2": f"ec2: instances are bought in {rest}",
    }
    return texts.get(scheme, "process: an instance is a process on this machine")


async def _containers(compute_url: str, runtime: str) -> str:
    simulated = "simulated: {}, jobs only print what they would have run"
    if compute_url.startswith("sim:"):
        return simulated.format("the simulator runs none")
    if compute_url.startswith("ec2:"):
        return "docker, on the instance"
    if runtime == "simulated":
        return simulated.format("DOCKER_JOB_RUNTIME is simulated")
    version = await engine_version()
    if version is None:
        return simulated.format("no Docker engine answers")
    return f"docker {version}"


async def engine_version() -> str | None:
    """Return the version of the Docker engine that answers here, or None."""
    if shutil.which("docker") is None:
        return None
    process = await asyncio.create_subprocess_exec(
        "docker",
        "version",
        "--format",
        "{{.Server.Version}}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(ENGINE_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return out.decode().strip() or None if process.returncode == 0 else None
