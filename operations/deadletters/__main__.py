"""`python -m operations.deadletters list | show | redrive | drop`."""

import argparse
import asyncio
import os
import sys

from embedded.data_dir import DataDirError
from embedded.postgres import EmbeddedPostgresError
from operations.deadletters import command_line
from operations.deadletters.commands import UNAVAILABLE, DeadLetterService, Print
from operations.deadletters.mailboxes import opened
from shared.crash_points import points_from
from shared.log import configure, get_logger, mask
from shared.postgres.pool import is_transient
from shared.runtime.process import EXIT_CRASH
from shared.settings import EXIT_SETTING, BadSetting, Settings
from shared.terminal import print_line


async def run(settings: Settings, arguments: argparse.Namespace, out: Print, warn: Print) -> int:
    """Run a command; return the exit status."""
    names = command_line.NAMES if arguments.service is None else (arguments.service,)
    which = command_line.which(arguments)
    async with opened(settings, names) as boxes:
        letters = DeadLetterService(boxes, points_from(settings.text("EXIT_AT")), out, warn)
        match arguments.command:
            case "list":
                return await letters.list_letters(which, arguments.limit)
            case "show":
                return await letters.show(which)
            case "redrive":
                return await letters.redrive(which)
            case _:
                return await letters.drop(which)


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = command_line.parse(sys.argv[1:])
    configure("warning")
    try:
        return asyncio.run(run(Settings(os.environ), arguments, _out, _warn))
    except (BadSetting, DataDirError, EmbeddedPostgresError) as error:
        _warn(str(error))
        return EXIT_SETTING
    except BrokenPipeError:  # `… list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - any other error is logged
        if is_transient(error):
            _warn(f"the database is unavailable: {mask(str(error)) or type(error).__name__}")
            return UNAVAILABLE
        get_logger().critical("deadletters stops", exc_info=error)
        return EXIT_CRASH


def _out(text: str) -> None:
    print_line(text)


def _warn(text: str) -> None:
    print_line(f"docker-job deadletters: {text}", error=True)


if __name__ == "__main__":
    sys.exit(main())
