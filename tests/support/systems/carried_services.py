"""The four services on real rows and a real broker, whose messages a test carries, or loses."""

from collections import Counter
from typing import Any
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from operations.wiring import SERVICES, TOPOLOGY
from services.launcher import service as launcher
from services.launcher.config import LauncherConfig
from services.reaper import service as reaper
from services.reaper.config import ReaperConfig
from services.scheduler import service as scheduler
from services.scheduler.config import SchedulerConfig
from shared.bus.port import Subscription
from shared.bus.rabbitmq import declare_topology
from shared.clock import VirtualClock
from shared.events import cloudevents
from shared.events.cloudevents import Envelope
from shared.runtime.service import Ports
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, Agent, World, token_of
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Stage
from tests.support.rows.messages import events_in
from tests.support.servers.rabbitmq_server import manage

CONSUMES = {service.NAME: frozenset(e.__name__ for e in service.CONSUMES) for service in SERVICES}
SWEEPS = (
    ("api", "ask_again"),
    ("scheduler", "fire_due"),
    ("launcher", "launch_due_1"),
    ("launcher", "report_launches"),
    ("reaper", "watch_instances"),
    ("reaper", "confirm_missing"),
    ("reaper", "terminate_ending"),
    ("reaper", "report_missed_launches"),
)
STEP_SECONDS = 15


class CarriedServices:
    """Four services at the broker of *url*; an agent, known by its role alone, runs each job."""

    def __init__(
        self, ports: dict[str, Ports], clock: VirtualClock, url: str, management_url: str
    ) -> None:
        self.clock = clock
        self.cloud = ScriptedCompute(clock)
        self.world = World(ports["api"], clock)
        config = LauncherConfig(deployment=DEPLOYMENT, api_url="http://api", token_key=TOKEN_KEY)
        self.stages = {
            "api": self.world.stage,
            "scheduler": Stage(scheduler.build(SchedulerConfig(), ports["scheduler"])),
            "launcher": Stage(launcher.build(config, ports["launcher"], self.cloud)),
            "reaper": Stage(reaper.build(ReaperConfig(), ports["reaper"], self.cloud)),
        }
        self._url = url
        self._management_url = management_url
        self._sent = dict.fromkeys(self.stages, 0)
        self._ready: Counter[str] = Counter()
        self._subscriptions: dict[str, Subscription] = {}

    async def relay(self) -> None:
        """Send all outboxes to the broker, and note how many messages are in each queue."""
        for name, stage in self.stages.items():
            await stage.sweep("relay_outbox")
            for row in await stage.rows("SELECT id, name FROM outbox ORDER BY id"):
                if row["id"] > self._sent[name]:
                    self._sent[name] = row["id"]
                    readers = (each for each, names in CONSUMES.items() if row["name"] in names)
                    self._ready.update(readers)

    async def deliver(self, reader: str) -> None:
        """Let the service settle every message of its queue."""
        stage = self.stages[reader]
        while self._ready[reader]:
            if reader not in self._subscriptions:
                self._subscriptions[reader] = await stage.ports.bus.subscribe(reader)
            for delivery in await self._subscriptions[reader].take(100):
                message = delivery.message
                batch = cloudevents.decode(message.name, message.body)
                await stage.service.inbox.settle(batch.envelopes)
                await delivery.ack()
                self._ready[reader] -= 1

    async def lose_queue(self, name: str) -> int:
        """Delete the queue and declare it again, empty; return how many messages it held."""
        lost = self._ready.pop(name, 0)
        if name in self._subscriptions:
            await self._subscriptions.pop(name).close()
        vhost = quote(urlsplit(self._url).path.removeprefix("/"), safe="")
        manage(self._management_url, "DELETE", f"/api/queues/{vhost}/{name}")
        await declare_topology(self._url, TOPOLOGY)
        self._subscriptions[name] = await self.stages[name].ports.bus.subscribe(name)
        return lost

    async def step(self) -> None:
        """Let `STEP_SECONDS` pass, with a pass of each sweep, and carry all that is published."""
        self.clock.advance(STEP_SECONDS)
        for service, sweep in SWEEPS:
            await self.stages[service].sweep(sweep)
        await self.relay()
        for reader in self.stages:
            await self.deliver(reader)
        await self.relay()

    def show_orphan(self) -> None:
        """Show an instance that no attempt has, launched now."""
        shown = self.cloud.show("i-orphan", token="orphan")
        self.cloud.instances["i-orphan"] = replace(shown, job_id=None, attempt=None)

    async def run_agents(self, job_id: int) -> None:
        """Run the job's container to its end, once the API knows the instance."""
        status = await self.world.status(job_id)
        if status["phase"] != "booting":
            return
        number = status["attempt"]
        claim = await self.world.claim(job_id, number, instance=status["instance_id"])
        assert claim.status_code == 200, claim.text
        agent = Agent(job_id, number, token_of(job_id, number))
        await self.world.report(agent, phase="running")
        answer = await self.world.call_back(agent, {"exit_code": 0})
        assert answer.status_code == 200, answer.text

    async def unreceived(self, publisher: str, reader: str) -> list[Envelope[Any]]:
        """Return the events of *publisher* for *reader* that have not taken effect there."""
        rows = await self.stages[publisher].rows("SELECT name, body FROM outbox ORDER BY id")
        events = events_in(row for row in rows if row["name"] in CONSUMES[reader])
        inbox = await self.stages[reader].rows("SELECT event_id FROM inbox")
        received = {row["event_id"] for row in inbox}
        return [each for each in events if each.id not in received]
