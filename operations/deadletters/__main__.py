"""`python -m operations.deadletters list | show | redrive | drop`."""

import argparse
import asyncio
import os
import sys

from embedded.data_dir import DataDirError
from embedded.postgres import EmbeddedPostgresError
from operations.deadletters import command_line
from operations.deadletters.commands import AWAY, DeadLetterService, Say
from operations.deadletters.mailboxes import opened
from shared.crash_points import points_from
from shared.log import configure, get_logger, mask
from shared.postgres.pool import is_transient
from shared.runtime.process import EXIT_CRASH
from shared.settings import EXIT_SETTING, BadSetting, Settings


async def run(settings: Settings, arguments: argparse.Namespace, say: Say, warn: Say) -> int:
    """Run a command; returns the exit status."""
    names = command_line.NAMES if arguments.service is None else (arguments.service,)
    which = command_line.which(arguments)
    async with opened(settings, names) as boxes:
        desk = DeadLetterService(boxes, points_from(settings.text("EXIT_AT")), say, warn)
        match arguments.command:
            case "list":
                return await desk.list_letters(which, arguments.limit)
            case "show":
                return await desk.show(which)
            case "redrive":
                return await desk.redrive(which)
            case _:
                return await desk.drop(which)


def main() -> int:
    """The command line; returns the exit status."""
    arguments = command_line.parse(sys.argv[1:])
    configure("warning")
    try:
        return asyncio.run(run(Settings(os.environ), arguments, _say, _warn))
    except (BadSetting, DataDirError, EmbeddedPostgresError) as error:
        _warn(str(error))
        return EXIT_SETTING
    except BrokenPipeError:  # `… list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence
        if is_transient(error):
            _warn(f"the database is out of reach: {mask(str(error)) or type(error).__name__}")
            return AWAY
        get_logger().critical("deadletters stops", exc_info=error)
        return EXIT_CRASH


def _say(text: str) -> None:
    print(text)  # noqa: T201 - for a person


def _warn(text: str) -> None:
    print(f"docker-job deadletters: {text}", file=sys.stderr)  # noqa: T201 - for a person


if __name__ == "__main__":
    sys.exit(main())
