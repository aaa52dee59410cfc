"""The composition root: one cloud, made of its parts. Closing it ends all that it started."""

import asyncio
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from aiohttp import web

from fake_aws.account import AccountCalls
from fake_aws.booting import open_runtime
from fake_aws.bridge import Bridge
from fake_aws.buckets import Limits
from fake_aws.calls import CallGroups, Calls
from fake_aws.credentials import Credential, Keys
from fake_aws.endings import Endings
from fake_aws.faults import Faults
from fake_aws.fleets import Fleets
from fake_aws.front import MOST_BYTES, Front
from fake_aws.instance_queries import InstanceQueries
from fake_aws.launching import Launching
from fake_aws.machines import Machines
from fake_aws.metadata import Metadata
from fake_aws.moto_side import MotoSide
from fake_aws.pages import refuse_pages
from fake_aws.permissions import Permissions
from fake_aws.plans import Plans
from fake_aws.pools import Pools
from fake_aws.prices import Prices
from fake_aws.pricing import PriceCalls
from fake_aws.registry import Registry
from fake_aws.runs import Runs
from fake_aws.settings import CloudSettings
from fake_aws.spot import SpotRequests
from fake_aws.tags import TagCalls
from fake_aws.templates import Templates
from fake_aws.timers import Timers

EVERYWHERE = "0.0.0.0"  # noqa: S104 - compared with


class Cloud:
    """One account in one region, behind one address. Made and run on its own loop."""

    def __init__(self, settings: CloudSettings) -> None:
        self.settings = settings
        self.account = settings.account or _account()
        loop = asyncio.get_running_loop()
        self.timers = Timers(settings)
        self.keys = Keys(self.account, settings.access_key, settings.secret_key)
        self.moto = MotoSide(self.account, settings.region)
        self.limits = Limits(settings, loop.time)
        self.faults = Faults(settings.seed)
        self.pools = Pools(settings)
        self.prices = Prices(settings)
        self.own = AccountCalls(self.pools)
        self.spot = SpotRequests(settings)
        self.templates = Templates(self.keys.operator.arn)
        self.bridge = Bridge(self.moto)
        self.registry = Registry()
        self.registry.publish = self.bridge.publish
        self.launching = Launching(
            settings,
            self.account,
            self.timers,
            self.pools,
            self.prices,
            self.spot,
            self.registry,
            self.faults,
        )
        self.endings = Endings(
            settings, self.timers, self.pools, self.limits, self.spot, self.registry, self.launching
        )
        self.launching.on_failed = self.endings.fail_launch
        self.launching.on_off = self.endings.on_machine_off
        self.front = self._make_front()
        self.url = ""
        self.port = 0
        self.boots = "none"
        """The kind of an instance: "none", "process" or "container"."""
        self.machines: Machines | None = None
        self._directory = Path(settings.directory or tempfile.mkdtemp(prefix="rehearsal-"))
        self._runner: web.AppRunner | None = None

    def _make_front(self) -> Front:
        settings, registry, launching = self.settings, self.registry, self.launching
        shown = settings.instance_metadata_tags
        plans = Plans(self.moto, self.templates, metadata_tags=shown)
        permissions = Permissions(
            self.moto,
            registry,
            self.spot,
            self.templates,
            enforced=settings.enforce_policies,
        )
        fleets = Fleets(
            settings,
            registry,
            launching,
            plans,
            self.pools,
            self.prices,
            self.limits,
            permissions,
        )
        groups = CallGroups(
            endings=self.endings,
            looks=InstanceQueries(registry, settings.region),
            fleets=fleets,
            runs=Runs(settings.region, registry, launching, plans, self.limits, permissions),
            spot=self.spot,
            templates=self.templates,
            tags=TagCalls(registry, self.spot, self.templates),
            prices=PriceCalls(self.prices, self.moto),
            account=self.own,
            permissions=permissions,
        )
        calls = Calls(self.account, groups)
        return Front(
            settings, self.keys, self.limits, self.faults, calls, self.moto, permissions.check
        )

    async def start(self, routes: Iterable[web.RouteDef] = ()) -> None:
        """Listen; *routes* come before those of AWS."""
        await self.moto.prepare(self.settings.instance_role)
        if self.settings.event_queue:
            await self.moto.make_event_queue(self.settings.event_queue)
        await self._prepare_machines()
        app = web.Application(client_max_size=MOST_BYTES, middlewares=[refuse_pages])
        app.add_routes(routes)
        app.router.add_route("*", "/{rest:.*}", self.front.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.settings.host, self.settings.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        host = "127.0.0.1" if self.settings.host == EVERYWHERE else self.settings.host
        self.url = f"http://{host}:{self.port}"

    async def close(self) -> None:
        """Stop listening, end every machine, cancel every timer."""
        self.timers.close()
        if self.machines is not None:
            await self.machines.close()
        await self.bridge.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.moto.close()
        if not self.settings.directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def environment(self, credential: Credential | None = None) -> dict[str, str]:
        """Return the variables that point an AWS SDK here; by default with the operator's keys."""
        caller = credential or self.keys.operator
        names = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": self.settings.region,
            "AWS_DEFAULT_REGION": self.settings.region,
            "AWS_ACCESS_KEY_ID": caller.access_key,
            "AWS_SECRET_ACCESS_KEY": caller.secret,
        }
        return names | ({"AWS_SESSION_TOKEN": caller.session_token} if caller.session_token else {})

    async def _prepare_machines(self) -> None:
        self.boots, runtime = await open_runtime(self.settings)
        if runtime is None:
            return
        self.machines = Machines(
            self.settings,
            self._directory,
            runtime,
            self.timers,
            lambda instance: Metadata(instance, self.keys, self.moto.role_of, self.settings.region),
            self._machine_environment,
            self.endings.on_machine_off,
            self.launching.boot_faults,
        )
        self.launching.machines = self.machines

    def _machine_environment(
        self, reach: Callable[[int], str], metadata: Metadata
    ) -> dict[str, str]:
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": reach(metadata.port),
            "AWS_ENDPOINT_URL": self.settings.endpoint or reach(self.port),
        }


def _account() -> str:
    return str(random.Random(secrets.randbits(64)).randrange(10**11, 10**12))
