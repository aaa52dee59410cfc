"""The control API of the cloud, for what no caller of AWS can do: in process and over HTTP.

Each method is one POST of `/rehearsal/<name>` with its arguments as a JSON object; the answer is
its result. GET is allowed for those that only read.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from fake_aws import ledger
from fake_aws.boot_faults import BootFault
from fake_aws.cloud import Cloud
from fake_aws.errors import AwsError
from fake_aws.faults import Fault, PoolFault
from fake_aws.front import LoggedCall
from fake_aws.ledger import Bill
from fake_aws.pools import ANY, Pool

T = TypeVar("T")
PREFIX = "/rehearsal/"


class Do(Protocol):
    """Runs a function on the cloud, in the cloud's own thread."""

    def __call__(self, work: Callable[[Cloud], T], /) -> T:
        """Return the result of *work*."""
        ...


class Control:
    """Commands and queries. Raises AwsError for an instance that does not exist."""

    def __init__(self, do: Do) -> None:
        self._do = do

    def interrupt(self, instance_id: str, *, notice: bool = True) -> datetime:
        """Interrupt the Spot instance, after two minutes' notice (sped up) or none; return when."""
        return self._do(lambda cloud: cloud.endings.interrupt(instance_id, notice=notice))

    def rebalance(self, instance_id: str) -> None:
        """Publish a rebalance recommendation for the instance."""
        self._do(lambda cloud: cloud.endings.rebalance(instance_id))

    def set_capacity(
        self,
        size: int | None,
        *,
        market: str = ANY,
        instance_type: str = ANY,
        zone: str = ANY,
    ) -> None:
        """Set the capacity of a pool, or of all pools, in instances; None: no limit."""
        pool = Pool(market, instance_type, zone)
        self._do(lambda cloud: cloud.pools.set_size(pool, size))

    def set_quota(self, vcpus: int | None, *, market: str = "spot", family: str = "") -> None:
        """Set the account's limit of running vCPUs; None: no limit.

        Of the group of *family* (as "g"), or of each group of the market.
        """
        self._do(lambda cloud: cloud.pools.quotas.set(vcpus, market, family))

    def fail(self, action: str = "*", kind: str = "error", **details: Any) -> Fault:
        """Arm a fault; *details* are the fields of `faults.Fault`."""
        fault = msgspec.convert({"action": action, "kind": kind, **details}, Fault)
        return self._do(lambda cloud: cloud.faults.add(fault))

    def fail_pool(self, code: str, **details: Any) -> PoolFault:
        """Arm a refusal of pools; *details* are the other fields of `faults.PoolFault`."""
        fault = msgspec.convert({"code": code, **details}, PoolFault)

        def add(cloud: Cloud) -> PoolFault:
            cloud.faults.pools.append(fault)
            return fault

        return self._do(add)

    def break_boots(self, kind: str, times: int | None = 1, **of: str) -> BootFault:
        """Let the boots of the next instances fail, as `BootFault` has it; *of*: its pools."""
        fault = msgspec.convert({"kind": kind, "times": times, **of}, BootFault)
        return self._do(lambda cloud: cloud.launching.boot_faults.add(fault))

    def heal(self) -> None:
        """Disarm every fault."""

        def clear(cloud: Cloud) -> None:
            cloud.faults.clear()
            cloud.launching.boot_faults.clear()

        self._do(clear)

    def reveal(self) -> None:
        """Make every launched instance and Spot request visible at once."""

        def show(cloud: Cloud) -> None:
            now = datetime.now(UTC)
            cloud.registry.reveal()
            for instance in cloud.registry.all.values():
                instance.visible_at = min(instance.visible_at, now)
            for request in cloud.spot.by_id.values():
                request.visible_at = min(request.visible_at, now)

        self._do(show)

    def hide(self, instance_id: str, *, by_id: bool = False, request: bool = False) -> None:
        """Leave the instance out of lists, and do not find its id, or its Spot request, either.

        It runs on, and `reveal` shows it again.
        """

        def hide(cloud: Cloud) -> None:
            instance = cloud.registry.one(instance_id)
            cloud.registry.hide(instance, by_id=by_id)
            if request:
                cloud.spot.hide(instance.spot_request)

        self._do(hide)

    def crash(self, instance_id: str) -> None:
        """Fail the hardware: nothing runs on the instance, and EC2 still shows it as running."""

        def end(cloud: Cloud) -> None:
            if cloud.machines is not None:
                cloud.machines.kill(instance_id)

        self._do(end)

    def send_events_to(self, queue_url: str) -> None:
        """Deliver every event to this queue, as a rule of EventBridge would."""
        self._do(lambda cloud: cloud.bridge.queues.add(queue_url))

    def ignore_terminations(self, count: int) -> None:
        """Accept the next *count* terminations without effect."""

        def ignore(cloud: Cloud) -> None:
            cloud.endings.ignored_terminations = count

        self._do(ignore)

    def instances(self) -> list[dict[str, Any]]:
        """Return the true state of every instance ever launched, visible or not, oldest first."""
        return self._do(lambda cloud: [_truth(each) for each in cloud.registry.all.values()])

    def running(self) -> list[str]:
        """Return the ids of the instances that are pending or running."""
        return [each["id"] for each in self.instances() if each["state"] in {"pending", "running"}]

    def ledger(self) -> list[Bill]:
        """Return each instance's bill until now."""

        def bills(cloud: Cloud) -> list[Bill]:
            now = datetime.now(UTC)
            return [
                ledger.bill(each, cloud.prices, cloud.settings, now)
                for each in cloud.registry.all.values()
            ]

        return self._do(bills)

    def calls(self, action: str | None = None) -> list[LoggedCall]:
        """Return the received calls in order, of one action or of all."""
        log = self._do(lambda cloud: list(cloud.front.log))
        return [each for each in log if action in (None, each.action)]


def _truth(instance: Any) -> dict[str, Any]:
    return {
        "id": instance.id,
        "state": instance.state.label,
        "market": instance.plan.market,
        "instance_type": instance.plan.kind.name,
        "zone": instance.plan.subnet.zone,
        "spot_request": instance.spot_request,
        "launched_at": instance.launched_at,
        "visible_at": instance.visible_at,
        "running_at": instance.running_at,
        "ended_at": instance.ended_at,
        "reason": instance.reason_code,
        "cpu_credits": instance.plan.cpu_credits,
        "tags": dict(instance.tags),
        "console": instance.console,
    }


COMMANDS = (
    *("interrupt", "rebalance", "set_capacity", "set_quota", "fail", "heal", "reveal", "crash"),
    *("fail_pool", "hide", "break_boots", "send_events_to", "ignore_terminations"),
    *("instances", "running", "ledger", "calls"),
)
QUERIES = {"instances", "running", "ledger", "calls"}


def routes(cloud: Cloud) -> list[web.RouteDef]:
    """Return the routes of the control API of *cloud*."""
    control = Control(lambda work: work(cloud))

    async def command(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in COMMANDS or (request.method == "GET" and name not in QUERIES):
            return web.json_response({"error": f"no command {name}"}, status=404)
        try:
            arguments = msgspec.json.decode(await request.read() or b"{}")
            done = getattr(control, name)(**arguments)
        except (AwsError, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        body = msgspec.json.encode(done, enc_hook=str)
        return web.Response(body=body, content_type="application/json")

    return [
        web.get(PREFIX + "{name}", command),
        web.post(PREFIX + "{name}", command),
    ]
