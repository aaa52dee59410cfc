"""A virtual cloud as a process of its own, shared by services in other processes.

    python -m shared.compute.simulator.serve 'sim://0.0.0.0:7000?seed=7&boot_seconds=1'

It outlives launcher and reaper as a real cloud does, and ends with its own process. It checks no
credentials: it is for tests and for trying out.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import uvloop
from aiohttp import web
from msgspec import Struct

from shared.clock import RealClock
from shared.compute.port import ComputeError, Instance, PricedOffers
from shared.compute.simulator.adapter import (
    CloudAnswer,
    CloudAnswerById,
    IdsBody,
    LaunchBody,
    ListBody,
    Refusal,
    SimulatorCompute,
)
from shared.compute.simulator.cloud import VirtualCloud
from shared.compute.simulator.faults import faults_of
from shared.log import configure, get_logger
from shared.settings import EXIT_SETTING
from shared.signals import stop_on_signals
from shared.terminal import print_line

T = TypeVar("T")

BODY_BYTES = 16 * 1024 * 1024


class Truth(Struct, frozen=True):
    """The answer of `GET /truth`: counts over all that the cloud has launched."""

    launched: int
    """Instances in all."""
    living: int
    doubled: int
    """Launch tokens that gave more than one instance."""
    overlapping: int
    """Containers that started while another one of their job ran."""


class CloudServer:
    """The routes of one virtual cloud."""

    def __init__(self, cloud: VirtualCloud) -> None:
        self._cloud = cloud

    def app(self) -> web.Application:
        """Return the application; its caller closes the cloud."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post("/launch", _route(LaunchBody, self._launch))
        app.router.add_post("/terminate", _route(IdsBody, self._terminate))
        app.router.add_post("/describe", _route(IdsBody, self._describe))
        app.router.add_post("/confirm", _route(IdsBody, self._confirm))
        app.router.add_post("/list", _route(ListBody, self._list))
        app.router.add_post("/offers", _route(ListBody, self._offers))
        app.router.add_get("/truth", self._truth)
        return app

    async def _launch(self, body: LaunchBody) -> Sequence[CloudAnswer]:
        view = SimulatorCompute(self._cloud, body.deployment, owns_cloud=False)
        return [
            CloudAnswer(refusal=Refusal.of(each))
            if isinstance(each, ComputeError)
            else CloudAnswer(instance=each)
            for each in await view.launch(body.batch)
        ]

    async def _terminate(self, body: IdsBody) -> Sequence[str]:
        self._cloud.terminate(body.instance_ids)
        return []

    async def _describe(self, body: IdsBody) -> Sequence[Instance]:
        return self._cloud.describe(body.instance_ids)

    async def _confirm(self, body: IdsBody) -> Sequence[CloudAnswerById]:
        view = SimulatorCompute(self._cloud, "", owns_cloud=False)
        found = await view.confirm(body.instance_ids)
        return [CloudAnswerById.of(each, answer) for each, answer in found.items()]

    async def _list(self, body: ListBody) -> Sequence[Instance]:
        return self._cloud.list_instances(body.deployment)

    async def _offers(self, _: ListBody) -> PricedOffers:
        return self._cloud.offers()

    async def _truth(self, _: web.Request) -> web.Response:
        tokens = self._cloud.truth.instances_by_token
        truth = Truth(
            launched=tokens.total(),
            living=self._cloud.living,
            doubled=sum(count > 1 for count in tokens.values()),
            overlapping=len(self._cloud.truth.overlaps()),
        )
        return _answer(truth)


def _route(
    kind: type[T], act: Callable[[T], Awaitable[object]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            return _answer(Refusal("Rejected", str(error)), 400)
        try:
            return _answer(await act(body))
        except ComputeError as error:
            return _answer(Refusal.of(error), 503)

    return handle


def _answer(body: object, status: int = 200) -> web.Response:
    encoded = msgspec.json.encode(body)
    return web.Response(body=encoded, status=status, content_type="application/json")


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
        print_line(f"docker-job cloud: {error}", error=True)
        return EXIT_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
