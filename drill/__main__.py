"""`make drill`: play outages on a compose deployment with running jobs.

Exit status 0 if nothing was lost, run twice or left over.
"""

import argparse
import os
import signal
import sys

from drill.docker import CommandFailed, docker
from drill.outages import NAMES, OUTAGES
from drill.plan import LONG, SHORT
from drill.run import Drill
from drill.table import LEGEND, format_notes, format_table
from drill.terminal import print_line

FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m drill",
        description=__doc__,
        epilog=f"Outages: {', '.join(NAMES)}.",
    )
    parser.add_argument(
        "--short", action="store_true", help="all outages, shortened by shortened settings"
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help="this outage (repeatable)"
    )
    parser.add_argument(
        "--jobs", type=_at_least_three, help=f"running jobs ({LONG.jobs}, short {SHORT.jobs})"
    )
    parser.add_argument("--name", help="the compose project's name, if it matters")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    options = read_options(arguments)
    os.umask(0o077)  # the logs that it keeps
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        docker("compose", "version")
        docker("version")
    except CommandFailed as error:
        print_line(f"The drill needs a Docker engine with compose: {error}", error=True)
        return UNUSABLE
    form = SHORT if options.short else LONG
    chosen = [each for each in OUTAGES if not options.only or each.name in options.only]
    drill = Drill(form, options.jobs or form.jobs, print_line, name=options.name)
    interrupted = False
    try:
        drill.run(chosen, short=options.short)
    except KeyboardInterrupt:
        interrupted = True
    if drill.rows:
        print_line(f"\n{format_table(drill.rows)}\n\n{LEGEND}")
    problems = list(filter(None, [format_notes(drill.rows), *drill.problems]))
    if problems:
        print_line("\nNot as it should be:\n" + "\n".join(problems))
    if interrupted:
        print_line("\nInterrupted.", error=True)
        return INTERRUPTED
    good = not problems and all(row.figures.good for row in drill.rows)
    return 0 if good else FAILED


def _at_least_three(text: str) -> int:
    number = int(text)
    if number < 3:
        raise argparse.ArgumentTypeError("must be at least 3: one job of each kind")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
