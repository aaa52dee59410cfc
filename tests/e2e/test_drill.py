"""`make drill` in its short form: every outage on a compose deployment, with running jobs."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from drill.outages import OUTAGES
from drill.table import COLUMNS
from tests.support.run.state import this_run
from tests.support.systems.compose_project import docker, what_is_missing

ROOT = Path(__file__).resolve().parents[2]
DRILL_SECONDS = 1800

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(DRILL_SECONDS + 60)]


@pytest.fixture
def name() -> str:
    """Return the name of the project, of which nothing stays if the drill is killed."""
    missing = what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    name = f"docker-job-drill-{uuid.uuid4().hex[:8]}"
    this_run().note("project", name)
    this_run().note("image", f"docker-job:{name}")
    this_run().note("image", f"docker-job-instance:{name}")
    return name


def test_in_each_outage_nothing_is_lost_run_twice_or_left_over(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "drill", "--short", "--name", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=DRILL_SECONDS,
    )
    print(done.stdout)
    lines = done.stdout.splitlines()
    table = lines[next(n for n, line in enumerate(lines) if line.startswith(COLUMNS[0])) :]
    rows = dict(zip((outage.title for outage in OUTAGES), table[1:], strict=False))
    assert len(rows) == len(OUTAGES)
    for title, row in rows.items():
        assert row.startswith(title)
        _seconds, jobs, *zeros, recovered = row.removeprefix(title).split()
        assert int(jobs) > 20
        assert zeros == ["0"] * 5, row
        assert float(recovered) < 90
    assert done.returncode == 0, done.stdout + done.stderr
    for label in (f"com.docker.compose.project={name}", f"docker-job.deployment={name}"):
        assert docker("ps", "--all", "--quiet", "--filter", f"label={label}") == ""
        assert docker("volume", "ls", "--quiet", "--filter", f"label={label}") == ""
    assert docker("image", "ls", "--quiet", f"docker-job:{name}") == ""
