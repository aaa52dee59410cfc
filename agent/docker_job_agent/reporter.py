"""Reports to the API: heartbeats, phases and log lines."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .api import Api, is_decided, is_ours, is_outage, is_over, read_attempt_over
from .errors import UnreachableError
from .http_client import Answer
from .job import Settings
from .lines import OWN_STREAM, Line
from .log import log, now_utc
from .logs import LogBuffer
from .redraw import Piece
from .retries import backoff_seconds, jitter
from .spool import Spool

FLUSH_TRIES = 8  # last lines: refusals without an outage before the final callback goes ahead
AWAY_SECONDS = 5.0  # without an accepted report: lines go to the spool, nothing is blocked
BACK_PRESSURE_SECONDS = 30.0  # for which the API may block a container if the spool takes no more
ROOM_POLL_SECONDS = 1.0  # between two checks whether the child of a waiting reader has ended
IDLE_SECONDS = 3600.0
MAX_DETAIL_CHARACTERS = 200  # of a phase


class Reporter:
    """A thread that sends heartbeats, phases and log lines, whatever the container does.

    A batch keeps its number until the API has answered, so a repeat after a lost answer has no
    further effect.

    Back-pressure: while the API accepts reports, a reader of the container's output waits here when
    too many lines are unsent, and so the container waits: docker holds about 1 MB for an attached
    client and then blocks the container's writes (docker/cli, container_attach.md). While the API
    accepts none, lines go to the spool on the disk instead. If the disk takes no more either, the
    container waits for `BACK_PRESSURE_SECONDS`, and then the oldest lines are dropped.

    Once the API has answered that the attempt is over, it may still keep lines until the container
    is stopped (`kept`).
    """

    def __init__(
        self,
        api: Api,
        settings: Settings,
        on_over: Callable[[], None],
        spool_directory: str | None = None,
    ) -> None:
        self._api = api
        self._settings = settings
        self._on_over = on_over
        spool = None if spool_directory is None else Spool(spool_directory)
        self._logs = LogBuffer(settings.log_limit_bytes, settings.error_tail_lines, spool)
        self._wake = threading.Condition()  # guards all below
        self._phases: deque[str] = deque()
        self._detail: Callable[[], str] = str  # of the phase; empty: none
        self._sent_detail = ""
        self._batch: list[Line] = []  # out of the buffer, without an answer yet
        self._left_out: dict[str, int] | None = None  # just before that batch
        self._seq = 0
        self._first_unsent_at: float | None = None
        self._next_beat_at = time.monotonic() + settings.heartbeat_seconds
        self._not_before = 0.0
        self._accepted_at = time.monotonic()  # when the API last accepted a report
        self._failures = 0  # since the API last accepted a report
        self._refusals = 0  # of these, those without an outage
        self._over = False  # the attempt is over …
        self._ended = False  # … and nothing more of it is kept
        self._closing = False
        self._back_pressure_ended = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def report_phase(self, name: str) -> None:
        """Report a phase at once."""
        with self._wake:
            if not self._over:
                self._phases.append(name)
                self._detail, self._sent_detail = str, ""
                self._wake.notify_all()

    def show_detail(self, detail: Callable[[], str]) -> None:
        """Send what *detail* returns with the heartbeats of this phase, if it has changed."""
        with self._wake:
            self._detail = detail

    def add_line(self, stream: str, piece: Piece) -> None:
        """Add a line, or a piece of one, to the next batch, which is sent at once if it is full."""
        line = Line(now_utc().isoformat(), stream, piece.text, piece.continues)
        with self._wake:
            was_full = self._logs.has_full_batch
            self._logs.add(line, redrawn=piece.redrawn)
            if self._first_unsent_at is None:
                self._first_unsent_at = time.monotonic()
                self._wake.notify_all()
            elif self._logs.has_full_batch and not was_full:
                self._wake.notify_all()

    def add_note(self, text: str) -> None:
        """Add a line of the agent's own, which is marked as such."""
        self.add_line(OWN_STREAM, Piece(f"[docker-job: {text}]"))

    def wait_for_room(self, stop_waiting: Callable[[], bool]) -> None:
        """Wait while too many lines are unsent, unless the API accepts none or `stop_waiting()`."""
        with self._wake:
            while self._logs.is_full and self._applies_back_pressure() and not stop_waiting():
                self._wake.wait(ROOM_POLL_SECONDS)

    def end_back_pressure(self) -> None:
        """End the back-pressure of a container that is being stopped.

        It must not spend its grace on waiting for us, and an engine cannot kill a container whose
        output is not read. https://github.com/moby/moby/issues/41827
        """
        with self._wake:
            self._back_pressure_ended = True
            self._logs.drop_reason = "the container was being stopped"
            self._wake.notify_all()

    @property
    def has_ended(self) -> bool:
        """Return whether the API keeps nothing more of the attempt."""
        with self._wake:
            return self._ended

    def tail(self) -> list[str]:
        """Return the last lines of the output, for an error message."""
        with self._wake:
            return self._logs.tail()

    def finish(self, seconds: float | None = None) -> None:
        """Send the remaining lines, until they are accepted, given up, or `seconds` have passed."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(seconds)

    def _applies_back_pressure(self) -> bool:
        if self._ended or self._back_pressure_ended:
            return False
        silent = time.monotonic() - self._accepted_at
        if self._logs.can_spool:
            return not self._failures and silent < AWAY_SECONDS
        return silent < BACK_PRESSURE_SECONDS

    def _run(self) -> None:
        while True:
            try:
                if not self._send_next():
                    self._api.close()
                    return
            except Exception as error:  # noqa: BLE001 - heartbeats must go on
                log("reporter fault", error=type(error).__name__)
                self._record_failure("the agent failed")

    def _send_next(self) -> bool:
        """Wait until a report is due, and send it; return False when no other will be."""
        with self._wake:
            while (left := self._due_at() - time.monotonic()) > 0:
                self._wake.wait(left)
            if self._closing and self._is_done():
                unsent = len(self._batch) + len(self._logs)
                if unsent:
                    log("the last lines were not taken", lines=unsent)
                return False
            self._fill_batch()
            phase = self._phases[0] if self._phases else None
            logs = self._logs_body()
            detail = self._changed_detail()
        try:
            answer = self._api.report(phase, logs, detail)
        except UnreachableError as error:
            log("report not received", trouble=str(error))
            self._record_failure("the API did not answer", counts=False)
            return True
        if detail is not None and answer.status < 300:
            self._sent_detail = detail
        return self._handle_answer(answer, phase)

    def _changed_detail(self) -> str | None:
        """Return the phase's detail if the API does not have it; it goes after the phase."""
        detail = "" if self._phases else self._detail()[:MAX_DETAIL_CHARACTERS]
        return detail if detail not in ("", self._sent_detail) else None

    def _due_at(self) -> float:
        due = time.monotonic() + IDLE_SECONDS if self._over else self._next_beat_at
        if self._phases or self._closing or self._logs.has_full_batch:
            due = 0.0
        elif self._batch or self._first_unsent_at is not None:
            due = min(due, (self._first_unsent_at or 0.0) + self._settings.log_batch_seconds)
        return max(due, self._not_before)

    def _is_done(self) -> bool:
        return not (self._phases or self._batch or len(self._logs)) or self._refusals >= FLUSH_TRIES

    def _fill_batch(self) -> None:
        if self._batch:
            return
        self._batch = self._logs.take_batch()
        if self._batch:
            self._left_out = self._logs.take_left_out()
            self._seq += 1
        self._first_unsent_at = time.monotonic() if len(self._logs) else None
        self._wake.notify_all()

    def _logs_body(self) -> dict[str, Any] | None:
        if not self._batch:
            return None
        body = {"seq": self._seq, "lines": [line.as_json() for line in self._batch]}
        return {**body, "left_out": self._left_out} if self._left_out else body

    def _handle_answer(self, answer: Answer, phase: str | None) -> bool:
        status = answer.status
        if is_over(answer):
            return self._handle_over(answer)
        if not is_decided(answer):
            log("report not received", trouble=f"status {status}", by_the_api=is_ours(answer))
            self._record_failure(f"the API answered {status}", counts=_is_refusal(answer))
            return True
        with self._wake:
            if status >= 300:  # refused: a repeat would be refused too
                log("report refused", status=status, lines=len(self._batch))
                lines = sum(line.stream != OWN_STREAM for line in self._batch)
                self._logs.record_lost(lines, f"the API refused them with {status}")
            if phase is not None:
                self._phases.popleft()
            self._record_accepted()
        return True

    def _handle_over(self, answer: Answer) -> bool:
        """Record that the attempt is over; return False if nothing more of it is kept."""
        cause, kept = read_attempt_over(answer.json())
        with self._wake:
            if not self._over:
                log("the attempt is over", status=answer.status, cause=cause)
            self._over = True
            self._ended = cause is None or (bool(self._batch) and not kept)
            self._phases.clear()
            self._record_accepted()
        self._on_over()
        return not self._ended

    def _record_accepted(self) -> None:
        self._batch = []
        self._failures, self._refusals, self._not_before = 0, 0, 0.0
        self._accepted_at = time.monotonic()
        self._next_beat_at = self._accepted_at + self._settings.heartbeat_seconds
        self._wake.notify_all()

    def _record_failure(self, reason: str, *, counts: bool = True) -> None:
        """Wait longer before the next try.

        Only refusals without an outage count towards giving up the last lines: during an outage of
        the API or its database, the final callback behind them would not be accepted either.
        """
        with self._wake:
            self._failures += 1
            self._refusals += counts
            self._logs.drop_reason = reason
            wait = backoff_seconds(self._failures, jitter())
            self._not_before = time.monotonic() + min(wait, self._settings.heartbeat_seconds)


def _is_refusal(answer: Answer) -> bool:
    """Return whether the API itself cannot take this report, and answers others."""
    return is_ours(answer) and not is_outage(answer.status)
