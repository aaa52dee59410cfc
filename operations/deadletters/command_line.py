"""The command line: its arguments, and the letters that they select."""

import argparse
import uuid

from operations.wiring import SERVICES
from shared.events.letters import LetterState
from shared.messaging.dead_letters import STATES, LetterFilter

NAMES = tuple(service.NAME for service in SERVICES)

DESCRIPTION = """\
Events that have not taken effect, in all four services.

A handler that fails has its event parked: `waiting` is retried automatically, `dead` is not (it
failed too often, or cannot be read). With RabbitMQ, `broker` letters are those that ended their
readers again and again; they are in the queue <service>.dead.
"""

EPILOG = """\
  python -m operations.deadletters list --service launcher
  python -m operations.deadletters show 3f2b7c9e-…
  python -m operations.deadletters redrive 3f2b7c9e-…
  python -m operations.deadletters drop --all --service launcher --event LaunchDelayed

under compose: docker compose run --rm deadletters list

exit status: 0 done, 1 no letter has an id, 2 wrong arguments, 69 not every place could be read
(database or broker unavailable, schema missing), 78 a setting is missing or wrong, or there is no
data directory
"""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m operations.deadletters",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all dead letters, the oldest first")
    listing.add_argument("--limit", type=_positive, default=100, help="per service (default: 100)")
    show = commands.add_parser("show", help="everything about one event, with its content")
    redrive = commands.add_parser(
        "redrive", help="pass events to their handlers again, now, with all their tries"
    )
    drop = commands.add_parser("drop", help="delete events: they never take effect")
    for command in (listing, show, redrive, drop):
        command.add_argument("--service", choices=NAMES, help="of this service alone")
    for command in (listing, redrive, drop):
        command.add_argument("--event", metavar="NAME", help="of this name alone")
        command.add_argument("--state", choices=STATES, help="in this state alone")
    show.add_argument("ids", nargs="+", type=_event_id, metavar="ID", help="as `list` shows it")
    for command in (redrive, drop):
        command.add_argument(
            "ids", nargs="*", type=_event_id, metavar="ID", help="as `list` shows it"
        )
    redrive.add_argument("--all", action="store_true", help="all dead ones that fit the filters")
    drop.add_argument(
        "--all", action="store_true", help="all dead ones of --service that fit the filters"
    )
    return top


def parse(argv: list[str]) -> argparse.Namespace:
    """Read the arguments; end the process with status 2 and a message if they are wrong."""
    top = parser()
    arguments = top.parse_args(argv)
    if arguments.command in ("redrive", "drop") and bool(arguments.ids) == arguments.all:
        top.error(f"{arguments.command}: name the ids, or use --all")
    if arguments.command == "drop" and arguments.all and arguments.service is None:
        top.error("drop --all: name the --service")
    return arguments


def which(arguments: argparse.Namespace) -> LetterFilter:
    """Return the selection. `--all` selects the dead: waiting ones are retried anyway."""
    states: tuple[LetterState, ...] = ("dead",) if getattr(arguments, "all", False) else STATES
    state: LetterState | None = getattr(arguments, "state", None)
    ids: list[str] = getattr(arguments, "ids", [])
    return LetterFilter(
        states=(state,) if state else states,
        name=getattr(arguments, "event", None),
        event_ids=tuple(dict.fromkeys(ids)) or None,
    )


def _event_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an event id") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)
