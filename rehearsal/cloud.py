"""The cloud, put together, in a thread of its own with its own event loop.

A cloud is elsewhere: nothing that a program does to its own loop holds it up, and plain boto3 calls
from the thread that started it are answered. Closing it ends all that it started.

    with start_cloud(CloudSettings(seed=7, speed=100)) as cloud:
        ec2 = boto3.client("ec2", **cloud.client_arguments())
        cloud.control.interrupt(instance_id)
"""

import asyncio
import contextlib
import random
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from rehearsal.booting import open_shell
from rehearsal.bridge import Bridge
from rehearsal.buckets import Limits
from rehearsal.calls import Calls, Desks
from rehearsal.control import Control, routes
from rehearsal.credentials import Credential, Keys
from rehearsal.endings import Endings
from rehearsal.faults import Faults
from rehearsal.fleets import Fleets
from rehearsal.front import MOST_BYTES, Front
from rehearsal.later import Later
from rehearsal.launching import Launching
from rehearsal.looks import Looks
from rehearsal.machines import Machines
from rehearsal.metadata import Metadata
from rehearsal.moto_side import MotoSide
from rehearsal.plans import Plans
from rehearsal.pools import Pools
from rehearsal.prices import Prices
from rehearsal.pricing import PriceCalls
from rehearsal.registry import Registry
from rehearsal.runs import Runs
from rehearsal.settings import CloudSettings
from rehearsal.spot import SpotRequests
from rehearsal.tags import TagCalls
from rehearsal.templates import Templates

T = TypeVar("T")
START_SECONDS = 60.0


class Cloud:
    """One account in one region, behind one address. Made and run on its own loop."""

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.account = settings.account or _account()
        loop = asyncio.get_running_loop()
        self.later = Later(settings)
        self.keys = Keys(self.account)
        self.moto = MotoSide(self.account, settings.region)
        self.limits = Limits(settings, loop.time)
        self.faults = Faults(settings.seed)
        self.pools = Pools(settings)
        self.prices = Prices(settings)
        self.spot = SpotRequests()
        self.templates = Templates(self.keys.operator.arn)
        self.bridge = Bridge(self.moto)
        self.registry = Registry()
        self.registry.tell = self.bridge.tell
        self.launching = Launching(
            settings,
            self.account,
            self.later,
            self.pools,
            self.prices,
            self.spot,
            self.registry,
        )
        self.endings = Endings(
            settings,
            self.later,
            self.pools,
            self.limits,
            self.spot,
            self.registry,
            self.launching,
        )
        plans = Plans(self.moto, self.templates)
        fleets = Fleets(
            settings, self.registry, self.launching, plans, self.pools, self.prices, self.limits
        )
        desks = Desks(
            endings=self.endings,
            looks=Looks(self.registry, settings.region),
            fleets=fleets,
            runs=Runs(settings.region, self.registry, self.launching, plans, self.limits),
            spot=self.spot,
            templates=self.templates,
            tags=TagCalls(self.registry, self.spot, self.templates),
            prices=PriceCalls(self.prices, self.moto),
        )
        self.front = Front(
            settings,
            self.keys,
            self.limits,
            self.faults,
            Calls(self.account, desks),
            self.moto,
            _allow_all,
        )
        self.url = ""
        self.port = 0
        self.boots = "none"
        """What instances are: "none", "process" or "container"."""
        self.machines: Machines | None = None
        self._directory = Path(settings.directory or tempfile.mkdtemp(prefix="rehearsal-"))
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        await self.moto.prepare()
        await self._prepare_machines()
        app = web.Application(client_max_size=MOST_BYTES)
        app.add_routes(routes(self))
        app.router.add_route("*", "/{rest:.*}", self.front.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://{self.settings.host}:{self.port}"

    async def close(self) -> None:
        """Stop listening, end every machine, forget every plan."""
        self.later.close()
        if self.machines is not None:
            await self.machines.close()
        await self.bridge.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.moto.close()
        if not self.settings.directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _prepare_machines(self) -> None:
        self.boots, shell = await open_shell(self.settings)
        if shell is None:
            return
        self.machines = Machines(
            self.settings,
            self._directory,
            shell,
            self.later,
            lambda instance: Metadata(
                instance, self.keys, self.moto.role_of, self.settings.region, {"127.0.0.1"}
            ),
            self._environment,
            self.endings.on_machine_off,
        )
        self.launching.machines = self.machines

    def _environment(self, reach: Callable[[int], str], metadata: Metadata) -> dict[str, str]:
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": reach(metadata.port),
            "AWS_ENDPOINT_URL": reach(self.port),
        }


class CloudThread:
    """A cloud in a thread; what is here may be called from any other."""

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloud", daemon=True)
        self.cloud: Cloud
        self.control: Control

    def start(self) -> None:
        """Answers when it listens."""
        self._thread.start()
        try:
            self._run(self._start())
        except BaseException:
            self._stop_loop()
            raise

    def close(self) -> None:
        """Answers when nothing of it is left."""
        try:
            self._run(self.cloud.close())
        finally:
            self._stop_loop()

    @property
    def endpoint_url(self) -> str:
        """The address of every service."""
        return self.cloud.url

    def environment(self, credential: Credential | None = None) -> dict[str, str]:
        """What a program needs to take this for AWS; without a *credential*, the operator's."""
        who = credential or self.cloud.keys.operator
        names = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self._settings.region,
            "AWS_DEFAULT_REGION": self._settings.region,
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret,
        }
        return names | ({"AWS_SESSION_TOKEN": who.session_token} if who.session_token else {})

    def client_arguments(self, credential: Credential | None = None) -> dict[str, Any]:
        """The same for `boto3.client(service, **…)`."""
        who = credential or self.cloud.keys.operator
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": self._settings.region,
            "aws_access_key_id": who.access_key,
            "aws_secret_access_key": who.secret,
            "aws_session_token": who.session_token or None,
        }

    def call(self, work: Callable[[Cloud], T]) -> T:
        """Have *work* done in the cloud's own thread."""

        async def run() -> T:
            return work(self.cloud)

        return self._run(run())

    async def _start(self) -> None:
        self.cloud = Cloud(self._settings)
        self.control = Control(self.call)
        await self.cloud.start()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def start_cloud(settings: CloudSettings | None = None) -> Iterator[CloudThread]:
    """A cloud that answers, for the length of the block."""
    cloud = CloudThread(settings or CloudSettings())
    cloud.start()
    try:
        yield cloud
    finally:
        cloud.close()


def _account() -> str:
    return str(random.Random(secrets.randbits(64)).randrange(10**11, 10**12))


def _allow_all(_who: Credential, _service: str, _action: str, _params: dict[str, Any]) -> None:
    pass
