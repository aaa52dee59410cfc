"""A virtual cloud as a process of its own, which services in processes of their own share.

    python -m shared.compute.simulator.serve 'sim://0.0.0.0:7000?seed=7&boot_seconds=1'

It outlives launcher and reaper as a real cloud does, and dies with its own process as the simulator
always does. Whoever reaches it may do anything: it is for tests and for trying out.
"""

import sys
from urllib.parse import urlsplit

import uvloop
from aiohttp import web

from shared.clock import RealClock
from shared.compute.simulator.cloud import VirtualCloud
from shared.compute.simulator.faults import faults_of
from shared.compute.simulator.server import CloudServer
from shared.log import configure, get_logger
from shared.settings import EXIT_SETTING
from shared.signals import stop_on_signals


async def serve(url: str) -> None:
    """Serve the cloud of a `sim://host:port?…` URL until a signal comes. Raises ValueError."""
    where = urlsplit(url)
    if where.scheme != "sim" or not where.hostname or not where.port:
        message = f"{url!r}: it must be sim://host:port?…"
        raise ValueError(message)
    cloud = VirtualCloud(RealClock(), faults_of(url))
    runner = web.AppRunner(CloudServer(cloud).app(), access_log=None)
    stop = stop_on_signals()
    try:
        await runner.setup()
        await web.TCPSite(runner, where.hostname, where.port).start()
        get_logger(part="cloud").info("cloud is served", host=where.hostname, port=where.port)
        await stop.wait()
    finally:
        await runner.cleanup()
        await cloud.close()


def main() -> int:
    """Run, and return the exit status."""
    configure()
    try:
        uvloop.run(serve(sys.argv[1] if len(sys.argv) > 1 else ""))
    except (ValueError, OSError) as error:
        print(f"docker-job cloud: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return EXIT_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
