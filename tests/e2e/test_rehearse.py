"""`make rehearse`'s program: the scenario of one job on the fake AWS, reported with its bill."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.__main__ import IMAGES, local_image

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_SECONDS = 60
EVENTS = (
    *("JobScheduled", "InstanceRequested", "InstanceLaunched", "JobStarted"),
    *("InstanceInterrupted", "AttemptEnded", "InstanceTerminated", "JobFinished"),
)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="docker-job-e2e-") as made:
        Path(made).chmod(0o711)  # the embedded Postgres of a root is another user's
        yield Path(made)


def rehearse(
    directory: Path, *options: str, seconds: float = 2 * MOST_SECONDS
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "rehearsal", *options],
        cwd=ROOT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def test_one_job_is_interrupted_comes_back_and_finishes_and_the_bill_is_the_clouds(
    directory: Path,
) -> None:
    done = rehearse(directory)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("No instance is running: EC2 says so.\n")
    rows = [line.split() for line in done.stdout.splitlines()]
    events = [row[1] for row in rows if len(row) > 1 and row[1] in EVENTS]
    assert set(events) == set(EVENTS)
    assert events.count("InstanceLaunched") == events.count("InstanceTerminated") == 2
    figures = dict(re.findall(r"^  (cost_usd|ledger) +([0-9.]+)", done.stdout, re.MULTILINE))
    assert float(figures["cost_usd"]) == float(figures["ledger"]) > 0
    assert list(directory.iterdir()) == []


def test_a_job_that_ends_before_it_is_taken_is_a_deviation_and_no_success(directory: Path) -> None:
    done = rehearse(directory, "--simulated", "--seconds", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "DEVIATION: job 1 ended DONE before attempt 2 runs" in done.stderr
    assert "No instance is running" not in done.stdout


@pytest.mark.campaign
@pytest.mark.timeout(500)
@pytest.mark.parametrize("how", [(), ("--simulated",)], ids=["as documented", "simulated"])
def test_all_jobs_of_the_hard_day_are_done_and_the_bill_is_the_clouds(
    directory: Path, how: tuple[str, ...]
) -> None:
    if not how and not local_image(IMAGES):
        pytest.skip("no engine with an image: the command would simulate, as the other case does")
    done = rehearse(directory, "--scenario", "hard", *how, seconds=460)
    print(done.stdout)
    runs = "is simulated" if how else "on this machine's Docker engine"
    assert runs in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("No instance is running: EC2 says so.\n")
    figures = dict(re.findall(r"^  (cost_usd|ledger) +([0-9.]+)", done.stdout, re.MULTILINE))
    assert float(figures["cost_usd"]) == float(figures["ledger"]) > 0
    for word in ("PendingVerification", "L-E3A00192", "first hour", "its console ended:"):
        assert word in done.stdout
    bills = [row.split()[-5:-2] for row in done.stdout.splitlines() if row.startswith("  i-")]
    assert len(bills) == 9
    assert all(float(usd) > 0 for _, *others in bills for usd in others), "IPv4 and disk"
    assert [float(itself) for itself, *_ in bills].count(0) == 1, "the first hour"
    assert list(directory.iterdir()) == []
