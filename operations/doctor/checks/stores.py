"""The database and the broker, with the login of a service."""

import asyncio
from urllib.parse import urlsplit

from operations.doctor.installation import Installation
from shared.adapters import open_bus
from shared.clock import RealClock
from shared.findings import Finding, FindingGroup
from shared.log import mask
from shared.postgres.errors import trouble_of
from shared.postgres.pool import open_database
from shared.runtime.process import database_login, login
from shared.settings import BadSetting, Settings

GROUP = "database and broker"
SECONDS = 15.0


async def stores(settings: Settings, installation: Installation, role: str) -> list[Finding]:
    """Check that both take the login of *role* ("all": the launcher's), and have what it needs.

    Raises `BadSetting`.
    """
    found = FindingGroup(GROUP)
    if installation.is_embedded:
        text = f"part of `make run`, in {installation.data_dir}"
        found.add("ok", "database", text)
        return found.all
    service = "launcher" if role == "all" else role
    await _check_database(found, database_login(settings, service), service)
    await _check_broker(found, login(settings, service, "BUS", "amqp://localhost"), service)
    return found.all


async def _check_database(found: FindingGroup, dsn: str, service: str) -> None:
    """Log in, and look whether the service's schema is there and takes writes.

    Raises `BadSetting` for an address that is none.
    """
    place = _place(dsn)
    try:
        async with asyncio.timeout(SECONDS):
            db = await open_database(dsn, service, RealClock(), connections=1)
            try:
                trouble = await db.trouble()
            finally:
                await db.close()
    except BadSetting as error:  # a pooler that does not fit
        trouble = str(error)
    except ValueError as error:
        raise BadSetting(f"DOCKER_JOB_DATABASE_URL: {mask(str(error))}") from None
    except Exception as error:  # noqa: BLE001 - whatever it is, the database cannot be used
        trouble = trouble_of(error)
    do = "start or migrate it, or mend DOCKER_JOB_DATABASE_URL and its password"
    if trouble is not None:
        found.add("fail", "database", f"{place} {trouble}", do)
    else:
        found.add("ok", "database", f"{place} takes the {service}'s login, and has its schema")


async def _check_broker(found: FindingGroup, url: str, service: str) -> None:
    """Log in, and look whether the service's queue is there. Raises `BadSetting`."""
    bus = open_bus(url, {service: ()})
    parts = urlsplit(url)
    if parts.scheme != "memory" and not parts.hostname:
        raise BadSetting("DOCKER_JOB_BUS_URL names no host: it must be like amqp://localhost")
    try:
        async with asyncio.timeout(SECONDS):
            state = await bus.state([service])
    finally:
        await bus.close()
    do = "start it, or mend DOCKER_JOB_BUS_URL, its password and the way to it"
    if state.trouble is not None:
        found.add("fail", "broker", f"{_place(url)}: {state.trouble}", do)
    elif state.missing:
        do = "run the migration, which declares it"
        found.add("fail", "broker", f"{_place(url)} has no queue {service!r}", do)
    else:
        found.add("ok", "broker", f"{_place(url)} takes the {service}'s login, and has its queue")


def _place(url: str) -> str:
    """Return the address without the login."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return "the memory"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or parts.scheme}{port}"
