"""The hand behind the cloud: what no caller of AWS can do, in process and under `/rehearsal/…`.

Each method is one POST of `/rehearsal/<name>` with its arguments as a JSON object, answered with
what it returns; GET is allowed for those that only look.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from fake_aws import ledger
from fake_aws.cloud import Cloud
from fake_aws.errors import AwsError
from fake_aws.faults import Fault
from fake_aws.front import LoggedCall
from fake_aws.ledger import Bill
from fake_aws.pools import ANY, Pool

T = TypeVar("T")
PREFIX = "/rehearsal/"


class Do(Protocol):
    """Does something to the cloud, in the cloud's own thread."""

    def __call__(self, work: Callable[[Cloud], T], /) -> T:
        """Answers what *work* does."""
        ...


class Control:
    """Commands and looks. Raises AwsError for an instance that there is not."""

    def __init__(self, do: Do) -> None:
        self._do = do

    def interrupt(self, instance_id: str, *, notice: bool = True) -> datetime:
        """Take the Spot instance back, with two minutes' notice (sped up) or none. Answers when."""
        return self._do(lambda cloud: cloud.endings.interrupt(instance_id, notice=notice))

    def rebalance(self, instance_id: str) -> None:
        """Recommend to leave it."""
        self._do(lambda cloud: cloud.endings.rebalance(instance_id))

    def set_capacity(
        self,
        size: int | None,
        *,
        market: str = ANY,
        instance_type: str = ANY,
        zone: str = ANY,
    ) -> None:
        """Give a pool, or all of them, room for *size* instances; None: for any number."""
        pool = Pool(market, instance_type, zone)
        self._do(lambda cloud: cloud.pools.set_size(pool, size))

    def set_quota(self, vcpus: int | None, *, market: str = "spot") -> None:
        """The account's limit of running vCPUs."""
        self._do(lambda cloud: cloud.pools.quotas.update({market: vcpus}))

    def fail(self, action: str = "*", kind: str = "error", **details: Any) -> Fault:
        """Arm a fault; `faults.Fault` tells the details."""
        fault = msgspec.convert({"action": action, "kind": kind, **details}, Fault)
        return self._do(lambda cloud: cloud.faults.add(fault))

    def heal(self) -> None:
        """Disarm every fault."""
        self._do(lambda cloud: cloud.faults.clear())

    def reveal(self) -> None:
        """Show at once whatever was launched and is not seen yet."""

        def show(cloud: Cloud) -> None:
            now = datetime.now(UTC)
            for instance in cloud.registry.all.values():
                instance.visible_at = min(instance.visible_at, now)
            for request in cloud.spot.by_id.values():
                request.visible_at = min(request.visible_at, now)

        self._do(show)

    def crash(self, instance_id: str) -> None:
        """Its hardware fails: nothing runs on it any more, and EC2 still says "running"."""

        def end(cloud: Cloud) -> None:
            if cloud.machines is not None:
                cloud.machines.kill(instance_id)

        self._do(end)

    def send_events_to(self, queue_url: str) -> None:
        """Every event into this queue, as by a rule of EventBridge for all of them."""
        self._do(lambda cloud: cloud.bridge.queues.add(queue_url))

    def ignore_terminations(self, count: int) -> None:
        """Accept so many terminations to come, and do nothing."""

        def ignore(cloud: Cloud) -> None:
            cloud.endings.ignored_terminations = count

        self._do(ignore)

    def instances(self) -> list[dict[str, Any]]:
        """The truth about all instances ever launched, seen or not, the oldest first."""
        return self._do(lambda cloud: [_truth(each) for each in cloud.registry.all.values()])

    def running(self) -> list[str]:
        """The ids of those that cost money, or soon will."""
        return [each["id"] for each in self.instances() if each["state"] in {"pending", "running"}]

    def ledger(self) -> list[Bill]:
        """What each instance has cost until now."""

        def bills(cloud: Cloud) -> list[Bill]:
            now = datetime.now(UTC)
            return [
                ledger.bill(each, cloud.prices, cloud.settings, now)
                for each in cloud.registry.all.values()
            ]

        return self._do(bills)

    def calls(self, action: str | None = None) -> list[LoggedCall]:
        """The calls that came, in order; of one action, or of all."""
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
        "tags": dict(instance.tags),
        "console": instance.console,
    }


COMMANDS = (
    *("interrupt", "rebalance", "set_capacity", "set_quota", "fail", "heal", "reveal", "crash"),
    *("send_events_to", "ignore_terminations", "instances", "running", "ledger", "calls"),
)
LOOKS = {"instances", "running", "ledger", "calls"}


def routes(cloud: Cloud) -> list[web.RouteDef]:
    """The same over HTTP."""
    control = Control(lambda work: work(cloud))

    async def command(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in COMMANDS or (request.method == "GET" and name not in LOOKS):
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
