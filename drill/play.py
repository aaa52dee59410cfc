"""One outage on a stage, in four steps: start its jobs, play it, recover, and finish."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from drill.api import TERMINAL, Api, NoAnswer, Refused
from drill.deployment import Deployment
from drill.docker import CommandFailed
from drill.instances import Watch
from drill.outages import Outage
from drill.plan import GATHER_SECONDS, Form, PlannedJob, plan_wave
from drill.posting import Poster
from drill.progress import Progress

START_SECONDS = 300.0
"""The longest time until all jobs of the outage run."""
UNCOUNTED = -1
"""For a number that is not known."""
SOON_SECONDS = 10.0
"""The time for further waits once a wait was in vain."""


class NotPlayed(Exception):
    """The outage could not begin or be repaired: there is no verdict on it."""


@dataclass(frozen=True)
class Stage:
    """A healthy deployment with all that watches it."""

    deployment: Deployment
    api: Api
    watch: Watch
    readers: dict[str, list[str]]
    """The events that each service's queue is bound to."""


class Play:
    """One outage, its jobs, and what was noted meanwhile."""

    def __init__(
        self, stage: Stage, outage: Outage, form: Form, jobs: int, length: float, progress: Progress
    ) -> None:
        self.stage = stage
        self.outage = outage
        self.form = form
        self.length = length
        self.wave = plan_wave(
            outage.name, jobs, length, outage.repair_seconds, queued=bool(outage.away)
        )
        self.began_at = self.ended_at = self.lasts_until = 0.0
        """Unix times: of the outage, and until when the last of its containers runs."""
        self.recovery_seconds: float | None = None
        self.lost_events = UNCOUNTED
        """The events that had no effect when `await_end` returned."""
        self._progress = progress
        self._accepted: dict[str, int] = {}
        self._poster = Poster(stage.api, outage.name)

    @property
    def accepted(self) -> dict[str, int]:
        """Return the ids of the accepted jobs, by their keys."""
        return {**self._accepted, **self._poster.accepted}

    @property
    def refusals(self) -> dict[str, str]:
        """Return the answers that refused a job for good, by its key."""
        return dict(self._poster.refusals)

    @property
    def repeats(self) -> int:
        """Return how many requests had no answer and were sent again."""
        return self._poster.repeats

    @property
    def ids(self) -> set[int]:
        """Return the ids of the accepted jobs."""
        return set(self.accepted.values())

    # --- before ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the jobs that run when it begins: first those that go on past it.

        Raises `NotPlayed`, `WatchEnded`.
        """
        self._progress.report(f"{self.outage.title}: starting {len(self.wave.before)} jobs")
        self._command("cannot be prepared", self.outage.prepare)
        began = time.time()
        self._post_and_await(self.wave.lasting)
        self.lasts_until = time.time() + max(job.seconds for job in self.wave.lasting)
        self.wave = self.wave.with_launches(time.time() - began)
        self._post_and_await(self.wave.ending)

    def _post_and_await(self, jobs: tuple[PlannedJob, ...]) -> None:
        self._post(jobs)
        self._await_start([self._accepted[job.key] for job in jobs])

    def _post(self, jobs: tuple[PlannedJob, ...]) -> None:
        try:
            answers = self.stage.api.post([job.request(self.outage.name) for job in jobs])
        except (NoAnswer, Refused) as error:
            raise NotPlayed(f"jobs cannot be posted: {error}") from None
        pairs = zip(jobs, answers, strict=True)
        self._accepted.update({job.key: int(answer["id"]) for job, answer in pairs})

    def _await_start(self, ids: list[int]) -> None:
        reached = self._progress.until(
            f"{len(ids)} more jobs run",
            START_SECONDS,
            lambda: self._in_status(ids, {"RUNNING", *TERMINAL}),
            lambda: f"{self.running()} do",
        )
        if not reached:
            raise NotPlayed(f"its jobs did not run within {START_SECONDS:.0f} s")

    # --- the outage -----------------------------------------------------------------------------

    def strike(self) -> None:
        """Begin the outage, wait, and repair it. Raises `NotPlayed`, `WatchEnded`."""
        title = self.outage.title
        self._post(self.wave.due)
        self._take_away()
        self._progress.report(f"{title}: begins, for {self.length:.0f} s; {self.running()} run")
        self.began_at = time.time()
        self._command("could not begin", self.outage.begin)
        for service in self.outage.away:
            self._command("could not begin", partial(Deployment.start, service=service))
        step = self.length / (len(self.wave.posted) + 1)
        for number, job in enumerate(self.wave.posted):
            self._wait(number * step, step)
            self._poster.post(job)
        self._wait(self.length - step, step)
        self._progress.report(f"{title}: repairing, {self._state()}")
        self._command("could not be repaired", self.outage.end)
        self.ended_at = time.time()
        took = self.ended_at - self.began_at
        self._progress.report(f"{title}: over after {took:.0f} s, {self._state()}")

    def _take_away(self) -> None:
        """Kill the services for which events are to wait, and let jobs be due meanwhile."""
        away = self.outage.away
        if "api" in away:
            self._post(self.wave.queued)
        for service in away:
            self._command("could not begin", partial(Deployment.kill, service=service))
        if away and "api" not in away:
            self._post(self.wave.queued)
        if away:
            what = f"{self.outage.title}: events gather for {', '.join(away)}"
            self._progress.report(what)
            self._progress.wait(what, 0, GATHER_SECONDS, GATHER_SECONDS, self._state)

    def _command(self, what: str, act: Callable[[Deployment], object]) -> None:
        try:
            act(self.stage.deployment)
        except CommandFailed as error:
            raise NotPlayed(f"it {what}: {error}") from None

    def _wait(self, passed: float, seconds: float) -> None:
        self._progress.wait(self.outage.title, passed, seconds, self.length, self._state)

    # --- after ----------------------------------------------------------------------------------

    def recover(self) -> None:
        """Wait until it is ready and a job that is posted now is DONE. Raises `WatchEnded`."""
        canary = self.wave.canary
        ready = False
        trouble: str | None = None

        def recovered() -> bool:
            nonlocal ready, trouble
            if not ready:
                trouble = self.stage.api.trouble()
                ready = trouble is None
            job_id = self._poster.accepted.get(canary.key)
            return ready and job_id is not None and self._in_status([job_id], {canary.status})

        self._poster.post(canary)
        if self._progress.until(
            f"{self.outage.title} is recovered from",
            self.form.terminal_seconds,
            recovered,
            lambda: f"readyz: {trouble or 'ready'}, {self._state()}",
        ):
            self.recovery_seconds = time.time() - self.ended_at
            self._progress.report(
                f"{self.outage.title}: recovered {self.recovery_seconds:.1f} s after its end"
            )

    def await_end(self, count_lost_events: Callable[[], int]) -> None:
        """Wait until all its jobs are over, no instance of them runs and all events are received.

        Each wait is bounded. Raises `WatchEnded`.
        """
        title = self.outage.title
        deadline = max(self.ended_at, self.lasts_until) + self.form.terminal_seconds
        if self.recovery_seconds is None:
            deadline = max(self.ended_at, self.lasts_until) + SOON_SECONDS
        settle = self.form.settle_seconds
        if not self._progress.until(
            f"{title}: every job is over",
            max(SOON_SECONDS, deadline - time.time()),
            lambda: not self._poster.waiting and self._in_status(self.ids, TERMINAL),
            self._state,
        ):
            settle = SOON_SECONDS
        self._poster.stop()

        def all_received() -> bool:
            self.lost_events = count_lost_events()
            return self.lost_events == 0

        waits: tuple[tuple[str, Callable[[], bool]], ...] = (
            ("no instance of it runs", lambda: not self.living()),
            ("every event is received", all_received),
        )
        for what, holds in waits:
            self._progress.until(f"{title}: {what}", settle, holds, self._state)

    def living(self) -> list[int]:
        """Return the job of each running container of its jobs. Raises `WatchEnded`."""
        jobs = self.stage.watch.jobs_by_container()
        running = self.stage.deployment.instances(running=True)
        return [jobs[each] for each in running if jobs.get(each) in self.ids]

    def running(self) -> int:
        """Count its jobs that have a running instance, in the engine's own words.

        Raises `WatchEnded`.
        """
        return self.stage.watch.running(self.ids)

    def _state(self) -> str:
        waiting = self._poster.waiting
        return f"{self.running()} jobs running" + (f", {waiting} posts repeated" * bool(waiting))

    def _in_status(self, ids: set[int] | list[int], statuses: set[str] | frozenset[str]) -> bool:
        try:
            listed = self.stage.api.jobs(self.outage.name)
        except (NoAnswer, Refused):
            return False
        return {job["id"] for job in listed if job["status"] in statuses}.issuperset(ids)
