"""The migration that the API waits for: it does nothing if this release's schemas are there.

Under compose every command that runs in the API's container starts it again, such as
`docker compose run --rm api keys list`, and such a command must change nothing.
"""

import asyncio
import os
import sys

from operations import migrate, wiring
from shared.log import configure
from shared.postgres.migrations import is_migrated
from shared.postgres.pool import is_transient
from shared.runtime.process import login
from shared.settings import EXIT_SETTING, BadSetting, Settings
from shared.terminal import print_line


async def is_done(settings: Settings) -> bool:
    """Return whether the database has the schemas of this release. Raises `BadSetting`."""
    admin = settings.text("DATABASE_USER", "postgres")
    dsn = login(settings, admin, "DATABASE", "postgresql://localhost/docker_job")
    schemas = migrate.schemas({service.NAME: "" for service in wiring.SERVICES})
    try:
        return await is_migrated(dsn, schemas)
    except Exception as error:
        if not is_transient(error):
            raise
        return False  # the migration waits for the database


def main() -> int:
    """Migrate unless it is done; return the exit status."""
    configure()
    try:
        if asyncio.run(is_done(Settings(os.environ))):
            return 0
    except BadSetting as error:
        print_line(f"docker-job migrate: {error}", error=True)
        return EXIT_SETTING
    return migrate.main()


if __name__ == "__main__":
    sys.exit(main())
