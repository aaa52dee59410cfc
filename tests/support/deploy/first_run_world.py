"""The world of a first run on the strict cloud: the real API with its services, and real jobs.

Only what no emulator has is played: the scripts of deploy/, which make the deployment, Fault
Injection Service, Run Command, and the Auto Scaling group. The parameters of both services are
checked against botocore's models.
"""

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import boto3

from deploy.account import Account
from deploy.first_world import Choices, World
from deploy.place import SERVICES_TAG
from fake_aws.credentials import Credential
from rehearsal.account import make_user
from rehearsal.stage import Stage
from tests.support.run.state import ROOT

FASTER = 20
"""Jobs sleep so many times shorter; the cloud is sped up too."""

LONGEST = 12
FIS_ROLE = "arn:aws:iam::123456789012:role/faults"
ENDLESS = 3600
LOOK_SECONDS = 0.2


class StagedWorld(World):
    """A world whose deployment is the system on *stage*."""

    def __init__(self, stage: Stage, deployment: str, directory: Path) -> None:
        self.stage = stage
        self.reachable = True
        """By Run Command."""
        self.destroyed = False
        self.broken: set[str] = set()
        """Roles whose policy is taken away."""
        self.ssm_commands: dict[str, dict[str, Any]] = {}
        self.users: dict[str, Credential] = {}
        account = Account(
            Mock(client=self.client), stage.account.number, stage.account.region, "aws", "me"
        )
        choices = Choices("me@example.com", image="alpine", fis_role=FIS_ROLE, burst=4)
        super().__init__(account, deployment, (), choices, directory / "key")
        self.run, self.sleep = self._run, self._sleep
        self._pause = threading.Event()
        self.start_services()

    def client(self, service: str, **_: Any) -> Any:
        """Return a client of the strict cloud, in which two services are played."""
        client: Any = boto3.client(service, **self.stage.cloud.client_arguments())
        if service == "fis":
            self._play(client, "before-call.fis.CreateExperimentTemplate", self._template)
            self._play(client, "before-call.fis.StartExperiment", self._experiment)
            self._play(client, "before-call.fis.DeleteExperimentTemplate", lambda _: {})
        if service == "ssm":
            self._play(client, "before-call.ssm.SendCommand", self._send)
            self._play(client, "before-call.ssm.GetCommandInvocation", self._invocation)
        return client

    @staticmethod
    def _play(client: Any, event: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def handle(params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
            found = answer(json.loads(params["body"] or b"{}"))
            return SimpleNamespace(status_code=found.pop("status", 200)), found

        client.meta.events.register(event, handle)

    def _template(self, body: dict[str, Any]) -> dict[str, Any]:
        """Note the target."""
        [target] = body["targets"].values()
        self.target = target["resourceArns"][0].rpartition("/")[2]
        return {"experimentTemplate": {"id": "EXT1"}}

    def _experiment(self, _: dict[str, Any]) -> dict[str, Any]:
        """Interrupt the target."""
        self.stage.cloud.control.interrupt(self.target)
        return {"experiment": {"id": "EXP1"}}

    def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        """Run the doctor of the command here, with the credentials of its role."""
        if not self.reachable:
            return {"status": 400, "Error": {"Code": "InvalidInstanceId", "Message": ""}}
        [line] = body["Parameters"]["commands"]
        words = line.split()
        role = words[-1]
        environment = {**os.environ, **self.stage.system.environment()}
        done = subprocess.run(
            [sys.executable, "-m", *words[words.index(role) + 1 :]],
            env={**environment, **self.stage.cloud.environment(self._user(role))},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        sent = str(uuid.uuid4())
        self.ssm_commands[sent] = {
            "Status": "Success" if done.returncode == 0 else "Failed",
            "StatusDetails": "Success" if done.returncode == 0 else "Failed",
            "ResponseCode": done.returncode,
            "StandardOutputContent": done.stdout,
            "StandardErrorContent": done.stderr,
        }
        return {"Command": {"CommandId": sent}}

    def _invocation(self, body: dict[str, Any]) -> dict[str, Any]:
        return dict(self.ssm_commands[body["CommandId"]])

    def _user(self, role: str) -> Credential:
        """Return the user with the role's policy, or with another's."""
        policy = "reaper" if role in self.broken else role
        if policy not in self.users:
            cloud, account = self.stage.cloud, self.stage.account
            self.users[policy] = make_user(cloud, account, self.stack, (policy,))
        return self.users[policy]

    def schedule(self, *command: str, image: str = "", **more: Any) -> int:
        """Schedule a job that is simulated: it sleeps shorter."""
        variables: dict[str, str] = {}
        if command[:1] == ("echo",):
            variables["SIMULATE_OUTPUT"] = command[1]
        if command[:1] == ("sleep",):
            seconds = int(command[1])
            shorter = seconds if seconds >= ENDLESS else min(seconds / FASTER, LONGEST)
            variables["SIMULATE_SECONDS"] = str(shorter)
        return super().schedule(*command, image=image, env_vars=variables, **more)

    def start_services(self) -> None:
        """Start the services' instance, as the group does."""
        tags = [{"Key": SERVICES_TAG, "Value": self.stack}]
        images = self.client("ec2").describe_images(
            Filters=[{"Name": "architecture", "Values": ["x86_64"]}]
        )["Images"]
        self.client("ec2").run_instances(
            ImageId=images[0]["ImageId"],
            InstanceType="m5.large",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )

    def services(self) -> list[str]:
        """Return the ids of the services' instances that run."""
        shown = self.client("ec2").describe_instances(
            Filters=[
                {"Name": "tag-key", "Values": [SERVICES_TAG]},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
        )
        return [
            each["InstanceId"] for group in shown["Reservations"] for each in group["Instances"]
        ]

    def _sleep(self, _seconds: float) -> None:
        """Wait a little, and do what the group does: with its instance the services end."""
        self._pause.wait(LOOK_SECONDS)
        if not self.destroyed and not self.services():
            self.stage.system.stop()
            self.start_services()
            self.stage.system.start_again()

    def _run(self, words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        text = " ".join(words)
        if "operations.doctor" in text:
            env = {**os.environ, **self.stage.cloud.environment()}
            return subprocess.run(
                words, env=env, cwd=ROOT, capture_output=True, text=True, check=False
            )
        answer = "Nothing remains.\n"
        if "destroy.sh" in text:
            self.destroyed = True
            self.client("ec2").terminate_instances(InstanceIds=self.services())
        elif "--dry-run" in text:
            answer = "  Dry run: nothing was changed.\n"
        else:
            answer = f"  Address:  {self.stage.system.url}\n  API key:  {self._key()}\n"
        return subprocess.CompletedProcess(words, 0, answer, "")

    def _key(self) -> str:
        made = subprocess.run(
            [
                *(sys.executable, "-m", "embedded.run", "keys", "create"),
                *("--name", "first", "--scope", "submit"),
            ],
            env={**os.environ, **self.stage.system.environment()},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return next(word for word in made.stdout.split() if word.startswith("djk_"))
