"""Fixtures for whole scenarios."""

from collections.abc import Iterator

import pytest

from tests.support.run.state import this_run
from tests.support.servers.metadata_service import MetadataService
from tests.support.systems.compose_project import BuiltClone, what_is_missing
from tests.support.systems.embedded_system import EmbeddedSystem


@pytest.fixture
def system() -> Iterator[EmbeddedSystem]:
    """Make a system with the simulated runtime, not started yet."""
    system = EmbeddedSystem(
        RUNTIME="simulated",
        HEARTBEAT_SECONDS="1",
        METADATA_POLL_SECONDS="0.2",
        # What a killed process has claimed is due again after a few of these.
        LAUNCH_CALL_SECONDS="5",
        LAUNCH_PLAN_SECONDS="5",
        REAP_CALL_SECONDS="3",
    )
    yield system
    system.close()


@pytest.fixture
def metadata() -> Iterator[MetadataService]:
    """Make a metadata service for this test alone."""
    service = MetadataService()
    yield service
    service.close()


@pytest.fixture(scope="session")
def clone() -> BuiltClone:
    """Make a fresh clone with built images; skip if this machine cannot run compose."""
    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    return BuiltClone(this_run().shared("clone", lambda: BuiltClone.make().facts))
