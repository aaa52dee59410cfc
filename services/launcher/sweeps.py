"""The launcher's sweeps: asking the cloud, telling the watermark, forgetting what is settled.

    claim, decide the intent, commit ─▶ ask the cloud ─▶ record under the lease's token, tell

Killed before the first commit: the row is `wanted` and is claimed again. Killed between the commit
and the record, or out of time: the row is `asked`, and when its lease is over somebody asks the
identical question, which adopts what the first call launched. Killed after the record: the
InstanceLaunched is in the outbox.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.launcher import decisions, store
from services.launcher.config import LauncherConfig
from services.launcher.decisions import Pace
from services.launcher.model import Launch, Verdict
from shared import wire
from shared.compute.deadline import answer_within
from shared.compute.port import Compute, ComputeError, Instance, LaunchRequest, Unknown
from shared.db import Transaction
from shared.log import get_logger
from shared.messaging import append_outbox, tell
from shared.passes import next_pass
from shared.runtime import Ports

Answer = Instance | ComputeError


@dataclass(frozen=True)
class Launches:
    """The sweeps over launches. *jitter* gives numbers in [0, 1)."""

    config: LauncherConfig
    ports: Ports
    compute: Compute
    jitter: Callable[[], float] = random.random

    async def launch_due(self) -> datetime | None:
        """Sweep: ask the cloud for what is due, in one call; due again when the next launch is."""
        token = uuid.uuid4()
        async with self.ports.db.transaction() as tx:
            intents = await self._claim(tx, token)
        if intents:
            self.ports.points.reached("launcher.intent_committed")
            answers = await self._ask(intents)
            self.ports.points.reached("launcher.called")
            async with self.ports.db.transaction() as tx:
                told_anything = await self._record(tx, token, answers)
            self.ports.points.reached("launcher.recorded")
            if told_anything:
                self.ports.wakeups.wake("relay_outbox")
        async with self.ports.db.transaction() as tx:
            next_due = await store.next_due(tx)
        return next_pass(tx.now, full=len(intents) == self.config.batch, next_due=next_due)

    async def _claim(self, tx: Transaction, token: uuid.UUID) -> list[Launch]:
        due = await store.lock_due(tx, self.config.batch)
        intents = [
            decisions.decide_intent(each, self.config.deployment, self.config.api_url, tx.now)
            for each in due
        ]
        until = tx.now + timedelta(seconds=self.config.lease_seconds)
        await store.save_intents(tx, intents, until, token)
        return intents

    async def _ask(self, intents: Sequence[Launch]) -> dict[tuple[int, int], Answer]:
        """The cloud's answer to each intent, by job and attempt."""
        requests = [
            decisions.request_of(each.params, self.config.token_key)
            for each in intents
            if each.params is not None
        ]
        try:
            answers = await self._call(requests)
        except Exception:
            # Not of the port: one request that breaks the adapter must not hold up all the others.
            self._logger.exception("launch call failed", requests=len(requests))
            answers = await asyncio.gather(*(self._call_alone(each) for each in requests))
        return {
            (request.job_id, request.attempt): answer
            for request, answer in zip(requests, answers, strict=True)
        }

    async def _call(self, requests: Sequence[LaunchRequest]) -> Sequence[Answer]:
        try:
            call = self.compute.launch(requests)
            return await answer_within(self.config.call_seconds, call)
        except ComputeError as error:
            return [error] * len(requests)

    async def _call_alone(self, request: LaunchRequest) -> Answer:
        try:
            return (await self._call([request]))[0]
        except Exception as error:
            self._logger.exception("launch failed", job_id=request.job_id, attempt=request.attempt)
            return Unknown(f"{type(error).__name__}: {error}")

    async def _record(
        self, tx: Transaction, token: uuid.UUID, answers: Mapping[tuple[int, int], Answer]
    ) -> bool:
        """Settle what this token still holds; True where anything was told."""
        held = await store.lock_leased(tx, token)
        verdicts = await self._judge(tx, held, answers)
        await store.save_answers(tx, [each.launch for each in verdicts], token)
        envelopes = [
            wire.wrap(event, at=tx.now, trace=verdict.launch.trace)
            for verdict in verdicts
            for event in verdict.events
        ]
        await append_outbox(tx, envelopes)
        return bool(envelopes)

    async def _judge(
        self,
        tx: Transaction,
        held: Sequence[Launch],
        answers: Mapping[tuple[int, int], Answer],
    ) -> list[Verdict]:
        config = self.config
        pace = Pace(
            refused=config.refused,
            unknown=config.unknown,
            tell_again_seconds=config.tell_again_seconds,
        )
        launched = sum(isinstance(answers[each.key], Instance) for each in held)
        # The counter is held from here to the commit, as briefly as can be: see `report_launches`.
        told = await store.count_tellings(tx, launched) - launched if launched else 0
        verdicts = []
        for each in held:
            answer = answers[each.key]
            if isinstance(answer, Instance):
                told += 1
                verdicts.append(decisions.decide_launched(each, answer, told, tx.now))
            else:
                verdicts.append(decisions.decide_refusal(each, answer, tx.now, self.jitter(), pace))
        return verdicts

    async def report_launches(self) -> datetime | None:
        """Sweep: tell the watermark, so that the reaper knows what it must have heard of by now.

        Told even where nothing has changed, since `before` moves on. The counter is locked first
        and the rows are read after: `decide_watermark` tells why that order makes the pair true.
        """
        async with self.ports.db.transaction() as tx:
            told = await store.hold_tellings(tx)
            oldest = await store.oldest_asked(tx)
            event = decisions.decide_watermark(
                told, oldest, tx.now, self.config.report_margin_seconds
            )
            await tell(tx, [event])
        self.ports.wakeups.wake("relay_outbox")
        return None

    async def prune_launches(self) -> datetime | None:
        """Sweep: forget what was settled long ago."""
        async with self.ports.db.transaction() as tx:
            before = tx.now - timedelta(seconds=self.config.keep_seconds)
            more = await store.prune_settled(tx, before, self.config.prune_batch)
        return tx.now if more else None

    @property
    def _logger(self) -> Any:
        return get_logger(service="launcher", part="launches")
