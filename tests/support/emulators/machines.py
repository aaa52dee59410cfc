"""The machines that an emulator does not have: each running instance boots its user data here.

An emulator keeps records of instances; nothing runs on them. This room looks at it as an operator
does, starts a process for each running instance, and ends it when the emulator shows its end. A
machine that powers itself off is terminated, as `InstanceInitiatedShutdownBehavior` asks.
"""

import base64
import contextlib
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from fake_aws.as_process import MACHINE_PATHS, kill_strays, put_tools
from fake_aws.machine import TOOLS
from tests.support.emulators.metadata import RoleMetadata
from tests.support.emulators.programs import Emulator

LOOK_SECONDS = 0.2
ALIVE = {"pending", "running"}


class BootedMachine:
    """One instance's process, its directory and its metadata service."""

    def __init__(
        self, home: Path, user_data: bytes, metadata: RoleMetadata, env: dict[str, str]
    ) -> None:
        self.home = home
        self.metadata = metadata
        home.mkdir(mode=0o700)
        moved = MACHINE_PATHS.sub(str(home / "root").encode() + rb"/\1", user_data)
        (home / "user-data").write_bytes(moved)
        for name in ("opt", "var/lib", "var/log", "etc/ecs"):
            (home / "root" / name).mkdir(parents=True)
        put_tools(home, sys.executable, str(TOOLS), None, home.name)
        with (home / "console.log").open("wb") as console:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(TOOLS / "boot.py"), str(home)],
                cwd=home / "root",
                env={**env, "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url},
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_off(self) -> bool:
        """Whether it has powered itself off."""
        return self.process.poll() is not None

    def console(self) -> str:
        """Return its output."""
        return (self.home / "console.log").read_text(errors="replace")

    def switch_off(self) -> None:
        """End it with all its processes."""
        if self.process.stdin is not None:
            self.process.stdin.close()  # boot.py then powers off
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(8)
        self.process.kill()
        self.process.wait()
        kill_strays(self.home)
        self.metadata.close()


class EmulatedMachines:
    """The machines of all instances with a deployment's tag. *boots*: whether new ones do."""

    def __init__(self, emulator: Emulator, role: str, role_arn: str) -> None:
        self._emulator = emulator
        self._ec2 = emulator.client("ec2")
        self._sts = emulator.client("sts")
        self._role, self._role_arn = role, role_arn
        self._directory = tempfile.TemporaryDirectory(prefix="docker-job-machines-")
        self._ended = threading.Event()
        self.boots = True
        self.booted: dict[str, BootedMachine] = {}
        """By instance id, also those that are off."""
        self._seen: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def interrupt(self, instance_id: str, seconds: float) -> None:
        """Give notice to a running instance; it is reclaimed in *seconds*."""
        self.booted[instance_id].metadata.interrupt(seconds)
        timer = threading.Timer(seconds, lambda: self.terminate(instance_id))
        timer.daemon = True
        timer.start()

    def terminate(self, instance_id: str) -> None:
        """End an instance, as EC2 does when it takes one; its machine is switched off."""
        self._ec2.terminate_instances(InstanceIds=[instance_id])

    def states(self) -> dict[str, str]:
        """Return the state of each instance in the emulator."""
        return {each["InstanceId"]: each["State"]["Name"] for each in self._shown()}

    def close(self) -> None:
        """End every machine."""
        self._ended.set()
        self._thread.join()
        for each in self.booted.values():
            each.switch_off()
        self._directory.cleanup()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for shown in self._shown():
                self._follow(shown["InstanceId"], shown["State"]["Name"])

    def _follow(self, instance_id: str, state: str) -> None:
        machine = self.booted.get(instance_id)
        if state in ALIVE and instance_id not in self._seen:
            self._seen.add(instance_id)
            if self.boots:
                self.booted[instance_id] = self._boot(instance_id)
        elif machine is not None and state in ALIVE and machine.is_off:
            self.terminate(instance_id)
        elif machine is not None and state not in ALIVE and not machine.is_off:
            machine.switch_off()

    def _boot(self, instance_id: str) -> BootedMachine:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "AWS_ENDPOINT_URL": self._emulator.url}
        metadata = RoleMetadata(instance_id, self._role, lambda: self._credentials(instance_id))
        home = Path(self._directory.name, instance_id)
        return BootedMachine(home, self._user_data(instance_id), metadata, env)

    def _credentials(self, instance_id: str) -> dict[str, str]:
        given = self._sts.assume_role(RoleArn=self._role_arn, RoleSessionName=instance_id)
        found = given["Credentials"]
        return {
            "AccessKeyId": found["AccessKeyId"],
            "SecretAccessKey": found["SecretAccessKey"],
            "Token": found["SessionToken"],
            "Expiration": f"{found['Expiration']:%Y-%m-%dT%H:%M:%SZ}",
        }

    def _user_data(self, instance_id: str) -> bytes:
        """Return it as the instance has it; ministack leaves it in the template."""
        own = self._ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
        text = own["UserData"].get("Value") or self._templates_user_data()
        return base64.b64decode(text)

    def _templates_user_data(self) -> str:
        [template] = self._ec2.describe_launch_templates()["LaunchTemplates"]
        [version, *_] = self._ec2.describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        return str(version["LaunchTemplateData"]["UserData"])

    def _shown(self) -> list[dict[str, Any]]:
        pages = self._ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "tag-key", "Values": ["docker-job:deployment"]}]
        )
        return [
            each for page in pages for group in page["Reservations"] for each in group["Instances"]
        ]
