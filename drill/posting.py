"""Jobs that are posted during an outage: each again and again, with its key, until accepted."""

import threading
from collections.abc import Mapping

from drill.api import Api, NoAnswer, Refused
from drill.plan import PlannedJob

PAUSE_SECONDS = 1.0


class Poster:
    """Posts single jobs in threads, since a call may hang for as long as the outage lasts."""

    def __init__(self, api: Api, wave: str) -> None:
        self._api = api
        self._wave = wave
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._accepted: dict[str, int] = {}
        self.refusals: dict[str, str] = {}
        """The answers that refused a job for good, by its key."""
        self.repeats = 0
        """How many requests had no answer and were sent again."""

    def post(self, job: PlannedJob) -> None:
        """Post it in a thread, until it is accepted."""
        thread = threading.Thread(target=self._until_accepted, args=(job,), daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def accepted(self) -> Mapping[str, int]:
        """Return the ids of the accepted jobs, by their keys."""
        return dict(self._accepted)

    @property
    def waiting(self) -> int:
        """Return how many requests are not accepted yet."""
        return sum(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Give up on what is not accepted yet."""
        self._stopped.set()

    def _until_accepted(self, job: PlannedJob) -> None:
        while not self._stopped.is_set():
            try:
                answer = self._api.post(job.request(self._wave), job.key)
                self._accepted[job.key] = int(answer["id"])
            except NoAnswer:
                self.repeats += 1
                self._stopped.wait(PAUSE_SECONDS)
            except Refused as error:
                self.refusals[job.key] = str(error)
                return
            else:
                return
