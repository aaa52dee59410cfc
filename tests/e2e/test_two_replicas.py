"""Two replicas of the API behind a proxy: one address, whichever of them lives."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import httpx
import pytest

from shared import tokens
from shared.postgres.pool import connect
from tests.support.servers.rabbitmq_server import Brokers
from tests.support.systems.event_source import EventSource
from tests.support.systems.two_replicas import FAST, TwoReplicas, two_replicas
from tests.support.waiting import until

LINES = 300
KILLED_AT = 100
JOBS = 20


@pytest.fixture(scope="module")
def system(postgres_server: str, template_database: str, brokers: Brokers) -> Iterator[TwoReplicas]:
    with two_replicas(postgres_server, template_database, brokers.best()) as system:
        yield system


class OwnAgent:
    """The agent of a job that no instance runs: its calls are repeated until they are answered."""

    def __init__(self, system: TwoReplicas) -> None:
        self.job_id = system.schedule("+1d", name="followed")
        system.make_due(self.job_id)  # before that its token claims nothing
        self._http = httpx.Client(base_url=system.address, timeout=30)
        self._token = tokens.token_hash("an agent").hex()
        bearer = tokens.bootstrap_token(FAST["TOKEN_KEY"], FAST["DEPLOYMENT"], self.job_id, 1)
        claim = {"job_id": self.job_id, "attempt": 1, "instance_id": "i-own", "token": self._token}
        self._call("POST", "/agent/claim", claim | {"runtime": "simulated"}, bearer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._http.close()

    def report(self, **body: Any) -> None:
        self._call("POST", f"/agent/jobs/{self.job_id}/report", body, self._token)

    def print(self, number: int) -> None:
        """Report one line: its number, in a batch with the same number."""
        line = {"at": "2026-01-01T00:00:00Z", "stream": "stdout", "text": str(number)}
        self.report(phase=None, logs={"seq": number, "lines": [line]})

    def done(self) -> None:
        self._call("PUT", f"/callback/{self.job_id}", {}, self._token)

    def _call(self, method: str, path: str, body: dict[str, Any], bearer: str) -> None:
        def is_answered() -> bool:
            headers = {"Authorization": f"Bearer {bearer}"}
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                return False
            assert answer.status_code in (200, 503), answer.text
            return answer.status_code == 200

        until(is_answered, what=path)


class Followed:
    """What a follower has read so far."""

    def __init__(self, source: EventSource) -> None:
        self.source = source
        self.lines: list[str] = []
        self.changes: list[tuple[int, str, str]] = []

    def read_log(self) -> None:
        """Read a log to its end."""
        for event in self.source.read():
            if event.name == "message":
                self.lines += [line["text"] for line in event.data]

    def read_changes(self, last: tuple[int, str]) -> None:
        """Read changes until the job has the status *last*."""
        for event in self.source.read():
            assert event.name == "change", event
            [change] = event.data
            self.changes.append((change["id"], change["status"], change["phase"]))
            if (change["id"], change["status"]) == last:
                return


def committed(system: TwoReplicas, first_id: str) -> list[tuple[int, str, str]]:
    """Return the changes behind the place with the id *first_id*, in order."""

    async def load() -> list[tuple[int, str, str]]:
        conn = await connect(system.database_url)
        try:
            rows = await conn.fetch(
                "SELECT job_id, status, phase FROM api.job_changes WHERE position > $1"
                " ORDER BY position",
                int(first_id.partition(".")[2]),
            )
        finally:
            await conn.close()
        return [tuple(row) for row in rows]

    return asyncio.run(load())


def test_a_job_is_done_whichever_replica_is_asked(system: TwoReplicas) -> None:
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "0"})
    assert system.follow(job_id)["status"] == "DONE"


def test_with_one_killed_in_the_middle_no_line_and_no_change_is_lost_or_doubled(
    system: TwoReplicas,
) -> None:
    system.proxy.only = 0
    with OwnAgent(system) as agent, ThreadPoolExecutor() as threads:
        agent.report(phase="running")
        log = Followed(EventSource(system.address, f"/jobs/{agent.job_id}/logs?follow=1"))
        events = Followed(EventSource(system.address, "/events"))
        following: list[Future[None]] = [
            threads.submit(log.read_log),
            threads.submit(events.read_changes, (agent.job_id, "DONE")),
        ]
        until(lambda: events.source.first_id and log.source.connected)
        system.proxy.only = None
        for number in range(1, LINES + 1):
            agent.print(number)
            if number == KILLED_AT:
                until(lambda: len(log.lines) > KILLED_AT // 2)
                system.kill(0)
            if number % (LINES // JOBS) == 0:
                system.http.delete(f"/jobs/{system.schedule('+1d')}")
        agent.done()
        for each in following:
            each.result(timeout=60)
    system.start(0)
    assert log.lines == [str(number) for number in range(1, LINES + 1)]
    assert events.changes == committed(system, events.source.first_id)
    assert len(events.changes) == 2 * JOBS + 1
    # Each connected again once; the log's reader also asked once more behind the end.
    assert (log.source.connected, events.source.connected) == (3, 2)
