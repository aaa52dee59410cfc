"""Services killed, restarted or cut off under `docker compose`, with jobs in flight each time.

Instances are virtual, in a cloud that is served in a container of its own: it outlives launcher and
reaper as a real one does, its agents speak the real protocol, and it knows what really happened.
A killed container is not started again by its engine, which takes `docker kill` for the wish to
have it stopped; so the test does that.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.systems.compose_cloud import CLOUD, TRUTH, run_script
from tests.support.systems.compose_project import (
    OURS,
    BuiltClone,
    ComposeProject,
    compose_project,
    docker,
)
from tests.support.systems.traces import ALL_FIGURES, ZERO
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)

JOBS = 200
A_FEW_JOBS = 40
SEED = 20261124
CUT_SECONDS = 20
END_SECONDS = 150
WORKERS = ("scheduler", "launcher", "reaper")


@pytest.fixture(scope="module")
def project(
    clone: BuiltClone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposeProject]:
    """Start the project with a virtual cloud; its calls time out soon, and with them leases."""
    file = tmp_path_factory.mktemp("cloud") / "cloud.yaml"
    file.write_text(CLOUD)
    with compose_project(
        clone,
        Path(file),
        COMPUTE_URL="sim://cloud:7000",
        ENGINE_SOCKET="/dev/null",  # as one would with ec2://
        LAUNCH_CALL_SECONDS="2",
        REAP_CALL_SECONDS="2",
        HEARTBEAT_SECONDS="2",
    ) as project:
        project.up()
        yield project


class FaultTable:
    """The figures of each fault, printed at the end as a table."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, int, int, int]] = []

    def print(self) -> None:
        """Print a row for each fault, and the sum."""
        print(f"\n{'fault':<34}{'in flight':>10}{'lost':>6}{'doubled':>9}{'leaked':>8}")
        for fault, jobs, lost, doubled, leaked in self.rows:
            print(f"{fault:<34}{jobs:>10}{lost:>6}{doubled:>9}{leaked:>8}")
        sums = [sum(column) for column in zip(*(row[1:] for row in self.rows), strict=True)]
        names = ("jobs", "lost", "doubled", "leaked")
        figures = ", ".join(f"{name} {each}" for name, each in zip(names, sums, strict=False))
        print(f"faults {len(self.rows)}, {figures}; seed {SEED}")


@pytest.fixture(scope="module")
def table() -> Iterator[FaultTable]:
    """Make the table, printed after the last fault."""
    table = FaultTable()
    yield table
    table.print()


def kill(service: str) -> Callable[[ComposeProject], None]:
    """Run `docker kill`, and the start that an operator would make after it."""

    def act(project: ComposeProject) -> None:
        docker("kill", project.container(service))
        docker("start", project.container(service))

    return act


def restart(service: str) -> Callable[[ComposeProject], None]:
    """Run `docker restart`."""

    def act(project: ComposeProject) -> None:
        docker("restart", project.container(service))

    return act


def cut_off_the_broker(project: ComposeProject) -> None:
    """Take the broker's network away for 20 s: connections hang, nothing closes them."""
    network, broker = f"{project.name}_inside", project.container("rabbitmq")
    docker("network", "disconnect", network, broker)
    project.sql(f"SELECT pg_sleep({CUT_SECONDS})", seconds=CUT_SECONDS + 30)
    docker("network", "connect", "--alias", "rabbitmq", network, broker)


FAULTS: dict[str, Callable[[ComposeProject], None]] = {
    **{f"docker kill {service}": kill(service) for service in (*OURS, "rabbitmq", "postgres")},
    "docker restart rabbitmq": restart("rabbitmq"),
    "docker restart postgres": restart("postgres"),
    f"broker cut off for {CUT_SECONDS} s": cut_off_the_broker,
}


def test_with_40_jobs_in_flight_each_kind_of_fault_loses_doubles_and_leaks_nothing(
    project: ComposeProject, table: FaultTable
) -> None:
    """Kill a service, the broker and the database at once: the campaign has each of them alone."""
    fault = "launcher, broker and database killed"
    first = post_jobs(project, fault, A_FEW_JOBS)
    for service in ("launcher", "rabbitmq", "postgres"):
        kill(service)(project)
    prove(project, table, fault, first, A_FEW_JOBS)


def test_what_a_backup_knows_is_there_after_the_restore_and_nothing_else(
    project: ComposeProject, tmp_path: Path
) -> None:
    """Short form of test_restore.py's scenario, which has jobs in flight."""
    known = project.schedule(env_vars={"SIMULATE_SECONDS": "0"})
    assert project.follow(known)["status"] == "DONE"
    run_script(project, "backup.sh", "save", tmp_path / "saved")
    lost = project.schedule("+3d")
    assert "restored" in run_script(project, "backup.sh", "restore", tmp_path / "saved")
    assert project.job(known)["status"] == "DONE"
    assert project.http.get(f"/status/{lost}").status_code == 404
    new = project.schedule(env_vars={"SIMULATE_SECONDS": "0"})
    assert new > lost
    assert project.follow(new)["status"] == "DONE"


@pytest.mark.campaign
@pytest.mark.parametrize("fault", FAULTS)
def test_with_200_jobs_in_flight_nothing_is_lost_doubled_or_leaked(
    project: ComposeProject, table: FaultTable, fault: str
) -> None:
    first = post_jobs(project, fault)
    FAULTS[fault](project)
    prove(project, table, fault, first)


@pytest.mark.campaign
def test_with_two_replicas_of_each_worker_one_of_them_can_be_killed_for_good(
    project: ComposeProject, table: FaultTable
) -> None:
    scale = [argument for worker in WORKERS for argument in ("--scale", f"{worker}=2")]
    project.up("--no-recreate", *scale)
    fault = "one of two replicas killed, each"
    first = post_jobs(project, fault)
    for worker in WORKERS:
        docker("kill", project.container(worker))
    prove(project, table, fault, first)
    assert all(project.healthy(worker, 2) for worker in WORKERS)


def post_jobs(project: ComposeProject, fault: str, jobs: int = JOBS) -> int:
    """Post *count* jobs; return the first's id when the first ones run and none has ended."""
    chance = random.Random(f"{SEED} {fault}")
    requests = [
        {
            "docker_image": "alpine",
            "scheduled_for": f"+{chance.randrange(5)}s",
            "env_vars": {"SIMULATE_SECONDS": f"{4 + 2 * chance.random():.1f}"},
        }
        for _ in range(jobs)
    ]
    answer = project.http.post("/schedule", json=requests)
    assert answer.status_code == 201, answer.text
    first = int(answer.json()[0]["id"])
    until(lambda: count(project, first, "= 'RUNNING'") >= jobs // 10, 30)
    assert count(project, first, "NOT IN ('DONE', 'FAILED', 'CANCELLED')") == jobs
    return first


def count(project: ComposeProject, first: int, status: str) -> int:
    """Count the jobs from *first* on in this status."""
    statement = f"SELECT count(*) FROM api.jobs WHERE id >= {first} AND status {status}"  # noqa: S608
    return int(project.sql(statement))


def prove(
    project: ComposeProject, table: FaultTable, fault: str, first: int, jobs: int = JOBS
) -> None:
    """Check that every job is DONE, and nothing lost, doubled or left running; note the figures."""
    until(project.database_answers, 60)
    until(lambda: count(project, first, "= 'DONE'") == jobs, END_SECONDS)
    until(lambda: not any(figures(project).values()), END_SECONDS)
    now = figures(project)
    lost = now["lost"] + now["unsent"] + now["parked"] + jobs - count(project, first, "= 'DONE'")
    doubled = now["twice"] + now["doubled"] + now["launched twice"] + now["overlapping"]
    leaked = now["living"] + now["unreaped"] + now["living in the cloud"]
    table.rows.append((fault, jobs, lost, doubled, leaked))
    assert (lost, doubled, leaked) == (0, 0, 0), now


def figures(project: ComposeProject) -> dict[str, int]:
    """Return all figures that must become 0: of our traces, and of the cloud's own records."""
    traces = json.loads(project.sql(ALL_FIGURES))
    output = docker("exec", project.container("cloud"), "python", "-ISc", TRUTH)
    truth = json.loads(output)
    return {name: traces[name] for name in ZERO} | {
        "launched twice": truth["doubled"],
        "overlapping": truth["overlapping"],
        "living in the cloud": truth["living"],
    }
