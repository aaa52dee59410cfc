"""The parts of `make bench` around the measurements: command, CPU times, order, baseline."""

import asyncio
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from bench.__main__ import arguments_from
from bench.baseline import NoBaseline, checked_out, compile_all, ours_first
from bench.cpu import Meter, find, us_a_job
from bench.memory import children, pss_bytes, tree_bytes
from bench.peer import installed
from bench.servers import Missing


def test_by_default_all_is_measured_five_times() -> None:
    arguments = arguments_from([])
    assert arguments.only == [
        *("accept", "due", "life", "reads"),
        *("growth", "lists", "bloat", "memory"),
    ]
    assert arguments.runs == 5


def test_quick_is_once_unless_more_is_asked_for() -> None:
    assert arguments_from(["--quick"]).runs == 1
    assert arguments_from(["--quick", "--runs", "3"]).runs == 3


@pytest.mark.parametrize(
    "given", [["--only", "acept"], ["--runs", "0"], ["--runs", "-1"], ["--peer", "celery"]]
)
def test_what_cannot_be_measured_is_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments_from(given)


def test_cpu_time_a_job_is_of_the_time_between_two_readings() -> None:
    assert us_a_job({"api": 1.0, "reaper": 2.0}, {"api": 1.5, "reaper": 2.0}, 1000) == {
        "api": pytest.approx(500),
        "reaper": 0,
    }


def test_a_meter_reads_this_process_and_nothing_of_one_that_has_ended() -> None:
    reading = Meter({"this": os.getpid(), "gone": 2**22 + 1}).read()
    assert reading["this"] > 0
    assert reading["gone"] == 0


def test_the_memory_of_a_service_is_that_of_all_of_its_processes() -> None:
    alone = pss_bytes(os.getpid())
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert child.pid in children(os.getpid())
        assert tree_bytes(os.getpid()) > pss_bytes(child.pid) > 0
    assert child.pid not in children(os.getpid())
    assert alone > 0


def test_a_process_is_found_by_its_name_and_its_own_number() -> None:
    this = psutil.Process()
    found = find(this.name(), os.getpid())
    assert found is not None
    assert found.pid == this.pid
    assert find("no such name", os.getpid()) is None


def test_ours_and_the_baseline_take_turns_at_going_first() -> None:
    assert [ours_first(run) for run in (1, 2, 3, 4)] == [False, True, False, True]


def git(repository: Path, *arguments: str) -> str:
    login = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *login, *arguments], cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with two commits, which pin different packages."""
    here = tmp_path / "repository"
    here.mkdir()
    git(here, "init", "--quiet")
    for pinned in ("msgspec==1", "msgspec==2"):
        (here / "requirements.txt").write_text(pinned)
        git(here, "add", ".")
        git(here, "commit", "--quiet", "--message", pinned)
    return here


def test_a_baseline_is_checked_out_aside_and_gone_afterwards(repository: Path) -> None:
    first = git(repository, "rev-parse", "--short", "HEAD~1")
    with checked_out("HEAD~1", repository) as baseline:
        assert (baseline.tree / "requirements.txt").read_text() == "msgspec==1"
        assert (baseline.commit, baseline.same_packages) == (first, False)
    assert not baseline.tree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert (repository / "requirements.txt").read_text() == "msgspec==2"


def test_a_tree_is_compiled_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    source = tmp_path / "shared" / "module.py"
    source.parent.mkdir()
    source.write_text("")
    compile_all(tmp_path)
    assert [each.name.split(".")[0] for each in tmp_path.rglob("*.pyc")] == ["module"]
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ


def test_without_node_a_line_says_what_a_peer_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def install() -> None:
        async with installed("graphile-worker"):
            pass

    with pytest.raises(Missing, match="--peer needs Node and npm"):
        asyncio.run(install())


def test_a_missing_commit_is_reported_in_a_line(repository: Path) -> None:
    with (
        pytest.raises(NoBaseline, match="nowhere"),
        checked_out("nowhere", repository),
    ):
        pass
