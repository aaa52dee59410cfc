"""The places of each service's letters, reached with the service's own login.

in containers   DOCKER_JOB_SECRETS_DIR holds each service's secrets (as the migration wrote them),
                or DOCKER_JOB_<SERVICE>_DATABASE_PASSWORD and …_BUS_PASSWORD give them
on one machine  otherwise: the data directory of `make run`, running or not
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from embedded.data_dir import refuse_without
from embedded.database import borrowed_database, refuse_no_database
from embedded.secrets import FILE, local_secrets
from operations.migrate import service_dsn
from operations.service_secrets import known_secret
from shared.clock import RealClock
from shared.postgres.pool import Database, is_not_ours, open_database
from shared.settings import BadSetting, Settings
from shared.url import with_login

RABBITMQ = ("amqp", "amqps")


@dataclass(frozen=True)
class Mailbox:
    """One service's parked rows and, where the bus is RabbitMQ, its dead queue.

    *db* is the error if the database refuses the service's login.
    """

    service: str
    db: Database | Exception
    bus_url: str | None


@contextlib.asynccontextmanager
async def opened(settings: Settings, names: Sequence[str]) -> AsyncIterator[list[Mailbox]]:
    """Open the mailboxes of *names*.

    Raises `DataDirError` if docker-job has never run here, `BadSetting`, `EmbeddedPostgresError`,
    and asyncpg's error if the database is unavailable.
    """
    async with contextlib.AsyncExitStack() as stack:
        if _in_containers(settings, names):
            logins = [_container_login(settings, name) for name in names]
        else:
            logins = await _local_logins(settings, names, stack)
        boxes = []
        for name, dsn, bus_url in logins:
            db = await _open(dsn, name)
            if isinstance(db, Database):
                stack.push_async_callback(db.close)
            rabbitmq = bus_url is not None and urlsplit(bus_url).scheme in RABBITMQ
            boxes.append(Mailbox(name, db, bus_url if rabbitmq else None))
        yield boxes


async def _open(dsn: str, name: str) -> Database | Exception:
    try:
        return await open_database(dsn, name, RealClock(), connections=1)
    except Exception as error:
        if not is_not_ours(error):
            raise
        return error  # the others may accept their logins


Login = tuple[str, str, str | None]
"""Service, DSN, address of the bus."""


def _in_containers(settings: Settings, names: Sequence[str]) -> bool:
    return bool(_secrets_dir(settings)) or any(
        settings.text(f"{name.upper()}_DATABASE_PASSWORD") for name in names
    )


def _secrets_dir(settings: Settings) -> Path | None:
    directory = settings.text("SECRETS_DIR")
    return Path(directory) if directory else None


def _container_login(settings: Settings, name: str) -> Login:
    example = "postgresql://localhost/docker_job"
    dsn = _with_secret(settings, settings.required("DATABASE_URL", example), name, "database")
    bus_url = settings.text("BUS_URL")
    return name, dsn, _with_secret(settings, bus_url, name, "bus") if bus_url else None


def _with_secret(settings: Settings, url: str, name: str, what: str) -> str:
    directory = _secrets_dir(settings)
    try:
        secret = known_secret(settings, directory, name, f"{what}_password")
    except OSError as error:
        raise BadSetting(
            f"the {what} password of {name} cannot be read: {error.filename}: {error.strerror}"
        ) from error
    if secret is None:
        raise BadSetting(
            f"the {what} password of {name} is not known: has the migration run? Set "
            f"DOCKER_JOB_SECRETS_DIR, or DOCKER_JOB_{name.upper()}_{what.upper()}_PASSWORD"
        )
    return with_login(url, name, secret)


def _data_dir(settings: Settings) -> Path:
    return Path(settings.text("DATA_DIR", ".data")).absolute()


async def _local_logins(
    settings: Settings, names: Sequence[str], stack: contextlib.AsyncExitStack
) -> list[Login]:
    data_dir, admin_dsn = _data_dir(settings), settings.text("DATABASE_URL")
    if not admin_dsn:
        refuse_no_database(data_dir)
    refuse_without(data_dir, data_dir / FILE, FILE)  # reading creates nothing
    passwords = local_secrets(data_dir, tuple(names)).passwords
    if not admin_dsn:
        admin_dsn = await stack.enter_async_context(borrowed_database(data_dir))
    bus_url = settings.text("BUS_URL")
    return [(name, service_dsn(admin_dsn, name, passwords[name]), bus_url) for name in names]
