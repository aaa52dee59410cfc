"""A healthy installation on the strict cloud, for the doctor to examine."""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from msgspec.structs import replace

from fake_aws import CloudSettings, CloudThread
from fake_aws.credentials import Credential
from fake_aws.front import LoggedCall
from operations.doctor.__main__ import examine
from operations.doctor.installation import read_installation
from rehearsal.account import ROLE, make_user, prepare
from shared.clock import RealClock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.compute import Ec2Compute
from shared.compute.ec2.settings import ec2_settings
from shared.compute.port import Instance, LaunchBatch, LaunchRequest, Offer
from shared.findings import Finding
from shared.settings import Settings
from tests.support.compute.compute_ec2 import AGENT

DEPLOYMENT = "examined"
REGION = "us-east-1"
SHOWN = {"terminated_shown_seconds": 1e6, "terminated_tags_seconds": 1e6}
PATTERN = {
    "source": ["aws.ec2"],
    "detail-type": [
        "EC2 Spot Instance Interruption Warning",
        "EC2 Instance Rebalance Recommendation",
        "EC2 Instance State-change Notification",
    ],
}


class Unlimited(Aws):
    """Makes calls as fast as it can: the tests examine one account again and again."""

    async def _own_limit(self, action: str, instances: int) -> None:
        """Wait for nothing."""


class Healthy(BaseHTTPRequestHandler):
    """An API of which only the health is asked."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


class DoctorWorld:
    """The account, its user with all policies, the API, and one launch that has been made.

    *database*: the DSN of a migrated database.
    """

    def __init__(self, environment: pytest.MonkeyPatch, database: str, **settings: Any) -> None:
        self._environment = environment
        self._aws = Unlimited(REGION)
        # The ended instance stays visible with its tags: every test proves a permission on it.
        given = {"speed": 200.0, "throttle": False, **SHOWN, **settings}
        self.cloud = CloudThread(CloudSettings(**given))
        self.cloud.start()
        self.account = prepare(self.cloud)
        self._clients: dict[str, Any] = {}
        self._make_rule()
        self._api = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
        self._api.block_on_close = False
        threading.Thread(target=self._api.serve_forever, daemon=True).start()
        self.user = make_user(
            self.cloud, self.account, DEPLOYMENT, ("launcher", "reaper", "doctor")
        )
        self.environ = {
            **self.cloud.environment(self.user),
            "DOCKER_JOB_COMPUTE_URL": f"ec2://{REGION}",
            "DOCKER_JOB_DEPLOYMENT": DEPLOYMENT,
            "DOCKER_JOB_DATABASE_URL": database,
            "DOCKER_JOB_BUS_URL": "memory://",
            "DOCKER_JOB_API_URL": f"http://127.0.0.1:{self._api.server_port}",
            "DOCKER_JOB_EC2_INSTANCE_PROFILE": ROLE,
            "DOCKER_JOB_EC2_SECURITY_GROUPS": self.account.security_group,
            "DOCKER_JOB_EC2_INSTANCE_TYPES": "m5.large,c5.large",
            "DOCKER_JOB_EC2_PRICES": "api",
            "DOCKER_JOB_INSTANCE_ROLE_ARN": self.account.role_arn,
            "DOCKER_JOB_INTERRUPTION_QUEUE_URL": self.account.queue_url,
        }

    def close(self) -> None:
        """Stop the API and the cloud."""
        self._api.shutdown()
        self._api.server_close()
        self.cloud.close()

    def client(self, service: str) -> Any:
        """Return a client of the operator, who is allowed every call."""
        if service not in self._clients:
            self._clients[service] = boto3.client(service, **self.cloud.client_arguments())
        return self._clients[service]

    async def launch(self) -> str:
        """Launch one instance as the launcher does, and end it; return its id."""
        self._export()
        settings = ec2_settings(Settings(self.environ))
        launcher = Ec2Compute(REGION, DEPLOYMENT, RealClock(), AGENT, settings)
        api_url = self.environ["DOCKER_JOB_API_URL"]
        plan = await launcher.plan(Offer(deployment=DEPLOYMENT, api_url=api_url))
        request = LaunchRequest(
            token=uuid.uuid4().hex,
            deployment=DEPLOYMENT,
            job_id=1,
            attempt=1,
            max_lifetime_seconds=3600,
            api_url=api_url,
        )
        batch = LaunchBatch(token=uuid.uuid4().hex, requests=(request,), plan=plan)
        [launched] = await launcher.launch(batch)
        assert isinstance(launched, Instance), launched
        self.client("ec2").terminate_instances(InstanceIds=[launched.instance_id])
        return launched.instance_id

    async def findings(self, role: str = "all", **changes: str) -> dict[str, Finding]:
        """Examine with *changes* of the settings; return the findings by their names."""
        self._export()
        environ = {**self.environ, **changes}
        settings = Settings(environ)
        installation = read_installation(settings, environ)
        found = await examine(settings, installation, role, self._aws)
        assert len({each.name for each in found}) == len(found), "two findings have one name"
        return {each.name: each for each in found}

    def calls(self) -> list[LoggedCall]:
        """Return the calls that the user has made."""
        log = self.cloud.call(lambda cloud: list(cloud.front.log))
        return [each for each in log if each.caller == self.user.arn]

    def become(self, credential: Credential) -> None:
        """Examine with these credentials from now on."""
        self.user, self._aws = credential, Unlimited(REGION)
        self.environ |= self.cloud.environment(credential)

    @contextlib.contextmanager
    def allowed(self, *actions: str) -> Iterator[None]:
        """Allow the user these actions within the block, on every resource."""
        with self._policy("allow", {"Effect": "Allow", "Action": list(actions), "Resource": "*"}):
            yield

    @contextlib.contextmanager
    def forbidden(self, *actions: str, on: str = "*") -> Iterator[None]:
        """Deny the user these actions within the block, whatever its policies allow."""
        with self._policy("forbid", {"Effect": "Deny", "Action": list(actions), "Resource": on}):
            yield

    @contextlib.contextmanager
    def _policy(self, name: str, statement: dict[str, Any]) -> Iterator[None]:
        policy = {"UserName": self.user.arn.rpartition("/")[2], "PolicyName": name}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client("iam").put_user_policy(**policy, PolicyDocument=document)
        yield
        self.client("iam").delete_user_policy(**policy)

    def turn_clock(self, ahead: float) -> None:
        """Set AWS's clock *ahead* seconds before this machine's."""
        changed = replace(self.cloud.cloud.settings, clock_ahead_seconds=ahead)
        self.cloud.call(lambda cloud: cloud.front.change(changed))

    @contextlib.contextmanager
    def without_dry_run(self) -> Iterator[None]:
        """Make the cloud act as an emulator that does not know `DryRun`, within the block."""
        before = self.cloud.cloud.settings
        self.cloud.call(lambda cloud: cloud.front.change(replace(before, knows_dry_run=False)))
        yield
        self.cloud.call(lambda cloud: cloud.front.change(before))

    def _export(self) -> None:
        for name, value in self.environ.items():
            if name.startswith("AWS_"):
                self._environment.setenv(name, value)

    def _make_rule(self) -> None:
        events, sqs = self.client("events"), self.client("sqs")
        name = self.account.queue_url.rpartition("/")[2]
        arn = f"arn:aws:sqs:{REGION}:{self.account.number}:{name}"
        events.put_rule(Name="interruptions", EventPattern=json.dumps(PATTERN))
        events.put_targets(Rule="interruptions", Targets=[{"Id": "queue", "Arn": arn}])
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=self.account.queue_url, Attributes={"Policy": policy})
