"""`docker compose up` on a fresh clone, as the README's second part describes it."""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.systems.compose_cloud import start_script
from tests.support.systems.compose_project import (
    OURS,
    BuiltClone,
    ComposeProject,
    compose_project,
    docker,
)
from tests.support.systems.embedded_system import ROOT
from tests.support.systems.traces import ALL_FIGURES, ZERO
from tests.support.waiting import until
from tests.unit.test_age import KEY, OTHER

pytestmark = pytest.mark.timeout(900)  # the images are built by the first test that wants them

IMAGE = "debian:trixie-slim"
FALLBACK_IMAGE = "python:3.13-slim"  # which the build itself needs
HEALTHY_SECONDS = 90
TERMINATED_SECONDS = 60
STOP_SECONDS = 15
EVERY = (*OURS, "postgres", "rabbitmq")


@pytest.fixture(scope="module")
def started() -> dict[str, float]:
    """Return the time that the project took to be healthy."""
    return {}


@pytest.fixture(scope="module")
def project(clone: BuiltClone, started: dict[str, float]) -> Iterator[ComposeProject]:
    """Start the project, healthy; its calls time out sooner, so that a dead one's leases do."""
    with compose_project(clone, LAUNCH_CALL_SECONDS="15", REAP_CALL_SECONDS="8") as project:
        begun = time.monotonic()
        project.up()
        started["seconds"] = time.monotonic() - begun
        yield project


@pytest.fixture(scope="module")
def image() -> str:
    """Return an image with a shell that the engine has."""
    found = docker("image", "ls", "--quiet", IMAGE)
    return IMAGE if found else FALLBACK_IMAGE


def readme_commands() -> list[str]:
    """Return the commands of the README's second part."""
    part = (ROOT / "README.md").read_text().partition("## Four containers")[2]
    return [line.partition("  #")[0].strip() for line in part.split("```")[1].splitlines() if line]


def test_it_is_healthy_within_90_seconds(
    project: ComposeProject, started: dict[str, float]
) -> None:
    print(f"\nhealthy {started['seconds']:.1f} s after `docker compose up -d --wait`")
    assert started["seconds"] < HEALTHY_SECONDS
    assert all(project.healthy(service) for service in EVERY)
    assert project.http.get("/readyz").status_code == 200


def test_the_readmes_curls_run_a_container_whose_output_is_in_the_logs_and_which_is_gone_then(
    project: ComposeProject, image: str
) -> None:
    up, *curls, down = readme_commands()
    assert (up, down) == ("docker compose up -d --wait", "docker compose down")
    answers = []
    for line in curls:
        typed = line.replace("http://127.0.0.1:8000", project.address).replace("alpine", image)
        done = subprocess.run(
            [*shlex.split(typed), "--silent", "--show-error", "--max-time", "60"],
            capture_output=True,
            text=True,
            check=True,
        )
        answers.append(done.stdout)
    listed, scheduled, followed = answers
    assert json.loads(listed) == []
    job_id = json.loads(scheduled)["id"]
    assert job_id == 1, "the README follows the first job"
    assert '"text":"hello"' in followed
    job = project.job(job_id)
    assert (job["status"], job["exit_code"], job["runtime"]) == ("DONE", 0, "docker")
    assert project.http.get(f"/jobs/{job_id}/logs").text.splitlines() == ["hello"]
    until(lambda: not project.instances(), TERMINATED_SECONDS)


def test_a_container_that_fails_fails_its_job_and_is_removed(
    project: ComposeProject, image: str
) -> None:
    command = ["sh", "-c", "echo 'disk is full' >&2; exit 3"]
    job = project.follow(project.schedule(docker_image=image, command=command))
    assert (job["status"], job["exit_code"]) == ("FAILED", 3)
    assert job["error_message"] == "disk is full"


@pytest.mark.parametrize("service", EVERY)
def test_a_container_has_no_more_rights_than_it_needs(
    project: ComposeProject, service: str
) -> None:
    found = project.inspect(service)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert 0 < host["Memory"] <= 768 * 1024 * 1024
    assert 0 < host["PidsLimit"] <= 2048
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert not host["Privileged"]
    status = dict(
        line.split(":\t", 1)
        for line in project.read_inside(service, "/proc/1/status").splitlines()
        if ":\t" in line
    )
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_launcher_and_reaper_alone_have_the_engines_socket(project: ComposeProject) -> None:
    def has_socket(service: str) -> bool:
        mounts = project.inspect(service)["Mounts"]
        return any(mount["Destination"] == "/var/run/docker.sock" for mount in mounts)

    assert {service for service in EVERY if has_socket(service)} == {"launcher", "reaper"}


def test_the_api_alone_is_published_and_on_loopback_alone(project: ComposeProject) -> None:
    published = {
        service: [each["HostIp"] for each in ports]
        for service in EVERY
        for ports in project.inspect(service)["NetworkSettings"]["Ports"].values()
        if ports
    }
    assert published == {"api": ["127.0.0.1"]}


def test_no_secret_is_where_inspect_or_the_logs_show_it(project: ComposeProject) -> None:
    secrets = {
        project.read_inside(service, f"/secrets/{name}")
        for service, names in {
            "api": ("database_password", "bus_password", "token_key"),
            "scheduler": ("database_password", "bus_password"),
            "launcher": ("database_password", "bus_password", "token_key"),
            "reaper": ("database_password", "bus_password"),
            "postgres": ("password",),
            "rabbitmq": ("password",),
        }.items()
        for name in names
    }
    assert len(secrets) == 11, "each is another, save the key that api and launcher share"
    assert all(len(secret) >= 48 for secret in secrets)
    everywhere = project.logs() + "".join(
        json.dumps(project.inspect(service)) for service in (*EVERY, "secrets", "migrate")
    )
    assert not [secret for secret in secrets if secret in everywhere]


def test_each_secret_is_for_its_reader_alone(project: ComposeProject) -> None:
    find = "find /secrets -mindepth 1 -printf '%m %U %p\\n'"
    one_shot = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "secrets", "-c", find)
    listing = [line.split() for line in project.compose(*one_shot).stdout.splitlines()]
    opened = [each for each in listing if int(each[0], 8) & 0o007 or each[1] != "10001"]
    print(f"{len(opened)} of {len(listing)} files and directories are open to others")
    assert (len(listing) > 16, opened) == (True, [])


def test_a_backup_with_a_key_is_refused_with_another_one_and_restored_with_its_own(
    project: ComposeProject, tmp_path: Path
) -> None:
    file = tmp_path / "saved"
    for name, text in {"own": KEY, "other": OTHER}.items():
        (tmp_path / name).write_text(text)

    def script(command: str, key: str) -> "subprocess.CompletedProcess[str]":
        given = {"DOCKER_JOB_BACKUP_KEY_FILE": str(tmp_path / key) if key else ""}
        return start_script(project, "backup.sh", command, file, **given)

    done = script("save", "own")
    assert done.stdout == f"saved, encrypted, to {file}\n", done.stderr
    assert "Not in it: the key of secret_env" in done.stderr
    sealed = file.read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert file.stat().st_mode & 0o777 == 0o600
    running = [project.container(each) for each in EVERY]
    refusals = (
        ("", sealed, "is encrypted: set DOCKER_JOB_BACKUP_KEY_FILE"),
        ("other", sealed, "cannot be decrypted; nothing was touched"),
        ("own", sealed[:-9000], "cannot be decrypted; nothing was touched"),
        ("own", sealed[:-1] + bytes([sealed[-1] ^ 1]), "cannot be decrypted; nothing was touched"),
        ("missing", sealed, "which cannot be read"),
    )
    for key, content, why in refusals:
        file.write_bytes(content)
        refused = script("restore", key)
        assert why in refused.stderr
        assert refused.returncode == 1
        assert [project.container(each) for each in EVERY] == running
    print(f"{len(refusals)} of {len(refusals)} refused, and every container is the same")
    file.write_bytes(sealed)
    done = script("restore", "own")
    assert done.stdout.endswith("restored\n"), done.stderr
    assert not list(Path(tempfile.gettempdir()).glob("docker-job-restore.*"))


def test_dead_letters_of_all_services_can_be_listed(project: ComposeProject) -> None:
    listed = project.compose("run", "--rm", "deadletters", "list").stdout
    assert "no dead letters" in listed.lower()


def test_a_service_whose_broker_hangs_becomes_unhealthy_and_then_healthy_again(
    project: ComposeProject,
) -> None:
    docker("pause", project.container("rabbitmq"))
    try:
        until(lambda: "bus" in project.http.get("/readyz").json().get("degraded", ()), 40)
        workers = [service for service in OURS if service != "api"]
        until(lambda: not any(project.healthy(service) for service in workers), 60)
        assert project.healthy("api"), "a load balancer keeps it"
        body = {"docker_image": "alpine", "scheduled_for": "+1d"}
        assert project.http.post("/schedule", json=body).status_code == 201, "still accepted"
    finally:
        docker("unpause", project.container("rabbitmq"))
    until(lambda: all(project.healthy(service) for service in OURS), 60)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to kill a container's process")
def test_a_service_that_dies_is_started_again(project: ComposeProject) -> None:
    before = project.inspect("scheduler")
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    until(lambda: project.inspect("scheduler")["RestartCount"] > before["RestartCount"], 20)
    until(lambda: project.healthy("scheduler"), 40)


def test_real_containers_outlive_a_kill_of_launcher_and_reaper_and_none_is_left(
    project: ComposeProject, image: str
) -> None:
    before = figures(project)
    command = ["sh", "-c", "sleep 6; echo survived"]
    ids = [project.schedule(docker_image=image, command=command) for _ in range(12)]
    until(lambda: any(project.job(each)["phase"] == "running" for each in ids), 40)
    for service in ("launcher", "reaper"):
        docker("kill", project.container(service))
    for service in ("launcher", "reaper"):
        docker("start", project.container(service))
    ends = [project.follow(each, seconds=120) for each in ids]
    assert {job["status"] for job in ends} == {"DONE"}
    assert all("survived" in project.http.get(f"/jobs/{each}/logs").text for each in ids)
    until(lambda: not project.instances(), 120)
    until(lambda: not any(figures(project)[name] for name in ZERO), 60)
    after = figures(project)
    print(f"\n12 real containers, launcher and reaper killed: {after}")
    assert after["instances"] - before["instances"] == after["attempts"] - before["attempts"]


def figures(project: ComposeProject) -> dict[str, int]:
    """Figures of outbox and inbox, launches and instances."""
    found: dict[str, int] = json.loads(project.sql(ALL_FIGURES))
    return found


def test_stop_drains_every_service_within_15_seconds(project: ComposeProject) -> None:
    begun = time.monotonic()
    project.compose("stop")
    took = time.monotonic() - begun
    print(f"\n`docker compose stop` took {took:.1f} s")
    assert took < STOP_SECONDS
    for service in OURS:
        assert '"event": "service has drained"' in project.logs(service).splitlines()[-1]
        assert project.inspect(service)["State"]["ExitCode"] == 0


GIVEN = {"TOKEN_KEY": "k" * 64, "AWS_CREDENTIALS": "[default]", "POSTGRES_PASSWORD": "p w'd"}


@pytest.fixture(scope="module")
def exposed(
    clone: BuiltClone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComposeProject]:
    """Make a project that others can reach, with secrets of its own; nothing of it is up yet."""
    directory = tmp_path_factory.mktemp("given")
    files = {f"{name}_FILE": str(directory / name) for name in GIVEN}
    for name, value in GIVEN.items():
        (directory / name).write_text(value + "\n")
        (directory / name).chmod(0o600)
    with compose_project(clone, HOST="0.0.0.0", **files) as project:
        yield project


def test_what_others_reach_needs_a_key_which_can_be_made_before_and_after_up(
    exposed: ComposeProject,
) -> None:
    before = create_key(exposed)
    exposed.compose("run", "--rm", "api", "keys", "revoke", before)
    refusal = exposed.compose("run", "--rm", "api", fails=True)
    assert "DOCKER_JOB_HOST is 0.0.0.0" in refusal.stderr
    command = "docker compose run --rm api keys create --name me --scope admin"
    assert command in refusal.stderr, "it says what to do, word for word"
    exposed.compose("up", "--detach")
    good = create_key(exposed)
    until(lambda: exposed.healthy("api"), 60)
    assert exposed.http.get("/list").status_code == 401
    assert with_key(exposed, before).status_code == 401
    assert with_key(exposed, good).json() == []


def create_key(project: ComposeProject) -> str:
    """Create a key as the README describes; the key is the last line printed."""
    command = ("run", "--rm", "api", "keys", "create", "--name", "me", "--scope", "admin")
    key = project.compose(*command).stdout.split()[-1]
    assert key.startswith("djk_")
    return key


def with_key(project: ComposeProject, key: str) -> Any:
    """Request the list with that key."""
    return project.http.get("/list", headers={"Authorization": f"Bearer {key}"})


def test_a_secret_can_be_given_as_a_file_that_is_for_its_owner_alone(
    exposed: ComposeProject,
) -> None:
    exposed.compose("up", "--detach")
    until(lambda: exposed.healthy("api") or "no API key" in exposed.logs("api"), 60)
    assert exposed.read_inside("postgres", "/secrets/password") == GIVEN["POSTGRES_PASSWORD"]
    assert exposed.read_inside("launcher", "/secrets/token_key") == GIVEN["TOKEN_KEY"]
    assert exposed.read_inside("reaper", "/secrets/aws_credentials") == "[default]"
