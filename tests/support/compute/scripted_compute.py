"""A cloud in memory that keeps the port's promises, with failures by script."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta

from msgspec.structs import replace

from shared.clock import Clock
from shared.compute.port import (
    ComputeError,
    Instance,
    InstanceState,
    LaunchBatch,
    LaunchRequest,
    NoCapacity,
    NotFound,
    Offer,
    Plan,
    PricedOffers,
    Rejected,
    Unknown,
)
from shared.events.offers import OfferTerms
from shared.events.requirements import Resources


class ScriptedCompute:
    """Its failures are attributes that a test sets."""

    name = "scripted"
    gathers = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.by_token: dict[str, str] = {}
        self.instances: dict[str, Instance] = {}
        self.refusals: deque[ComputeError] = deque()
        self.lose_answers = False
        self.breaks_on_job: int | None = None
        self.asked: list[LaunchRequest] = []
        self.batches: list[LaunchBatch] = []
        self.offers: list[Offer] = []
        self.plan_errors: deque[ComputeError] = deque()
        self.launch_calls = 0
        self.vcpus = 2
        self.highest_price_usd: float | None = 0.1
        self.hourly_price_usd: float | None = 0.036
        self.answering = asyncio.Event()
        self.answering.set()
        self.planning = asyncio.Event()
        self.planning.set()
        self.price_calls = 0
        self.price_errors: deque[ComputeError] = deque()
        self.offered = PricedOffers(terms=OfferTerms(chooses=False, zones=()), types=())
        self.short_by = 0
        self.refuses_to_end: set[str] = set()
        self.end_refusal: ComputeError = Rejected("InvalidInstanceID: none of the batch was ended")
        self.terminate_error: Exception | None = None
        self.ends_at_once = True
        self.terminated: list[list[str]] = []
        self.invisible: set[str] = set()
        self.list_error: ComputeError | None = None
        self.confirmed: list[list[str]] = []
        self.confirm_error: ComputeError | None = None
        self.not_found_is_final = True
        self.shown_by_id: dict[str, Instance] = {}
        self.consoles: dict[str, str | Exception] = {}
        self.consoles_read: list[str] = []

    @property
    def questions(self) -> list[LaunchRequest]:
        """The different requests among all, in order."""
        return [each for place, each in enumerate(self.asked) if each not in self.asked[:place]]

    async def plan(self, offer: Offer) -> Plan:
        self.offers.append(offer)
        await self.planning.wait()
        if self.plan_errors:
            raise self.plan_errors.popleft()
        return {"version": len(self.offers)}

    def vcpus_of(self, plan: Plan, resources: Resources) -> Mapping[str, int]:
        return {"m7g.large": self.vcpus if resources.vcpus is None else resources.vcpus}

    async def highest_price_of(self, plan: Plan, resources: Resources) -> float | None:
        return self.highest_price_usd

    async def launch(self, batch: LaunchBatch) -> Sequence[Instance | ComputeError]:
        requests = batch.requests
        self.launch_calls += 1
        self.batches.append(batch)
        await self.answering.wait()
        if any(each.job_id == self.breaks_on_job for each in requests):
            raise KeyError("the adapter is broken")
        had = requests[: len(requests) - self.short_by]
        short: list[Instance | ComputeError] = [NoCapacity("none left")] * self.short_by
        return [*(self._launch(each) for each in had), *short]

    def _launch(self, request: LaunchRequest) -> Instance | ComputeError:
        self.asked.append(request)
        if self.refusals:
            return self.refusals.popleft()
        instance_id = self.by_token.setdefault(request.token, f"i-{len(self.by_token) + 1}")
        if instance_id not in self.instances:
            self.show(instance_id, request.job_id, request.attempt, token=request.token)
        if self.lose_answers:
            return Unknown("the answer is lost")
        return self.instances[instance_id]

    def show(
        self,
        instance_id: str,
        job_id: int = 1,
        attempt: int = 1,
        *,
        token: str | None = None,
        age: float = 0,
    ) -> Instance:
        """Add an instance, launched *age* seconds ago."""
        self.instances[instance_id] = Instance(
            instance_id=instance_id,
            state=InstanceState.RUNNING,
            launch_token=token or instance_id,
            job_id=job_id,
            attempt=attempt,
            launched_at=self._clock.now() - timedelta(seconds=age),
            instance_type="m7g.large",
            zone="zone-a",
            market="spot",
            hourly_price_usd=self.hourly_price_usd,
        )
        return self.instances[instance_id]

    def end(self, instance_id: str, *, reason: str = "", interrupted: bool = False) -> None:
        """End the instance now."""
        instance = self.instances[instance_id]
        if instance.state is not InstanceState.TERMINATED:
            self.instances[instance_id] = replace(
                instance,
                state=InstanceState.TERMINATED,
                terminated_at=self._clock.now(),
                state_reason=reason,
                spot_interrupted=interrupted,
            )

    async def price_offers(self) -> PricedOffers:
        self.price_calls += 1
        await self.answering.wait()
        if self.price_errors:
            raise self.price_errors.popleft()
        return self.offered

    async def terminate(self, instance_ids: Sequence[str]) -> None:
        self.terminated.append(list(instance_ids))
        if self.terminate_error is not None:
            raise self.terminate_error
        if self.refuses_to_end & set(instance_ids):
            raise self.end_refusal
        for instance_id in instance_ids:
            if instance_id in self.instances and self.ends_at_once:
                self.end(instance_id)

    async def describe(self, instance_ids: Sequence[str]) -> dict[str, Instance]:
        await self.answering.wait()
        return {
            each: self.instances[each]
            for each in instance_ids
            if each in self.instances and each not in self.invisible
        }

    async def confirm(self, instance_ids: Sequence[str]) -> dict[str, Instance | NotFound]:
        self.confirmed.append(list(instance_ids))
        if self.confirm_error is not None:
            raise self.confirm_error
        shown = {**await self.describe(instance_ids), **self.shown_by_id}
        return {
            each: shown.get(each) or NotFound(final=self.not_found_is_final)
            for each in instance_ids
        }

    async def list_instances(self) -> Sequence[Instance]:
        if self.list_error is not None:
            raise self.list_error
        return [each for each in self.instances.values() if each.instance_id not in self.invisible]

    async def console_output(self, instance_id: str) -> str | None:
        self.consoles_read.append(instance_id)
        await self.answering.wait()
        found = self.consoles.get(instance_id)
        if isinstance(found, Exception):
            raise found
        return found

    async def close(self) -> None:
        pass
