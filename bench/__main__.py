"""The command: python -m bench [--only accept,due] [--quick] [--out FILE]."""

import argparse
import asyncio
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import uvloop

from bench import accept, due, life, reads, report, resting
from bench.picture import lateness_svg
from bench.run import Run
from bench.servers import Missing, open_servers

PARTS: Mapping[str, Callable[[Run], Awaitable[None]]] = {
    "accept": accept.measure,
    "due": due.measure,
    "life": life.measure,
    "reads": reads.measure,
    "memory": resting.measure,
}
RESULTS = Path(__file__).parent / "results"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure, and say so.")
    names = ",".join(PARTS)
    parser.add_argument("--only", default=names, help=f"some of {names}")
    parser.add_argument("--quick", action="store_true", help="small, for a look while working")
    parser.add_argument("--out", type=Path, help="where the results go, a .json file")
    arguments = parser.parse_args()
    arguments.only = arguments.only.split(",")
    if unknown := set(arguments.only) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}: take some of {names}")
    return arguments


async def _measure(only: list[str], *, quick: bool) -> Run:
    measuring = asyncio.current_task()
    if measuring is not None:  # so that no server stays behind
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, measuring.cancel)
    async with open_servers() as servers:
        run = Run(servers, quick)
        for name, measure in PARTS.items():
            if name in only:
                await measure(run)
        return run


def _machine() -> dict[str, object]:
    return {
        "processors": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def _commit() -> str:
    """What was measured, where this is a checkout."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip()


def _keep(run: Run, out: Path, machine: dict[str, object], seconds: float) -> None:
    kept = {
        "at": datetime.now(UTC),
        "commit": _commit(),
        "quick": run.quick,
        "seconds": round(seconds),
        "machine": machine,
        "servers": run.servers.versions,
        "figures": report.as_json(run.figures),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    if run.lateness:
        title = "Jobs due at one moment: which share the launcher had after how long"
        out.with_suffix(".svg").write_text(lateness_svg(run.lateness, title), encoding="utf-8")


def main() -> int:
    """Run, and return the exit status. A missed goal is no failure: the report says it."""
    arguments = _arguments()
    machine = _machine()
    begun = time.monotonic()
    try:
        run = uvloop.run(_measure(arguments.only, quick=arguments.quick))
    except Missing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    seconds = time.monotonic() - begun
    whole = len(arguments.only) == len(PARTS) and not arguments.quick
    name = f"{datetime.now(UTC):%Y-%m-%d}{'' if whole else '-partial'}.json"
    out = arguments.out or RESULTS / name
    _keep(run, out, machine, seconds)
    print(f"{report.table(run.figures)}\n\n{seconds:.0f} s; kept in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
