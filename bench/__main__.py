"""The command: python -m bench [--only accept,due] [--runs N] [--quick] [--help]."""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import uvloop

from bench import accept, bloat, due, growth, life, lists, machine, peer, reads, resting
from bench.baseline import Baseline, NoBaseline, checked_out, compile_all
from bench.keep import Kept
from bench.run import Run
from bench.servers import Missing, open_servers
from bench.system import OURS

PARTS: Mapping[str, Callable[[Run], Awaitable[None]]] = {
    "accept": accept.measure,
    "due": due.measure,
    "life": life.measure,
    "reads": reads.measure,
    "growth": growth.measure,
    "lists": lists.measure,
    "bloat": bloat.measure,
    "memory": resting.measure,
}
RUNS = 5
BASELINE = "252b588"
"""The last commit at which a message was one event."""
NO_BASELINE = "none"


def arguments_from(given: list[str]) -> argparse.Namespace:
    """Parse the command line. Exits with a message for a wrong argument."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure docker-job.")
    names = ",".join(PARTS)
    parser.add_argument("--only", default=names, help=f"some of {names}")
    parser.add_argument("--runs", type=int, help=f"number of runs ({RUNS})")
    parser.add_argument("--quick", action="store_true", help="one small run, for development")
    parser.add_argument(
        "--peer", choices=peer.NAMES, help="compare `due` with it; needs Node and npm"
    )
    parser.add_argument(
        "--baseline", help=f"the commit to compare `life` with ({BASELINE}), or {NO_BASELINE}"
    )
    parser.add_argument("--out", type=Path, help="the results' file (.json)")
    arguments = parser.parse_args(given)
    arguments.only = [name for name in PARTS if name in (only := arguments.only.split(","))]
    if unknown := set(only) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: choose from {names}")
    if arguments.runs is None:
        arguments.runs = 1 if arguments.quick else RUNS
    if arguments.runs < 1:
        parser.error("--runs: at least 1")
    return arguments


def _baseline(arguments: argparse.Namespace, stack: contextlib.AsyncExitStack) -> Baseline | None:
    """Check out the given baseline, or the default one if possible. Raises `NoBaseline`."""
    if "life" not in arguments.only or arguments.baseline == NO_BASELINE:
        return None
    try:
        found = stack.enter_context(checked_out(arguments.baseline or BASELINE, OURS))
    except NoBaseline as error:
        if arguments.baseline:
            raise
        print(f"bench: no baseline: {error}", file=sys.stderr)
        return None
    if not found.same_packages:
        print(f"bench: {found.commit} requires other packages than the installed", file=sys.stderr)
    return found


async def _measure(arguments: argparse.Namespace, kept: Kept) -> None:
    measuring = asyncio.current_task()
    if measuring is not None:  # so that no server stays behind
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    async with contextlib.AsyncExitStack() as stack:
        compile_all(OURS)
        baseline = _baseline(arguments, stack)
        beside = None
        if arguments.peer and "due" in arguments.only:
            beside = await stack.enter_async_context(peer.installed(arguments.peer))
        servers = await stack.enter_async_context(open_servers())
        kept.versions |= servers.versions | (beside.versions if beside else {})
        for number in range(1, arguments.runs + 1):
            run = Run(servers, arguments.quick, number, baseline, beside)
            load = machine.load()
            for name in arguments.only:
                await PARTS[name](run)
            kept.add(run, load)  # at once, so that a later failure does not lose it


def main() -> int:
    """Run the measurements; return the exit status. A missed goal is not an error."""
    arguments = arguments_from(sys.argv[1:])
    machine.warn_if_busy()
    whole = len(arguments.only) == len(PARTS) and not arguments.quick
    kept = Kept.begun(arguments.out, quick=arguments.quick, whole=whole)
    begun = time.monotonic()
    try:
        uvloop.run(_measure(arguments, kept))
    except (Missing, NoBaseline) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    finally:  # completed runs are reported in any case
        if kept.runs:
            print(f"{kept.report()}\n\n{time.monotonic() - begun:.0f} s; results in {kept.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
