"""The watch for the Spot interruption notice."""

from __future__ import annotations

import threading

from .api import Api, call_until_answered, is_definite, is_over
from .job import Settings
from .log import log, now_utc
from .metadata import Metadata, Notice, parse_notice, seconds_until_stop
from .situation import Situation


class NoticeWatcher:
    """Asks for the spot notice until it comes, tells the main thread, then the API until it hears.

    Both from this thread: nothing that the container or the logs do may delay the word.
    """

    def __init__(
        self, metadata: Metadata, api: Api, settings: Settings, situation: Situation
    ) -> None:
        self._metadata = metadata
        self._api = api
        self._settings = settings
        self._situation = situation
        self._closed = threading.Event()
        self._rebalance_seen = False
        self._troubled = False

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="notice", daemon=True).start()

    def close(self) -> None:
        """Watch no more, and leave the word about the end to the last callback."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            notice = self._look()
            if notice is not None and not self._closed.is_set():
                self._tell(notice)
                return
            self._closed.wait(self._settings.metadata_poll_seconds)

    def _look(self) -> Notice | None:
        """Ask once. Whatever goes wrong, there is a next time."""
        try:
            text = self._metadata.get(Metadata.NOTICE_PATH)
            notice = parse_notice(text, now_utc()) if text else None
            if notice is None and not self._rebalance_seen:
                self._look_for_rebalance()
            self._troubled = False
        except Exception as error:  # noqa: BLE001 - a missed notice costs the job; never die
            if not self._troubled:  # said once, not every poll
                log("metadata service does not answer", error=type(error).__name__)
            self._troubled = True
            return None
        return notice

    def _look_for_rebalance(self) -> None:
        """Say it once; what was not heard is said again at the next look."""
        if self._metadata.get(Metadata.REBALANCE_PATH):
            self._rebalance_seen = is_definite(self._api.recommend_rebalance().status)
            log("rebalance recommended", heard=self._rebalance_seen)

    def _tell(self, notice: Notice) -> None:
        left = seconds_until_stop(notice, self._settings.interruption_margin_seconds, now_utc())
        log("interruption notice", action=notice.action, time=notice.at, stop_in_seconds=left)
        self._situation.record_notice(notice, left)
        answer = call_until_answered(
            "interruption", lambda: self._api.callback({"schedule": ""}), self._closed.wait
        )
        if answer is not None and is_over(answer.status):
            self._situation.record_over()
