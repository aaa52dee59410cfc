"""The database and the broker of the services."""

import asyncio
import contextlib
from urllib.parse import urlsplit

from operations.doctor.installation import Installation
from shared.findings import Finding, FindingGroup
from shared.settings import Settings

GROUP = "database and broker"
CONNECT_SECONDS = 5.0
PORTS = {"postgres": 5432, "postgresql": 5432, "amqp": 5672, "amqps": 5671}


async def stores(settings: Settings, installation: Installation) -> list[Finding]:
    """Check that both are reached; logins are checked by the services at their start."""
    found = FindingGroup(GROUP)
    if installation.is_embedded:
        text = f"part of `make run`, in {installation.data_dir}"
        found.add("ok", "database", text)
        return found.all
    for name, variable in (("database", "DATABASE_URL"), ("broker", "BUS_URL")):
        await _check(found, name, variable, settings.text(variable) or "")
    return found.all


async def _check(found: FindingGroup, name: str, variable: str, url: str) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname, parts.port or PORTS.get(parts.scheme)
    if parts.scheme == "memory":
        found.add("ok", name, "in memory")
        return
    if not host or port is None:
        do = f"set DOCKER_JOB_{variable} to its address"
        found.add("fail", name, f"DOCKER_JOB_{variable} names no host", do)
        return
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        do = f"start it, or mend DOCKER_JOB_{variable} and the way to it"
        found.add("fail", name, f"{host}:{port} does not answer: {type(error).__name__}", do)
        return
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    found.add("ok", name, f"{host}:{port} answers")
