"""The one-shot migration, with the admins' logins, before any service starts.

Schemas, roles, grants and DDL in Postgres; exchange, queues and users on the broker; the services'
secrets if a directory for them is named (`service_secrets`). It may be run any number of times.
"""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from operations.lost_events import resend_to
from operations.service_secrets import make_secrets_key, passwords, share_token_key
from operations.wiring import PUBLISHES, SERVICES, TOPOLOGY
from shared.backoff import RECONNECT
from shared.bus.rabbitmq.connection import TopologyError
from shared.bus.rabbitmq.topology import declare
from shared.log import configure, get_logger
from shared.postgres.migrations import MESSAGING_SQL, MigrationError, Schema, migrate
from shared.postgres.pool import is_not_ours, is_transient
from shared.runtime.process import EXIT_CRASH, login
from shared.settings import EXIT_SETTING, BadSetting, Settings
from shared.terminal import print_line
from shared.url import with_login

_log = get_logger(service="migrate")

WAIT_TRIES = 18
"""With `RECONNECT`, about a minute."""

_SERVICES = Path(__file__).resolve().parent.parent / "services"


def schemas(by_service: dict[str, str]) -> list[Schema]:
    """Build each service's schema; the passwords are *by_service* name."""
    return [
        Schema(
            name=service.NAME,
            password=by_service[service.NAME],
            directories={"shared": MESSAGING_SQL, service.NAME: _SERVICES / service.NAME / "sql"},
        )
        for service in SERVICES
    ]


async def migrate_all(admin_dsn: str, by_service: dict[str, str]) -> list[str]:
    """Migrate every service's schema; return what was applied. *by_service* are the passwords."""
    return await migrate(admin_dsn, schemas(by_service))


def service_dsn(admin_dsn: str, name: str, password: str) -> str:
    """Return *admin_dsn* with the login role of service *name*."""
    return with_login(admin_dsn, name, password)


async def run(settings: Settings) -> None:
    """Migrate database and broker. Raises `BadSetting`, `MigrationError`, `TopologyError`."""
    directory = settings.text("SECRETS_DIR")
    secrets_dir = Path(directory) if directory else None
    names = tuple(service.NAME for service in SERVICES)
    share_token_key(settings, secrets_dir)
    make_secrets_key(settings, secrets_dir)
    admin = settings.text("DATABASE_USER", "postgres")
    dsn = login(settings, admin, "DATABASE", "postgresql://localhost/docker_job")
    kept = passwords(settings, secrets_dir, names, "database_password")
    for line in await _patiently(dsn, kept):
        _log.info("applied", migration=line)
    bus_admin = settings.text("BUS_USER", "docker-job")
    management = settings.text("BUS_MANAGEMENT_URL")
    await declare(
        login(settings, bus_admin, "BUS", "amqp://localhost"),
        with_login(management, bus_admin, settings.text("BUS_PASSWORD", ""))
        if management
        else None,
        TOPOLOGY,
        PUBLISHES,
        passwords(settings, secrets_dir, names, "bus_password"),
        lambda queues: _resend(dsn, queues),
    )
    _log.info("migrated")


async def _resend(dsn: str, queues: Sequence[str]) -> None:
    """Let the events of queues that were missing be published again."""
    messages = await resend_to(dsn, queues)
    _log.warning(
        "queues were missing and are declared; the last day's events that their readers have not "
        "consumed are published again",
        queues=list(queues),
        messages=messages,
    )


async def _patiently(dsn: str, kept: dict[str, str]) -> list[str]:
    """Migrate the database, waiting up to a minute for one that is not ready yet."""
    for tries in range(1, WAIT_TRIES):
        try:
            return await migrate_all(dsn, kept)
        except Exception as error:
            if not is_transient(error) or is_not_ours(error):  # waiting does not correct a login
                raise
            _log.warning("waiting for the database", error=str(error))
            await asyncio.sleep(RECONNECT.delay(tries, random.random()))
    return await migrate_all(dsn, kept)


def main() -> int:
    """Run, and return the exit status."""
    configure()
    try:
        asyncio.run(run(Settings(os.environ)))
    except (BadSetting, MigrationError, TopologyError) as error:
        print_line(f"docker-job migrate: {error}", error=True)
        return EXIT_SETTING
    except Exception as error:  # noqa: BLE001 - any other error is logged
        _log.critical("migration failed", exc_info=error)
        return EXIT_CRASH
    return 0


if __name__ == "__main__":
    sys.exit(main())
