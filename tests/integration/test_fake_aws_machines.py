"""Machines of the fake AWS: user data that really runs, the metadata service, and the end.

Each test runs with processes, and with containers where a Docker engine answers.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from tests.support.compute.ec2_clouds import (
    CONFIG,
    Launcher,
    Strict,
    code_of,
    eventually,
    strict_cloud,
)

IMAGE = "python:3.13-slim"
STAY = "sleep 600\n"
TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
ASK = """\
python3 - <<'END'
import os, urllib.request as http
base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
token = http.urlopen(http.Request(base + "/latest/api/token", method="PUT", headers=ttl)).read()
def ask(path):
    headers = {"X-aws-ec2-metadata-token": token.decode()}
    return http.urlopen(http.Request(base + path, headers=headers)).read().decode()
print("I am", ask("/latest/meta-data/instance-id"), "in", ask("/latest/meta-data/placement/region"))
END
"""


@functools.cache
def why_no_engine() -> str:
    """Return the reason to skip; empty where a Docker engine answers and has the image."""
    client = shutil.which("docker")
    if client is None:
        return "there is no docker client"
    for command in (["version"], ["image", "inspect", IMAGE]):
        done = subprocess.run([client, *command], capture_output=True, check=False)
        if done.returncode != 0:
            return f"docker {' '.join(command)} fails"
    return ""


@pytest.fixture(params=["process", "container"])
def boot(request: pytest.FixtureRequest) -> str:
    """Return the kind of an instance."""
    if request.param == "container" and why_no_engine():
        pytest.skip(f"no Docker engine with {IMAGE}: {why_no_engine()}")
    return str(request.param)


@pytest.fixture
def cloud(boot: str) -> Iterator[Strict]:
    with strict_cloud(boot=boot, image=IMAGE) as made:
        yield made


@pytest.fixture
def launcher(cloud: Strict) -> Launcher:
    return Launcher(cloud)


def boots(launcher: Launcher, script: str, **changes: Any) -> str:
    """Launch an instance that runs this with bash; it terminates when it shuts down."""
    given = {"InstanceInitiatedShutdownBehavior": "terminate", **changes}
    answer = launcher.run(UserData=f"#!/bin/bash\n{script}", **given)
    return str(answer["Instances"][0]["InstanceId"])


def console(cloud: Strict, instance_id: str) -> str:
    found = [each for each in cloud.control.instances() if each["id"] == instance_id]
    return str(found[0]["console"])


def until_printed(cloud: Strict, instance_id: str, text: str) -> None:
    eventually(lambda: text in console(cloud, instance_id))


def processes_with(mark: str) -> list[str]:
    """List the command lines with *mark* of this machine's processes, containers' included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if mark in line and entry.name != str(os.getpid()):
            found.append(line)
    return found


# -- booting


def test_the_user_data_runs_and_knows_its_instance(cloud: Strict, launcher: Launcher) -> None:
    instance_id = boots(launcher, ASK + STAY)

    until_printed(cloud, instance_id, f"I am {instance_id} in us-east-1")


def test_what_a_machine_prints_is_its_console(cloud: Strict, launcher: Launcher) -> None:
    instance_id = boots(launcher, "echo to stdout; echo to stderr >&2\n" + STAY)
    until_printed(cloud, instance_id, "to stderr")

    output = launcher.ec2.get_console_output(InstanceId=instance_id, Latest=True)["Output"]
    assert "to stdout" in output


def test_without_latest_the_console_is_what_was_posted_after_a_change_of_state() -> None:
    with strict_cloud(boot="process", posted_seconds=1e6) as cloud:
        launcher = Launcher(cloud)
        instance_id = boots(launcher, "echo bye; shutdown -h now\n" + STAY)
        until_printed(cloud, instance_id, "bye")
        assert "Output" not in launcher.ec2.get_console_output(InstanceId=instance_id)
        eventually(lambda: launcher.state(instance_id) == "terminated")
        eventually(
            lambda: (
                "bye" in launcher.ec2.get_console_output(InstanceId=instance_id).get("Output", "")
            )
        )
        assert "Output" not in launcher.ec2.get_console_output(InstanceId=instance_id, Latest=True)


def test_an_instance_that_is_not_of_nitro_has_no_latest_console(
    cloud: Strict, launcher: Launcher
) -> None:
    instance_id = launcher.run(InstanceType="m4.large")["Instances"][0]["InstanceId"]
    eventually(lambda: launcher.state(instance_id) == "running")
    with pytest.raises(ClientError, match="does not support retrieving the latest") as error:
        launcher.ec2.get_console_output(InstanceId=instance_id, Latest=True)
    assert code_of(error) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("kind", "reason", "printed"),
    [
        ("client_error", "Client.InternalError", ""),
        ("server_error", "Server.InternalError", ""),
        ("power_off", "Client.InstanceInitiatedShutdown", "reboot: Power down"),
    ],
)
def test_a_boot_that_fails_on_command_ends_the_instance(
    cloud: Strict, launcher: Launcher, kind: str, reason: str, printed: str
) -> None:
    cloud.control.break_boots(kind)
    instance_id = boots(launcher, "echo never\n" + STAY)
    eventually(lambda: launcher.state(instance_id) == "terminated")
    [shown] = launcher.shown([instance_id])
    assert shown["StateReason"]["Code"] == reason
    assert printed in console(cloud, instance_id)
    assert "never" not in console(cloud, instance_id)
    other = boots(launcher, "echo booted\n" + STAY)
    until_printed(cloud, other, "booted")


def test_a_kernel_that_panics_leaves_the_instance_running(
    cloud: Strict, launcher: Launcher
) -> None:
    cloud.control.break_boots("kernel_panic")
    instance_id = boots(launcher, "echo never\n" + STAY)
    until_printed(cloud, instance_id, "Kernel panic")
    assert launcher.state(instance_id) == "running"


def test_a_shutdown_from_within_terminates_it(cloud: Strict, launcher: Launcher) -> None:
    instance_id = boots(launcher, "echo bye; shutdown -h now\n" + STAY)

    eventually(lambda: launcher.state(instance_id) == "terminated")
    [shown] = launcher.shown([instance_id])
    assert shown["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert "bye" in console(cloud, instance_id)


def test_a_shutdown_from_within_stops_it_where_that_is_what_was_asked(
    launcher: Launcher,
) -> None:
    stop = {"InstanceInitiatedShutdownBehavior": "stop"}
    instance_id = boots(launcher, "shutdown -h now\n" + STAY, **stop)

    eventually(lambda: launcher.state(instance_id) == "stopped")


def test_a_dead_man_timer_can_be_armed_and_disarmed(cloud: Strict, launcher: Launcher) -> None:
    script = "shutdown -h +60; echo armed; shutdown -c; shutdown -h now\n"
    instance_id = boots(launcher, script + STAY)

    eventually(lambda: launcher.state(instance_id) == "terminated")
    assert "power off in 3600 s" in console(cloud, instance_id)


def test_user_data_may_come_in_parts(cloud: Strict, launcher: Launcher) -> None:
    part = 'Content-Type: text/x-shellscript; charset="us-ascii"\n\n#!/bin/sh\necho part {}\n'
    parts = "".join(f"--sep\n{part.format(number)}" for number in (1, 2))
    data = f'Content-Type: multipart/mixed; boundary="sep"\nMIME-Version: 1.0\n\n{parts}--sep--\n'

    [shown] = launcher.run(UserData=data)["Instances"]

    until_printed(cloud, shown["InstanceId"], "part 1")
    until_printed(cloud, shown["InstanceId"], "part 2")


def test_paths_of_a_machine_are_its_own(cloud: Strict, launcher: Launcher) -> None:
    script = "mkdir -p /opt/mine && echo kept > /opt/mine/file && cat /opt/mine/file\n"
    instance_id = boots(launcher, script + STAY)

    until_printed(cloud, instance_id, "kept")
    assert not Path("/opt/mine").exists()


def test_docker_is_simulated_where_the_instance_has_no_engine(
    cloud: Strict, launcher: Launcher
) -> None:
    script = (
        "docker pull -- alpine && docker create --name c --env SIMULATE_EXIT_CODE=7"
        " --env SIMULATE_OUTPUT=hello -- alpine echo && docker start --attach c; echo code $?\n"
        "docker inspect --type container --format '{{json .State}}' -- c\n"
        "docker rm --force --volumes -- c; docker inspect c\n"
    )
    instance_id = boots(launcher, script + STAY)

    until_printed(cloud, instance_id, "No such container")
    printed = console(cloud, instance_id)
    assert "hello" in printed
    assert "code 7" in printed
    assert '"Status": "exited"' in printed


# -- ending


def test_termination_ends_all_that_runs(cloud: Strict, launcher: Launcher) -> None:
    mark = "610.25"
    script = f"(setsid nohup sleep {mark} &)\n(trap '' TERM; sleep {mark} & wait) &\necho up\n"
    instance_id = boots(launcher, script + STAY)
    until_printed(cloud, instance_id, "up")
    eventually(lambda: len(processes_with(f"sleep {mark}")) == 2)

    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    eventually(lambda: not processes_with(f"sleep {mark}"))


def test_a_machine_receives_a_signal_at_its_end(cloud: Strict, launcher: Launcher) -> None:
    script = "trap 'echo last line; exit' TERM; echo up; while :; do sleep 0.05; done\n"
    instance_id = boots(launcher, script)
    until_printed(cloud, instance_id, "up")

    launcher.ec2.terminate_instances(InstanceIds=[instance_id])

    until_printed(cloud, instance_id, "last line")


def test_a_machine_whose_hardware_fails_runs_nothing_and_is_still_shown_as_running(
    cloud: Strict, launcher: Launcher
) -> None:
    mark = "611.25"
    instance_id = boots(launcher, f"sleep {mark}\n")
    eventually(lambda: bool(processes_with(f"sleep {mark}")))

    cloud.control.crash(instance_id)

    eventually(lambda: not processes_with(f"sleep {mark}"))
    assert launcher.state(instance_id) == "running"


def test_nothing_outlives_the_cloud(boot: str) -> None:
    mark = "612.25"
    with strict_cloud(boot=boot, image=IMAGE) as cloud:
        launcher = Launcher(cloud)
        boots(launcher, f"(setsid sleep {mark} &)\nsleep {mark}\n")
        eventually(lambda: len(processes_with(f"sleep {mark}")) == 2)

    assert processes_with(f"sleep {mark}") == []
    if boot == "container":
        listed = subprocess.run(
            ["docker", "ps", "--all", "--quiet", "--filter", "label=fake_aws.instance"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert listed.stdout == ""


# -- metadata


class Asker:
    """Requests to a machine's metadata service, made from here."""

    def __init__(self, cloud: Strict, instance_id: str) -> None:
        def port(c: Any) -> int:
            machine = c.machines.running.get(instance_id)
            return machine.metadata.port if machine else 0

        eventually(lambda: cloud.thread.call(port) != 0)
        self.base = f"http://127.0.0.1:{cloud.thread.call(port)}"
        self.token = ""

    def get(self, path: str) -> httpx.Response:
        headers = {TOKEN: self.token} if self.token else {}
        return httpx.get(f"{self.base}/latest/meta-data/{path}", headers=headers)

    def fetch_token(self, ttl: str = "60", **headers: str) -> httpx.Response:
        headers = {TOKEN_TTL: ttl, **headers}
        answer = httpx.put(f"{self.base}/latest/api/token", headers=headers)
        self.token = answer.text if answer.status_code == 200 else ""
        return answer


@pytest.fixture
def asked() -> Iterator[tuple[Strict, Launcher, Asker, str]]:
    """Run a Spot machine with a role, and its metadata service."""
    with strict_cloud(boot="process") as cloud:
        launcher = Launcher(cloud)
        iam = cloud.client("iam")
        iam.create_role(RoleName="worker", AssumeRolePolicyDocument="{}")
        iam.create_instance_profile(InstanceProfileName="worker")
        iam.add_role_to_instance_profile(InstanceProfileName="worker", RoleName="worker")
        instance_id = boots(
            launcher,
            STAY,
            IamInstanceProfile={"Name": "worker"},
            InstanceMarketOptions={"MarketType": "spot"},
        )
        yield cloud, launcher, Asker(cloud, instance_id), instance_id


Asked = tuple[Strict, Launcher, Asker, str]


def test_metadata_is_served_to_any_caller_with_a_token(asked: Asked) -> None:
    _, _, asker, instance_id = asked

    assert asker.get("instance-id").status_code == 401
    asker.fetch_token()
    assert asker.get("instance-id").text == instance_id
    assert asker.get("instance-life-cycle").text == "spot"
    assert "placement/" in asker.get("").text.splitlines()
    assert asker.get("no/such/thing").status_code == 404
    asker.token = "made-up"
    assert asker.get("instance-id").status_code == 401


def test_a_token_is_for_a_time_that_must_be_named(asked: Asked) -> None:
    _, _, asker, _ = asked

    assert asker.fetch_token("0").status_code == 400
    assert asker.fetch_token("21601").status_code == 400
    assert asker.fetch_token("1").status_code == 200
    assert asker.get("instance-id").status_code == 200
    eventually(lambda: asker.get("instance-id").status_code == 401)


def test_a_forwarded_request_gets_no_token(asked: Asked) -> None:
    _, _, asker, _ = asked

    assert asker.fetch_token(**{"X-Forwarded-For": "10.0.0.1"}).status_code == 403


def test_role_credentials_are_those_that_sts_knows(asked: Asked) -> None:
    cloud, _, asker, instance_id = asked
    asker.fetch_token()

    assert asker.get("iam/security-credentials/").text == "worker"
    given = json.loads(asker.get("iam/security-credentials/worker").text)
    known = cloud.thread.call(lambda c: c.keys.find(given["AccessKeyId"]))
    assert known is not None
    assert (known.secret, known.session_token) == (given["SecretAccessKey"], given["Token"])
    arn = cloud.client("sts", known).get_caller_identity()["Arn"]
    assert arn.endswith(f":assumed-role/worker/{instance_id}")


def test_a_notice_and_a_recommendation_are_there_from_when_they_are_given(asked: Asked) -> None:
    cloud, _, asker, instance_id = asked
    asker.fetch_token()
    assert asker.get("spot/instance-action").status_code == 404
    assert asker.get("events/recommendations/rebalance").status_code == 404

    cloud.control.rebalance(instance_id)
    at = cloud.control.interrupt(instance_id)

    assert "noticeTime" in json.loads(asker.get("events/recommendations/rebalance").text)
    notice = json.loads(asker.get("spot/instance-action").text)
    assert notice == {"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}


def test_whoever_asks_from_elsewhere_is_cut_off(asked: Asked) -> None:
    cloud, _, asker, instance_id = asked

    def move(c: Any) -> None:
        c.machines.running[instance_id].metadata.allow({"192.0.2.1"})

    cloud.thread.call(move)

    with pytest.raises(httpx.TransportError):
        asker.fetch_token()


def test_a_container_on_a_bridge_cannot_reach_the_metadata_of_its_instance(asked: Asked) -> None:
    if why_no_engine():
        pytest.skip(f"no Docker engine with {IMAGE}: {why_no_engine()}")
    _, _, asker, _ = asked
    port = asker.base.rpartition(":")[2]
    # 172.17.0.1 is where the machine is for a container on the bridge.
    script = (
        "import socket,sys\n"
        "for host in ('127.0.0.1', '172.17.0.1', '169.254.169.254'):\n"
        f"    try: socket.create_connection((host, {port}), 1); print('reached', host)\n"
        "    except OSError as error: print('refused', host)\n"
    )

    done = subprocess.run(
        ["docker", "run", "--rm", IMAGE, "python3", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("refused") == 3, done.stdout


def docker(*arguments: str) -> str:
    """Return the output of the command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_containers_that_an_instance_starts_on_the_engine_end_with_it(boot: str) -> None:
    if why_no_engine():
        pytest.skip(f"no Docker engine with {IMAGE}: {why_no_engine()}")
    with strict_cloud(boot=boot, image=IMAGE, engine=True) as cloud:
        launcher = Launcher(cloud)
        instance_id = boots(launcher, f"docker run --detach {IMAGE} sleep 613.25\n{STAY}")
        eventually(lambda: bool(processes_with("sleep 613.25")))

        launcher.ec2.terminate_instances(InstanceIds=[instance_id])

        eventually(lambda: not processes_with("sleep 613.25"))
        label = f"label=fake_aws.instance={instance_id}"
        eventually(lambda: docker("ps", "--all", "--quiet", "--filter", label) == "")


def test_on_a_network_of_its_own_an_instance_alone_has_its_metadata() -> None:
    if why_no_engine():
        pytest.skip(f"no Docker engine with {IMAGE}: {why_no_engine()}")
    show = "echo at $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/api/token\n"
    with strict_cloud(boot="container", image=IMAGE, network="bridge") as cloud:
        instance_id = boots(Launcher(cloud), ASK + show + STAY)
        until_printed(cloud, instance_id, f"I am {instance_id}")
        until_printed(cloud, instance_id, "/api/token")
        [url] = [
            line.removeprefix("at ")
            for line in console(cloud, instance_id).splitlines()
            if line.startswith("at ")
        ]
        ask = (
            "import urllib.request as http\n"
            f"ttl = {{'{TOKEN_TTL}': '60'}}\n"
            f"request = http.Request('{url}', method='PUT', headers=ttl)\n"
            "try: print('got', http.urlopen(request).read())\n"
            "except OSError as error: print('cut off', type(error).__name__)\n"
        )

        printed = docker("run", "--rm", IMAGE, "python3", "-c", ask)

        assert printed.startswith("cut off"), printed


def test_a_cloud_that_is_killed_takes_its_machines_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fake_aws", "--boot", "process", "--speed", "200"]
    with subprocess.Popen(
        [*command, "--directory", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as cloud:
        assert cloud.stdout is not None
        lines = [cloud.stdout.readline() for _ in range(5)]
        given = dict(line.strip().split("=", 1) for line in lines)
        launcher = Launcher(ByEnvironment(given))
        boots(launcher, "(setsid sleep 614.25 &)\nsleep 614.25\n")
        eventually(lambda: len(processes_with("sleep 614.25")) == 2)

        cloud.kill()

        eventually(lambda: not processes_with("sleep 614.25"))


class ByEnvironment:
    """A cloud reached by its environment variables alone."""

    def __init__(self, given: dict[str, str]) -> None:
        self.given = given

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.given["AWS_ENDPOINT_URL"],
            region_name=self.given["AWS_REGION"],
            aws_access_key_id=self.given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.given["AWS_SECRET_ACCESS_KEY"],
            config=CONFIG,
        )
