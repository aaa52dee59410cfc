"""The routes over which `serve.py` offers a virtual cloud to other processes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from shared.compute.port import ComputeError, Instance
from shared.compute.simulator import wire
from shared.compute.simulator.adapter import SimulatorCompute
from shared.compute.simulator.cloud import VirtualCloud

T = TypeVar("T")

BODY_BYTES = 16 * 1024 * 1024


class CloudServer:
    """The routes of one virtual cloud."""

    def __init__(self, cloud: VirtualCloud) -> None:
        self._cloud = cloud

    def app(self) -> web.Application:
        """The application; whoever runs it closes the cloud."""
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_post("/launch", _route(wire.Launches, self._launch))
        app.router.add_post("/terminate", _route(wire.Ids, self._terminate))
        app.router.add_post("/describe", _route(wire.Ids, self._describe))
        app.router.add_post("/list", _route(wire.ListRequest, self._list))
        app.router.add_get("/truth", self._truth)
        return app

    def _view(self, deployment: str) -> SimulatorCompute:
        return SimulatorCompute(self._cloud, deployment, owns_cloud=False)

    async def _launch(self, body: wire.Launches) -> Sequence[wire.CloudAnswer]:
        answers = await self._view(body.deployment).launch(body.batch)
        return [
            wire.CloudAnswer(refusal=wire.Refusal.of(each))
            if isinstance(each, ComputeError)
            else wire.CloudAnswer(instance=each)
            for each in answers
        ]

    async def _terminate(self, body: wire.Ids) -> Sequence[str]:
        self._cloud.terminate(body.instance_ids)
        return []

    async def _describe(self, body: wire.Ids) -> Sequence[Instance]:
        return self._cloud.describe(body.instance_ids)

    async def _list(self, body: wire.ListRequest) -> Sequence[Instance]:
        return self._cloud.list_instances(body.deployment)

    async def _truth(self, _: web.Request) -> web.Response:
        tokens = self._cloud.truth.instances_by_token
        truth = wire.Truth(
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
            return _answer(wire.Refusal("Rejected", str(error)), 400)
        try:
            return _answer(await act(body))
        except ComputeError as error:
            return _answer(wire.Refusal.of(error), 503)

    return handle


def _answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=wire.encode(body), status=status, content_type="application/json")
