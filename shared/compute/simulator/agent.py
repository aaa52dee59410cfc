"""The agent of a virtual instance: the real protocol, and a simulated container.

It is lean: an instant job takes three requests (claim, report, callback). A container "runs" by
letting `SIMULATE_SECONDS` pass; `SIMULATE_OUTPUT`, `SIMULATE_ERROR` and `SIMULATE_EXIT_CODE` are
honoured as by the real agent's simulated runtime.
"""

import asyncio
import contextlib
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Literal

import msgspec

from shared.backoff import Backoff
from shared.clock import Clock
from shared.compute.port import LaunchRequest
from shared.compute.simulator.agent_api import AgentApi, AgentJob, Claimed, MustWait, Over

RETRIED = frozenset({408, 425, 429})
OVER = frozenset({401, 403, 409})
API_BACKOFF = Backoff(first=0.2, factor=2, longest=10)
MAX_SECONDS = 10**9
MAX_EXIT_CODE = 255
INTERRUPTED_EXIT_CODE = 143  # 128 + SIGTERM

Outcome = Literal["ended", "timed out", "interrupted", "over", "lifetime over"]


class PrintedLine(msgspec.Struct, frozen=True):
    """One line of a container."""

    stream: Literal["stdout", "stderr"]
    text: str


class SimulatedRun(msgspec.Struct, frozen=True):
    """A simulated container's settings, read as the real agent's simulated runtime reads them."""

    seconds: float
    exit_code: int
    intro: list[PrintedLine]
    output: list[PrintedLine]

    @staticmethod
    def of(job: AgentJob) -> "SimulatedRun":
        """Read them from a job's environment; wrong ones make it exit with 2 and an error line."""
        command = shlex.join([job.docker_image, *(job.command or [])])
        intro = [PrintedLine("stdout", f"simulated, no container engine: would run {command}")]
        env = job.env_vars
        try:
            seconds = float(env.get("SIMULATE_SECONDS") or 0)
            code = int(env.get("SIMULATE_EXIT_CODE") or 0)
        except ValueError:
            seconds = code = -1
        if not (0 <= seconds < MAX_SECONDS and 0 <= code <= MAX_EXIT_CODE):
            wrong = "SIMULATE_SECONDS must be a number, SIMULATE_EXIT_CODE one from 0 to 255"
            return SimulatedRun(0, 2, intro, [PrintedLine("stderr", f"simulated: {wrong}")])
        output = [
            PrintedLine("stdout", each) for each in env.get("SIMULATE_OUTPUT", "").splitlines()
        ]
        error = env.get("SIMULATE_ERROR", f"simulated: exit code {code}" if code else "")
        output += [PrintedLine("stderr", each) for each in error.splitlines()]
        return SimulatedRun(seconds, code, intro, output)


@dataclass(frozen=True, kw_only=True)
class AgentContext:
    """The instance as its agent sees it.

    `notice` is set by an interruption notice, and `interrupted_at` then returns the time of the
    end; the two container calls record what really happens.
    """

    instance_id: str
    api: AgentApi
    clock: Clock
    rng: Random
    notice: asyncio.Event
    interrupted_at: Callable[[], datetime | None]
    container_started: Callable[[], None]
    container_stopped: Callable[[datetime, int], None]
    pull_seconds: float = 0.0


class LifetimeOverError(Exception):
    """The maximum lifetime has passed before the API answered."""


class VirtualAgent:
    """One attempt, from claim to callback. `run` returns when the instance may be powered off."""

    def __init__(self, request: LaunchRequest, context: AgentContext) -> None:
        self._request = request
        self._context = context
        self._clock = context.clock
        self._token = secrets.token_hex(32)
        self._lifetime_ends_at = self._clock.now() + timedelta(seconds=request.max_lifetime_seconds)
        self._never = asyncio.Event()
        self._seq = 0
        self._unsent: dict[str, object] | None = None
        self._over = Over()

    async def run(self) -> None:
        """Claim, run, report, call back; return early if the attempt or the lifetime is over."""
        try:
            claimed = await self._claim()
            if claimed is not None and await self._pull(claimed):
                await self._work(claimed)
        except LifetimeOverError:
            return

    async def _claim(self) -> Claimed | None:
        body = {
            "job_id": self._request.job_id,
            "attempt": self._request.attempt,
            "instance_id": self._context.instance_id,
            "token": self._token,
            "runtime": "simulated",
        }
        secret = self._request.bootstrap_token
        while True:
            status, answer = await self._send("POST", "/agent/claim", secret, body)
            if status != 202:
                return msgspec.json.decode(answer, type=Claimed) if status == 200 else None
            if self._clock.now() >= self._lifetime_ends_at:
                raise LifetimeOverError
            wait = msgspec.json.decode(answer, type=MustWait)
            await self._clock.wait(self._never, wait.retry_seconds)

    async def _pull(self, claimed: Claimed) -> bool:
        if self._context.pull_seconds > 0:
            status = await self._report(claimed, {"phase": "pulling", "logs": None})
            await self._clock.wait(self._never, self._context.pull_seconds)
            return status not in OVER
        return True

    async def _work(self, claimed: Claimed) -> None:
        plan = SimulatedRun.of(claimed.job)
        started_at = self._clock.now()
        self._context.container_started()
        if plan.seconds <= 0:
            self._context.container_stopped(started_at, plan.exit_code)
            status = await self._report(claimed, self._logs("running", plan.intro + plan.output))
            if status not in OVER:
                await self._call_back(claimed, "ended", plan)
            return
        ends_at = started_at + timedelta(seconds=plan.seconds)
        outcome = await self._watch(claimed, started_at, ends_at, plan.intro)
        if outcome != "ended":
            plan = msgspec.structs.replace(plan, exit_code=INTERRUPTED_EXIT_CODE, output=[])
        self._context.container_stopped(min(self._clock.now(), ends_at), plan.exit_code)
        if outcome == "over" and self._over.cause is not None:
            # Once is enough: the instance is terminated soon, whether this arrives or not.
            body = {"failed": "", "error_message": "stopped", "exit_code": plan.exit_code}
            await self._try_to_send("PUT", f"/callback/{claimed.job.id}", self._token, body)
        if outcome in {"over", "lifetime over"}:
            return
        if self._unsent is not None:
            await self._report(claimed, self._unsent)
        if plan.output:
            await self._report(claimed, self._logs(None, plan.output))
        await self._call_back(claimed, outcome, plan)

    async def _watch(
        self, claimed: Claimed, started_at: datetime, ends_at: datetime, intro: list[PrintedLine]
    ) -> Outcome:
        """Send reports, heartbeats and the notice until the container ends or is to be stopped.

        A call that fails is repeated after a pause and not at once, so that an API that does not
        answer does not delay the container's end.
        """
        limit = claimed.job.timeout_seconds
        timeout_at = None if limit is None else started_at + timedelta(seconds=limit)
        self._unsent = self._logs("running", intro)
        report_at, tries, notice_sent = started_at, 0, False
        while True:
            now = self._clock.now()
            stop_at = self._stops_at(claimed)
            ends: list[tuple[datetime, Outcome]] = [(self._lifetime_ends_at, "lifetime over")]
            ends.append((ends_at, "ended"))
            if timeout_at is not None:
                ends.append((timeout_at, "timed out"))
            if stop_at is not None:
                ends.append((stop_at, "interrupted"))
            for at, outcome in ends:
                if now >= at:
                    return outcome
            send_notice = stop_at is not None and not notice_sent
            if now >= report_at or send_notice:
                status = await self._heartbeat(claimed, notice=send_notice)
                if status in OVER:
                    return "over"
                notice_sent = notice_sent or (send_notice and status is not None)
                tries = tries + 1 if status is None else 0
                pause = self._backoff(tries) if tries else claimed.settings.heartbeat_seconds
                report_at = self._clock.now() + timedelta(seconds=pause)
            wake_at = min(report_at, *(at for at, _ in ends))
            event = self._never if stop_at is not None else self._context.notice
            await self._clock.wait(event, max(0.0, (wake_at - self._clock.now()).total_seconds()))

    async def _heartbeat(self, claimed: Claimed, *, notice: bool) -> int | None:
        """Send the notice, if asked, and a report; return the status, or None if a call failed."""
        if notice:
            path = f"/callback/{claimed.job.id}"
            answer = await self._try_to_send("PUT", path, self._token, {"schedule": ""})
            if answer is None or answer[0] in OVER:
                return None if answer is None else answer[0]
        path = f"/agent/jobs/{claimed.job.id}/report"
        body = self._unsent or {"phase": None, "logs": None}
        answer = await self._try_to_send("POST", path, self._token, body)
        if answer is None:
            return None
        self._unsent = None
        return answer[0]

    def _stops_at(self, claimed: Claimed) -> datetime | None:
        interrupted_at = self._context.interrupted_at()
        if interrupted_at is None:
            return None
        return interrupted_at - timedelta(seconds=claimed.settings.interruption_margin_seconds)

    async def _call_back(self, claimed: Claimed, outcome: Outcome, plan: SimulatedRun) -> None:
        code = plan.exit_code
        body: dict[str, object] = {"exit_code": 0}
        if outcome == "timed out":
            message = f"timed out after {claimed.job.timeout_seconds:g} seconds"
            body = {"failed": "", "error_message": message, "timed_out": True}
        elif code != 0 and self._context.notice.is_set():
            body = {"schedule": "", "stopped": True, "exit_code": code}
        elif code != 0:
            tail = [each.text for each in plan.output if each.stream == "stderr"]
            message = "\n".join(tail[-claimed.settings.error_tail_lines :])
            body = {"failed": "", "error_message": message, "exit_code": code}
        await self._send("PUT", f"/callback/{claimed.job.id}", self._token, body)

    def _logs(self, phase: str | None, lines: list[PrintedLine]) -> dict[str, object]:
        """Build a report of a phase and of *lines*, all printed now."""
        at = self._clock.now().isoformat()
        self._seq += 1
        batch = [{"at": at, "stream": line.stream, "text": line.text} for line in lines]
        return {"phase": phase, "logs": {"seq": self._seq, "lines": batch}}

    def _backoff(self, tries: int) -> float:
        return API_BACKOFF.delay(tries, self._context.rng.random())

    async def _report(self, claimed: Claimed, body: object) -> int:
        path = f"/agent/jobs/{claimed.job.id}/report"
        return (await self._send("POST", path, self._token, body))[0]

    async def _send(self, method: str, path: str, token: str, body: object) -> tuple[int, bytes]:
        """Send until the API answers. Raises LifetimeOverError after the maximum lifetime."""
        tries = 0
        while True:
            answer = await self._try_to_send(method, path, token, body)
            if answer is not None:
                return answer
            tries += 1
            if self._clock.now() >= self._lifetime_ends_at:
                raise LifetimeOverError
            await self._clock.wait(self._never, self._backoff(tries))

    async def _try_to_send(
        self, method: str, path: str, token: str, body: object
    ) -> tuple[int, bytes] | None:
        """Send once; return None if it failed and may be repeated."""
        try:
            url = self._request.api_url.rstrip("/") + path
            status, answer = await self._context.api.call(method, url, token, body)
        except OSError:
            return None
        if status in OVER:
            with contextlib.suppress(msgspec.DecodeError):  # not the API's own answer
                self._over = msgspec.json.decode(answer, type=Over)
        return None if status >= 500 or status in RETRIED else (status, answer)
