"""Two replicas of the API behind a proxy: one address, whichever of them lives."""

from collections.abc import Iterator

import pytest

from tests.support.servers.rabbitmq_server import Brokers
from tests.support.systems.two_replicas import TwoReplicas, two_replicas


@pytest.fixture(scope="module")
def system(postgres_server: str, template_database: str, brokers: Brokers) -> Iterator[TwoReplicas]:
    with two_replicas(postgres_server, template_database, brokers.best()) as system:
        yield system


def test_a_job_is_done_whichever_replica_is_asked(system: TwoReplicas) -> None:
    job_id = system.schedule(env_vars={"SIMULATE_SECONDS": "0"})
    assert system.follow(job_id)["status"] == "DONE"
