"""`make doctor` on the strict cloud: all is well, and each fault is found by its own check."""

from collections.abc import Iterator

import pytest

from operations.doctor import report
from tests.support.compute.doctor_world import DoctorWorld


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[DoctorWorld]:
    made = DoctorWorld(monkeypatch)
    yield made
    made.close()


async def test_a_healthy_installation_has_only_good_lines(world: DoctorWorld) -> None:
    await world.launch()
    found = await world.findings()
    for line in report.lines(list(found.values())):
        print(line)
    assert [each for each in found.values() if each.status != "ok"] == []
    assert report.exit_status(list(found.values())) == 0
