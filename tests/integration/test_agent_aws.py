"""The agent on an instance with a role: it shows its identity, gets secrets, logs in at registries.

It is the real agent, before a real API (or the small one of test_agent.py), small servers that
check AWS's signatures, and a `docker` that records its commands.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from agent.docker_job_agent.aws import AWS_TRIES
from services.api.http.server import bind, http_server
from shared.clock import VirtualClock
from tests.integration.test_agent import AgentProcess, FakeApi, FakeMetadata, running
from tests.support.api.api_world import World, a_config
from tests.support.compute.aws_account import (
    REGION,
    ROLE_ARN,
    FakeSecrets,
    FakeSts,
    InstanceMetadata,
    session_of,
)

INSTANCE = "i-0123456789abcdef0"
KEY = "0f" * 32
UNREADABLE = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:no-AbCdEf"
NO_DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >> {record}
case "$1 $2" in
  "system dial-stdio") exec {python} {engine} {record} ;;
  *) exit 1 ;;
esac
"""
ENGINE = """
import base64, sys
record, answer = sys.argv[1], {answer!r}
head = "HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer)
while sys.stdin.readline():
    headers = iter(sys.stdin.readline, "\\r\\n")
    length = 0
    for name, _, value in (line.partition(": ") for line in headers):
        if name == "X-Registry-Auth":
            with open(record + ".auth", "wb") as file:
                file.write(base64.urlsafe_b64decode(value.strip()))
        length = int(value) if name == "Content-Length" else length
    sys.stdin.read(length)
    print(head + answer, end="", flush=True)
"""


@pytest.fixture
def clock() -> VirtualClock:
    """Return a wall clock: the agent signs by it."""
    return VirtualClock(datetime.now(UTC))


@dataclass
class At:
    """API at an address."""

    url: str


@contextmanager
def role(
    sts: FakeSts | None = None, instance_id: str | None = None
) -> Iterator[tuple[InstanceMetadata, FakeSecrets]]:
    """Make an instance's metadata service and the secrets that its role may read."""
    key, secret = sts.give(session_of(INSTANCE)) if sts else ("ASIA0000000000000000", "s")
    metadata, secrets = InstanceMetadata(key, secret, instance_id), FakeSecrets(key, secret)
    with metadata.serving(), secrets.serving():
        yield metadata, secrets


def on_ec2(metadata: FakeMetadata, secrets: FakeSecrets) -> dict[str, str]:
    return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url, **secrets.environment}


# -- the real API


@pytest.fixture
async def served(world: World) -> AsyncIterator[tuple[World, FakeSts, str]]:
    """Serve the API of a deployment whose instances have a role, over HTTP, and its STS."""
    sts = FakeSts()
    config = a_config(
        INSTANCE_ROLE_ARN=ROLE_ARN, STS_REGION=REGION, STS_URL=sts.url, SECRETS_KEY=KEY
    )
    ec2 = World(world.ports, world.clock, config)
    with sts.serving(), bind("127.0.0.1", 0) as sock:
        http = http_server(ec2.api.app)
        serving = asyncio.create_task(http.serve(sockets=[sock]))
        yield ec2, sts, f"http://127.0.0.1:{sock.getsockname()[1]}"
        http.stop()
        await serving
    await ec2.close()


@pytest.mark.parametrize("name", [INSTANCE, None])
async def test_an_instance_shows_its_role_waits_to_be_known_and_runs_its_job(
    served: tuple[World, FakeSts, str], tmp_path: Path, name: str | None
) -> None:
    """Covers the way from the signature to the final callback, with a secret of each kind.

    An agent that knows its instance names it, and STS is asked only when the API knows it too.
    """
    api, sts, url = served
    job_id = (
        await api.post(
            secret_env={"SIMULATE_ERROR": "sealed-canary"}, secrets={"SIMULATE_OUTPUT": "/out"}
        )
    )["id"]
    with role(sts, name) as (metadata, secrets):
        secrets.parameters["/out"] = "parameter-canary"
        env = {
            "DOCKER_JOB_IDENTITY": "sts",
            "DOCKER_JOB_STS_URL": sts.url,
            "DOCKER_JOB_DEPLOYMENT": "test",
        }
        agent = AgentProcess(At(url), tmp_path / "i", **env, **on_ec2(metadata, secrets))
        await asyncio.to_thread(wait_for_line, agent, "told to wait")
        assert sts.asked == (0 if name else 1)
        fact = structs.replace(api.launched(job_id), instance_id=INSTANCE)
        await api.deliver(fact)
        assert await asyncio.to_thread(agent.wait) == 0

    status = await api.status(job_id)
    assert status["status"] == "DONE", agent.log
    assert status["instance_id"] == INSTANCE
    logs = await api.logs(job_id)
    assert "parameter-canary" in logs
    assert "sealed-canary" in logs
    for canary in ("parameter-canary", "sealed-canary", "secret-0-canary", "session-canary"):
        assert canary not in agent.log


async def test_an_instance_of_another_role_gets_nothing_and_ends(
    served: tuple[World, FakeSts, str], tmp_path: Path
) -> None:
    api, sts, url = served
    job_id = (await api.post())["id"]
    await api.deliver(structs.replace(api.launched(job_id), instance_id=INSTANCE))
    other = sts.give(session_of(INSTANCE, role="another-role"))
    metadata = InstanceMetadata(*other)
    with metadata.serving():
        env = {
            "DOCKER_JOB_IDENTITY": "sts",
            "DOCKER_JOB_STS_URL": sts.url,
            "DOCKER_JOB_DEPLOYMENT": "test",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        }
        agent = AgentProcess(At(url), tmp_path / "i", **env)
        assert await asyncio.to_thread(agent.wait) == 0
    assert agent.reason == "the claim was refused with status 403"
    assert (await api.status(job_id))["phase"] == "booting"


def wait_for_line(agent: AgentProcess, text: str) -> None:
    """Wait until the agent has logged *text*; its end would end the wait too."""
    while text not in agent.log:
        assert agent.process.poll() is None, agent.log


# -- waiting, and the other words


def test_an_agent_that_must_wait_asks_until_it_gets_the_job(tmp_path: Path) -> None:
    api = FakeApi()
    api.first_answers["claim"] = [202, 503, 202]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert len({call.body["token"] for call in api.of("claim")}) == 1
    assert len(api.of("claim")) == 4
    assert api.callbacks == [{"exit_code": 0}]


def test_an_agent_that_waits_in_vain_ends_when_it_is_refused(tmp_path: Path) -> None:
    api = FakeApi()
    api.first_answers["claim"] = [202, 409]
    with running(api, tmp_path / "i") as agent:
        assert agent.wait() == 0

    assert agent.reason == "the claim was refused with status 409"
    assert api.of("callback") == []


def test_an_agent_that_waits_on_an_instance_that_is_taken_gives_its_attempt_back(
    tmp_path: Path,
) -> None:
    api = FakeApi()
    api.first_answers["claim"] = [202] * 1000
    with (
        role() as (metadata, secrets),
        running(api, tmp_path / "i", **on_ec2(metadata, secrets)) as agent,
    ):
        api.wait_for(lambda: bool(api.of("claim")))
        metadata.give_notice(120)
        api.wait_for(lambda: bool(api.of("claim")[-1].body.get("interrupted")))
        api.first_answers["claim"] = [409]
        assert agent.wait() == 0

    assert api.of("claim")[0].body.get("interrupted") is None


def test_an_agent_that_starts_on_an_instance_that_is_taken_gives_its_attempt_back(
    tmp_path: Path,
) -> None:
    api = FakeApi()
    api.first_answers["claim"] = [202, 409]
    with role() as (metadata, secrets):
        metadata.give_notice(120)
        with running(api, tmp_path / "i", **on_ec2(metadata, secrets)) as agent:
            assert agent.wait() == 0

    assert [call.body.get("interrupted") for call in api.of("claim")] == [True, True]


def test_a_rebalance_recommendation_is_reported_once(tmp_path: Path) -> None:
    api = FakeApi(env_vars={"SIMULATE_SECONDS": "60"})
    with role() as (metadata, secrets):
        metadata.rebalance = True
        with running(api, tmp_path / "i", **on_ec2(metadata, secrets)):
            api.wait_for(lambda: any("rebalance" in call.body for call in api.of("report")))
            beats = len(api.of("report"))
            api.wait_for(lambda: len(api.of("report")) >= beats + 3)

    reported = [call.body for call in api.of("report") if "rebalance" in call.body]
    assert reported == [{"phase": None, "logs": None, "rebalance": True}]
    assert api.callbacks == []


# -- secrets


def test_secrets_are_fetched_with_the_role_and_only_names_are_shown(tmp_path: Path) -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"
    api = FakeApi(secrets={"SIMULATE_OUTPUT": "/team/token", "DB": arn})
    with role() as (metadata, secrets):
        secrets.parameters["/team/token"] = "parameter-canary"
        secrets.secrets[arn] = "manager-canary"
        secrets.throttled = 1
        with running(api, tmp_path / "i", **on_ec2(metadata, secrets)) as agent:
            assert agent.wait() == 0

    would_run, printed = api.lines("stdout")
    assert printed == "parameter-canary"
    assert "--env SIMULATE_OUTPUT --env DB" in would_run
    assert "canary" not in would_run
    assert "canary" not in agent.log
    assert secrets.asked == [
        "AmazonSSM.GetParameter",
        "AmazonSSM.GetParameter",
        "secretsmanager.GetSecretValue",
    ]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("/nowhere", "secret KEY (/nowhere) could not be read: ParameterNotFound"),
        (
            UNREADABLE,
            f"secret KEY ({UNREADABLE}) could not be read: AccessDeniedException: not authorized",
        ),
    ],
)
def test_an_unavailable_secret_fails_the_job_and_is_named(
    tmp_path: Path, place: str, message: str
) -> None:
    api = FakeApi(secrets={"KEY": place})
    with (
        role() as (metadata, secrets),
        running(api, tmp_path / "i", **on_ec2(metadata, secrets)) as agent,
    ):
        assert agent.wait() == 0

    assert api.callbacks == [{"failed": "", "error_message": message}]
    assert api.phases == []


# -- registries


def a_docker(directory: Path, answer: str = "{}") -> dict[str, Any]:
    """Put a `docker` on the PATH that records its commands; its engine answers a pull."""
    directory.mkdir()
    engine = directory / "engine.py"
    engine.write_text(ENGINE.format(answer=answer))
    program = directory / "docker"
    record = directory / "commands"
    program.write_text(DOCKER.format(record=record, python=sys.executable, engine=engine))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{directory}:{os.environ['PATH']}", "DOCKER_JOB_RUNTIME": "docker"}


def login_sent(directory: Path) -> dict[str, str]:
    """Return the login that the engine got."""
    sent: dict[str, str] = json.loads((directory / "commands.auth").read_bytes())
    return sent


def test_a_login_goes_to_the_engine_and_into_no_file_or_argument(tmp_path: Path) -> None:
    login = json.dumps({"username": "robot", "password": "login-canary"})
    api = FakeApi(
        docker_image="registry.example.com/team/app:1",
        secret_env={"REGISTRY": login},
        registry_auth="REGISTRY",
    )
    docker = a_docker(tmp_path / "bin")
    with running(api, tmp_path / "i", **docker) as agent:
        assert agent.wait() == 0

    assert login_sent(tmp_path / "bin") == {
        "username": "robot",
        "password": "login-canary",
        "serveraddress": "registry.example.com",
    }
    commands = (tmp_path / "bin" / "commands").read_text()
    assert not [each for each in commands.splitlines() if each.startswith("login")]
    assert "canary" not in commands + agent.log
    files = [each for each in (tmp_path / "i").rglob("*") if each.is_file()]
    assert not [each for each in files if b"canary" in each.read_bytes()]


def test_ecr_gives_the_login_to_the_role(tmp_path: Path) -> None:
    registry = f"123456789012.dkr.ecr.{REGION}.amazonaws.com"
    api = FakeApi(docker_image=f"{registry}/app")
    docker = a_docker(tmp_path / "bin")
    with (
        role() as (metadata, secrets),
        running(api, tmp_path / "i", **docker, **on_ec2(metadata, secrets)) as agent,
    ):
        assert agent.wait() == 0

    sent = login_sent(tmp_path / "bin")
    assert sent == {"username": "AWS", "password": "ecr-canary", "serveraddress": registry}
    assert "ecr-canary" not in agent.log


def test_an_ecr_that_gives_no_login_for_a_while_costs_no_attempt(tmp_path: Path) -> None:
    registry = f"123456789012.dkr.ecr.{REGION}.amazonaws.com"
    api = FakeApi(docker_image=f"{registry}/app")
    api.settings["local_images"] = False
    docker = a_docker(tmp_path / "bin")
    with role() as (metadata, secrets):
        secrets.throttled = AWS_TRIES
        with running(api, tmp_path / "i", **docker, **on_ec2(metadata, secrets)) as agent:
            assert agent.wait() == 0

    assert login_sent(tmp_path / "bin")["password"] == "ecr-canary"
    [noted] = api.lines("docker-job")
    assert "no login at ECR: ThrottlingException: Rate exceeded; trying again in " in noted


def test_an_engine_that_is_away_for_a_moment_costs_no_attempt(tmp_path: Path) -> None:
    api = FakeApi(docker_image="registry.example.com/app")
    api.settings["local_images"] = False
    docker = a_docker(tmp_path / "bin")
    program = tmp_path / "bin" / "docker"
    # Two calls are about room on the disk, and may fail; the third is the pull.
    first = f"for n in 1 2 3; do mkdir {tmp_path}/tried$n 2> /dev/null"
    away = f"{first} && echo '{NO_DAEMON}' >&2 && exit 1; done\n"
    program.write_text(program.read_text().replace("case", away + "case", 1))
    with running(api, tmp_path / "i", **docker) as agent:
        assert agent.wait() == 0

    [noted] = api.lines("docker-job")
    assert noted.startswith(
        "[docker-job: the engine could not pull the image: the engine does not answer; trying "
    )
    [reported] = api.callbacks
    assert "pull_failed" not in reported


@pytest.mark.parametrize(
    ("error", "flags"),
    [
        ("manifest unknown: manifest unknown", {"for_good": True}),
        ("unauthorized: login-canary", {"for_good": True}),
        ("dial tcp 10.1.2.3:443: connect: connection refused", {}),
    ],
)
def test_a_failed_pull_is_reported_apart_and_quotes_no_password(
    tmp_path: Path, error: str, flags: dict[str, bool]
) -> None:
    api = FakeApi(
        docker_image="registry.example.com/app",
        secret_env={"REGISTRY": "robot:login-canary"},
        registry_auth="REGISTRY",
    )
    api.settings |= {"local_images": False, "pull_retry_seconds": 0}
    docker = a_docker(tmp_path / "bin", json.dumps({"error": error}))
    with running(api, tmp_path / "i", **docker) as agent:
        assert agent.wait() == 0

    [reported] = api.callbacks
    message = reported.pop("error_message")
    assert reported == {"failed": "", "pull_failed": True, **flags}
    assert message
    assert "canary" not in message + agent.log
