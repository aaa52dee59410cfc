"""A job's story in lines: one for each phase of each attempt, and the summary at its end. Pure.

A line is *settled* once its phase is over; the *live* line is that of the phase which lasts.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from docker_job.cli.status_words import LOOKS, Look
from docker_job.cli.story_line import (
    FAR_SECONDS,
    StoryLine,
    ahead_of,
    bought,
    first_line,
    on_demand,
    running,
    seconds_ahead,
    waits_for,
    was_due,
)
from docker_job.documents import Attempt, Job

DONE = Look("✓", "green")
ENDED = {
    "failed": "failed",
    "lost": "lost",
    "pull_failed": "pull failed",
    "interrupted": "interrupted",
}
"""The causes after which another attempt may follow, in words."""


class Story:
    """Turns the documents of one job, in their order, into lines.

    *live*: whether a live line shows the phase that lasts. Without one, the beginnings are lines.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._settled: set[tuple[Any, ...]] = set()
        self._pulled: dict[int, str] = {}
        self._job: Job | None = None
        self._fed_at: datetime | None = None

    @property
    def job(self) -> Job | None:
        """The newest document."""
        return self._job

    def feed(self, job: Job, now: datetime) -> list[StoryLine]:
        """Take the next document; return the lines that are settled with it."""
        self._job, self._fed_at = job, now
        lines: list[StoryLine] = []
        for attempt in job.attempts:
            if attempt.phase == "pulling" and attempt.phase_detail:
                self._pulled[attempt.number] = attempt.phase_detail
            lines += self._attempt(job, attempt, now)
        return lines

    def has_started(self, attempt: int) -> bool:
        """Return whether the container of this attempt is known to have started."""
        return self._job is not None and any(
            each["phase"] == "running" for each in _phases(self._job, attempt)
        )

    def settle_running(self, attempt: int) -> list[StoryLine]:
        """Return the line of the running container, once: output follows below it.

        The output of a quick container may come with its end, and no report that it runs.
        """
        if self._job is None or not self._is_new("phase", attempt, "running"):
            return []
        found = [each for each in _phases(self._job, attempt) if each["phase"] == "running"]
        return [running(float(found[0]["seconds"]) if found else 0.0)]

    def live_line(self, now: datetime) -> StoryLine | None:
        """Return the line of the phase that lasts; None once the job is over."""
        job = self._job
        if job is None or job.is_over:
            return None
        attempt = _current(job)
        # By the API's clock up to the document, by ours from then on: the two may differ.
        since = max(0.0, (now - (self._fed_at or now)).total_seconds())
        seconds = since + (float(attempt.phases[-1]["seconds"]) if attempt.phases else 0.0)
        return self._lasting(job, attempt, seconds, now)

    def _lasting(self, job: Job, attempt: Attempt, seconds: float, now: datetime) -> StoryLine:
        phase = attempt.phase
        look = LOOKS.get(phase, LOOKS["scheduled"])
        if phase == "running":
            return running(seconds)
        if phase == "scheduled":
            return StoryLine(look, phase, ahead_of(job, attempt, now))
        if phase == "waiting":
            return StoryLine(look, phase, waits_for(job, attempt, now))
        if phase == "launching":
            retry = job.waiting_because or ""
            return StoryLine(look, phase, retry if "retry" in retry else "", seconds)
        return StoryLine(look, phase, self._said(job, attempt, phase), seconds)

    def _attempt(self, job: Job, attempt: Attempt, now: datetime) -> Iterator[StoryLine]:
        number = attempt.number
        is_ended = attempt.phase == "ended" or job.is_over
        for index, phase in enumerate(attempt.phases):
            is_over = is_ended or index + 1 < len(attempt.phases)
            if not is_over:
                yield from self._begun(job, attempt, now)
            elif phase["phase"] == "launching" and _is_unknown(attempt):
                return
            elif self._is_new("phase", number, phase["phase"], *_again(attempt, index)):
                yield from self._ended(job, attempt, phase)
        yield from self._interruption(job, attempt)
        yield from self._failure(job, attempt)

    def _begun(self, job: Job, attempt: Attempt, now: datetime) -> Iterator[StoryLine]:
        """Say that a phase has begun, where no live line does."""
        if self._live:
            return
        phase, look = attempt.phase, LOOKS.get(attempt.phase, LOOKS["scheduled"])
        if phase == "running" and self._is_new("phase", attempt.number, phase):
            yield StoryLine(look, phase, "")
        elif phase == "waiting" and self._is_new("wait", attempt.number, job.waiting_because):
            yield StoryLine(look, phase, waits_for(job, attempt, now))
        elif _is_far(attempt, now) and self._is_new("ahead", attempt.number):
            yield StoryLine(look, phase, ahead_of(job, attempt, now))

    def _ended(self, job: Job, attempt: Attempt, phase: dict[str, Any]) -> Iterator[StoryLine]:
        name, seconds = phase["phase"], float(phase["seconds"])
        if name == "running":
            yield running(seconds)
        elif name == "stopping":
            yield StoryLine(LOOKS["stopping"], name, "", seconds)
        elif name == "pulling" and not _never_ran(attempt):
            yield StoryLine(DONE, name, self._pulled_all(job, attempt), seconds)
        elif name == "waiting":
            yield StoryLine(LOOKS["waiting"], "waited", "", seconds)
        elif name == attempt.phases[-1]["phase"] and _never_ran(attempt):
            yield StoryLine(LOOKS["failed"], name, self._said(job, attempt, name), seconds)
        else:
            aside = on_demand(attempt) if name == "launching" else ""
            yield StoryLine(DONE, name, self._said(job, attempt, name), seconds, aside)

    def _said(self, job: Job, attempt: Attempt, phase: str) -> str:
        if phase == "scheduled":
            return was_due(job, attempt)
        if phase == "launching":
            return bought(attempt)
        if phase == "booting":
            return attempt.instance_id or ""
        if phase == "pulling":
            amount = self._pulled.get(attempt.number, "").removeprefix("pulling ")
            return f"{job.docker_image}  {amount.partition(', ')[0]}".rstrip()
        return attempt.phase_detail or ""

    def _pulled_all(self, job: Job, attempt: Attempt) -> str:
        amount = re.search(r"of ([\d.,]+ \wB)", self._pulled.get(attempt.number, ""))
        if amount is None:
            return job.docker_image
        return f"{job.docker_image}  {amount[1].partition(' ')[0]} of {amount[1]}"

    def _interruption(self, job: Job, attempt: Attempt) -> Iterator[StoryLine]:
        if attempt.interrupted_at is None and attempt.cause != "interrupted":
            return
        if job.is_over and job.attempt == attempt.number:
            return
        if not self._is_new("interrupted", attempt.number):
            return
        at = attempt.interrupted_at
        notice = (
            f"Spot notice {at.astimezone():%H:%M:%S}" if at else first_line(attempt.error_message)
        )
        replacement = next((each for each in job.attempts if each.number > attempt.number), None)
        if replacement is not None:
            notice += f", replacement {replacement.phase} (attempt {replacement.number})"
        yield StoryLine(LOOKS["interrupted"], "interrupted", notice.strip(", "))

    def _failure(self, job: Job, attempt: Attempt) -> Iterator[StoryLine]:
        """Say why an attempt ended that is not the job's last."""
        cause = attempt.cause
        if cause not in ENDED or cause == "interrupted" or attempt.number >= job.attempt:
            return
        if self._is_new("failed", attempt.number):
            code = attempt.exit_code
            text = first_line(attempt.error_message) if code is None else f"exited {code}"
            yield StoryLine(
                LOOKS["failed"], ENDED[cause], f"{text}; attempt {attempt.number + 1} follows"
            )

    def _is_new(self, *key: Any) -> bool:
        if key in self._settled:
            return False
        self._settled.add(key)
        return True


def _is_far(attempt: Attempt, now: datetime) -> bool:
    return attempt.phase == "scheduled" and seconds_ahead(attempt, now) > FAR_SECONDS


def _again(attempt: Attempt, index: int) -> tuple[int, ...]:
    """Tell two phases of one name apart: an attempt may wait twice."""
    names = [each["phase"] for each in attempt.phases[:index]]
    before = names.count(attempt.phases[index]["phase"])
    return (before,) if before else ()


def _is_unknown(attempt: Attempt) -> bool:
    """Return whether the launch is not reported yet: an agent's first call may be faster."""
    return attempt.phase == "booting" and not attempt.instance_type


def _never_ran(attempt: Attempt) -> bool:
    """Return whether an attempt ended before its container ran: a quick one may show no phase."""
    return attempt.phase == "ended" and attempt.cause != "done" and attempt.exit_code is None


def _phases(job: Job, attempt: int) -> list[dict[str, Any]]:
    return next((each.phases for each in job.attempts if each.number == attempt), [])


def _current(job: Job) -> Attempt:
    return next(each for each in job.attempts if each.number == job.attempt)
