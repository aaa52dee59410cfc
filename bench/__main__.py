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

from bench import accept, due, life, machine, peer, reads, resting
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
    "memory": resting.measure,
}
RUNS = 5
BASELINE = "252b588"
"""The last commit at which a message was one event."""
NO_BASELINE = "none"


def arguments_from(given: list[str]) -> argparse.Namespace:
    """What *given* asks for; exits with what is wrong with it."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure, and say so.")
    names = ",".join(PARTS)
    parser.add_argument("--only", default=names, help=f"some of {names}")
    parser.add_argument("--runs", type=int, help=f"how often to measure all of it ({RUNS})")
    parser.add_argument("--quick", action="store_true", help="small and once, while working")
    parser.add_argument("--peer", choices=peer.NAMES, help="beside `due`: it needs Node and npm")
    parser.add_argument(
        "--baseline", help=f"the commit beside `life` ({BASELINE}), or {NO_BASELINE}"
    )
    parser.add_argument("--out", type=Path, help="where the results go, a .json file")
    arguments = parser.parse_args(given)
    arguments.only = [name for name in PARTS if name in (only := arguments.only.split(","))]
    if unknown := set(only) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: take some of {names}")
    if arguments.runs is None:
        arguments.runs = 1 if arguments.quick else RUNS
    if arguments.runs < 1:
        parser.error("--runs: one at least")
    return arguments


def _baseline(arguments: argparse.Namespace, stack: contextlib.AsyncExitStack) -> Baseline | None:
    """The one that was asked for, or the usual one where it can be had. Raises `NoBaseline`."""
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
        print(f"bench: {found.commit} asks for other packages than these", file=sys.stderr)
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
            kept.add(run, load)  # so that a later run's failure takes nothing along


def main() -> int:
    """Run, and return the exit status. A missed goal is no failure: the report says it."""
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
    finally:  # whatever ended it, the whole runs before count
        if kept.runs:
            print(f"{kept.report()}\n\n{time.monotonic() - begun:.0f} s; kept in {kept.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
