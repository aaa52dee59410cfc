"""The calls of one pass to the cloud, each within its time limit. Whatever fails is an answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.launcher.config import LauncherConfig
from services.launcher.model import LeaseGrowth
from services.launcher.offers import Group
from shared.compute.port import (
    Compute,
    ComputeError,
    Instance,
    LaunchBatch,
    LaunchRequest,
    Plan,
    Unknown,
)
from shared.compute.timeouts import answer_within
from shared.log import get_logger

Answer = Instance | ComputeError
Answers = Mapping[tuple[int, int], Answer]


@dataclass(frozen=True)
class LaunchCalls:
    """Plans and launches."""

    config: LauncherConfig
    compute: Compute

    @property
    def growth(self) -> LeaseGrowth:
        """Return how much longer a call for many launches may take."""
        return self.config.growth(gathers=self.compute.gathers)

    async def plan(self, group: Group) -> tuple[Plan | ComputeError, float | None]:
        """Return the plan for *group*, and the most that an hour of it costs, if a quota asks."""
        seconds, resources = self.config.plan_seconds, group.offer.resources
        try:
            plan = await answer_within(seconds, self.compute.plan(group.offer))
            if not self.config.quotas.limit_launches:
                return plan, None
            price = self.compute.highest_price_of(plan, resources)
            return plan, await answer_within(seconds, price)
        except ComputeError as error:
            return error, None
        except Exception as error:
            self._logger.exception("planning failed", launches=len(group.launches))
            return Unknown(f"{type(error).__name__}: {error}"), None

    async def launch(self, batch: LaunchBatch) -> Answers:
        """Return the cloud's answer to each request of *batch*, by job and attempt."""
        try:
            answers = await self._call(batch)
        except Exception as error:
            self._logger.exception("launch call failed", requests=len(batch.requests))
            if self.compute.gathers:
                answers = [Unknown(f"{type(error).__name__}: {error}")] * len(batch.requests)
            else:
                # One request that breaks the adapter must not delay the others.
                alone = (self._call_alone(each) for each in batch.requests)
                answers = await asyncio.gather(*alone)
        return {
            (request.job_id, request.attempt): answer
            for request, answer in zip(batch.requests, answers, strict=True)
        }

    async def _call(self, batch: LaunchBatch) -> Sequence[Answer]:
        try:
            seconds = self.config.call_seconds + self.growth.seconds(len(batch.requests))
            return await answer_within(seconds, self.compute.launch(batch))
        except ComputeError as error:
            return [error] * len(batch.requests)

    async def _call_alone(self, request: LaunchRequest) -> Answer:
        try:
            return (await self._call(LaunchBatch(token=request.token, requests=(request,))))[0]
        except Exception as error:
            self._logger.exception("launch failed", job_id=request.job_id, attempt=request.attempt)
            return Unknown(f"{type(error).__name__}: {error}")

    @property
    def _logger(self) -> Any:
        return get_logger(service="launcher", part="launches")
