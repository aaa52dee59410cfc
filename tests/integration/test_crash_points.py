"""Points: awaited by tests, and where a process ends."""

import asyncio
import subprocess
import sys

import pytest

from shared.crash_points import EXIT_STATUS, ExitPoint, NoPoints, WatchedPoints, points_from


async def test_a_test_awaits_a_point_instead_of_sleeping() -> None:
    points = WatchedPoints()
    waiting = asyncio.create_task(points.wait_for("committed", 2))
    points.reached("committed")
    points.reached("something else")
    await asyncio.sleep(0)
    assert not waiting.done()
    points.reached("committed")
    await waiting
    assert points.counts["committed"] == 2


@pytest.mark.parametrize(("spec", "passes"), [("here", 1), ("here:3", 3)])
def test_an_exit_point_ends_the_process_at_once_at_its_nth_passing(spec: str, passes: int) -> None:
    program = (
        "import sys; from shared.crash_points import points_from\n"
        f"points = points_from({spec!r})\n"
        "try:\n"
        "    for number in range(1, 10):\n"
        "        points.reached('elsewhere')\n"
        "        print(number, flush=True)\n"
        "        points.reached('here')\n"
        "finally:\n"
        "    print('finally', flush=True)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == EXIT_STATUS
    assert run.stdout.split() == [str(number) for number in range(1, passes + 1)]


def test_without_a_spec_nothing_watches() -> None:
    assert isinstance(points_from(None), NoPoints)
    assert isinstance(points_from(""), NoPoints)
    assert isinstance(points_from("here"), ExitPoint)
