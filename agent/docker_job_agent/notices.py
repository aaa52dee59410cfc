"""Polling for the Spot interruption notice."""

from __future__ import annotations

import threading

from .api import Api, call_until_answered, is_decided, is_over
from .job import Settings
from .log import log, now_utc
from .metadata import Metadata, Notice, parse_notice, seconds_until_stop
from .situation import Situation


class NoticeWatcher:
    """A thread that polls for the interruption notice and reports it.

    It informs the main thread, then calls the API itself: nothing that the container or the logs
    do may delay the call.
    """

    def __init__(
        self, metadata: Metadata, api: Api, settings: Settings, situation: Situation
    ) -> None:
        self._metadata = metadata
        self._api = api
        self._settings = settings
        self._situation = situation
        self._closed = threading.Event()
        self._rebalance_reported = False
        self._failing = False

    def start(self) -> None:
        """Start polling."""
        threading.Thread(target=self._run, name="notice", daemon=True).start()

    def close(self) -> None:
        """Stop polling, and leave the report of the end to the final callback."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            found = self._poll()
            if found is not None and not self._closed.is_set():
                self._report(*found)
                return
            self._closed.wait(self._settings.metadata_poll_seconds)

    def _poll(self) -> tuple[Notice, float, float] | None:
        """Return the notice and the seconds until the stop and until EC2's, if there is one.

        After any failure there is a next poll. From here on only durations count: a step of the
        instance's clock moves no stop.
        """
        try:
            found = self._read_notice()
            if found is None and not self._rebalance_reported:
                self._report_rebalance()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - polling must go on
            if not self._failing:  # logged once, not at every poll
                log("metadata service does not answer", error=type(error).__name__)
            self._failing = True
            return None
        return found

    def _read_notice(self) -> tuple[Notice, float, float] | None:
        reading = self._metadata.read(Metadata.NOTICE_PATH)
        if reading is None:
            return None
        now, margin = now_utc(), self._settings.interruption_margin_seconds
        notice = parse_notice(reading.text, reading.served_at or now)
        if notice is None:
            return None
        left = seconds_until_stop(notice, 0.0, now, reading.served_at)
        return notice, max(0.0, left - margin), left

    def _report_rebalance(self) -> None:
        """Report a rebalance recommendation, at each poll until the API has received it."""
        if self._metadata.get(Metadata.REBALANCE_PATH):
            self._rebalance_reported = is_decided(self._api.recommend_rebalance())
            log("rebalance recommended", reported=self._rebalance_reported)

    def _report(self, notice: Notice, left: float, instance_left: float) -> None:
        log("interruption notice", action=notice.action, time=notice.at, stop_in_seconds=left)
        self._situation.record_notice(notice, left, instance_left)
        answer = call_until_answered(
            "interruption", lambda: self._api.callback({"schedule": ""}), self._closed.wait
        )
        if answer is not None and is_over(answer):
            self._situation.record_over()
