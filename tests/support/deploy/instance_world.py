"""The world of the services' instance at its first boot: metadata, CloudFormation, a machine."""

import base64
import contextlib
import json
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import uuid
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs

from deploy.place import SERVICES_TAG
from tests.deploy.conftest import ROOT, MotoCloud
from tests.support.run.ports import free_port

MACHINE = "debian:trixie-slim"
KEY_ID = "of-the-instances-role"
SUBNET = "{{(index .IPAM.Config 0).Subnet}}"
SIGNALLED = (
    '<SignalResourceResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">'
    "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></SignalResourceResponse>"
)


REFUSED = (
    '<ErrorResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><Error>'
    "<Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>The security token included in "
    "the request is invalid.</Message></Error><RequestId>1</RequestId></ErrorResponse>"
)


class SmallServer:
    """An HTTP server on a thread; `answer` gives status and body."""

    def __init__(self, port: int = 0) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                status, text = outer.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - the names that http.server calls

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        raise NotImplementedError

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class MetadataOfTheInstance(SmallServer):
    """IMDSv2, as far as the start script needs it."""

    def __init__(self, instance_id: str, address: str) -> None:
        session = {"AccessKeyId": KEY_ID, "SecretAccessKey": "likewise", "Token": "a-session"}
        self.facts = {
            "instance-id": instance_id,
            "local-ipv4": address,
            "iam/security-credentials/": "a-role",
            "iam/security-credentials/a-role": json.dumps(session),
        }
        super().__init__()

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        if method == "PUT":
            return 200, "a-token"
        if headers.get("X-aws-ec2-metadata-token") != "a-token":
            return 401, ""
        fact = self.facts.get(path.removeprefix("/latest/meta-data/"))
        return (200, fact) if fact else (404, "")


class SignalsToCloudFormation(SmallServer):
    """CloudFormation's SignalResource, which moto lacks: keeps (stack, resource, id, status)."""

    def __init__(self) -> None:
        self.received: list[tuple[str, ...]] = []
        self.refusals = 0
        """That many signals are refused, as of a role that CloudFormation does not know yet."""
        super().__init__()

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        form = {key: values[0] for key, values in parse_qs(body).items()}
        assert form["Action"] == "SignalResource", form
        if self.refusals:
            self.refusals -= 1
            return 403, REFUSED
        names = ("StackName", "LogicalResourceId", "UniqueId", "Status")
        self.received.append(tuple(form[name] for name in names))
        return 200, SIGNALLED


class ServedCloud:
    """A simulated cloud on this machine, at an address that containers reach."""

    def __init__(self) -> None:
        self.port = free_port()
        subnet = docker("network", "inspect", "bridge", "--format", SUBNET).strip()
        self.host = str(next(ip_network(subnet).hosts()))  # the engine takes the first for itself
        url = f"sim://0.0.0.0:{self.port}?seed=7&boot_seconds=0.5&stop_seconds=0.5"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "shared.compute.simulator.serve", url],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


class FirstBoot:
    """The services' instance: a Debian container beside the engine, with the stack's user data."""

    machine = MACHINE

    def __init__(self, aws: MotoCloud) -> None:
        [instance] = aws.instances(SERVICES_TAG)
        self.instance_id = str(instance["InstanceId"])
        self._metadata = MetadataOfTheInstance(self.instance_id, instance["PrivateIpAddress"])
        self.signals = SignalsToCloudFormation()
        self._aws = aws
        self._name = f"docker-job-test-{uuid.uuid4().hex[:8]}"
        # The engine mounts these into its containers: they have to be the same path for both.
        self._disk = Path(tempfile.mkdtemp(prefix="docker-job-instance-"))
        self._disk.chmod(0o755)
        (self._disk / "data").mkdir()
        self._cloud = ServedCloud()
        self.port, self._plain_port = free_port(), free_port()
        self.api = f"https://127.0.0.1:{self.port}"
        self.output = ""
        script = self._user_data(instance)
        (self._disk / "user-data").write_text(script)

    def _user_data(self, instance: dict[str, str]) -> str:
        """Return the stack's user data, with the changes that the test's docstring lists."""
        ec2 = self._aws.client("ec2")
        [template] = ec2.describe_launch_templates()["LaunchTemplates"]
        [version] = ec2.describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=["$Latest"]
        )["LaunchTemplateVersions"]
        script = base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()
        more = "\n".join(
            (
                f"DOCKER_JOB_COMPUTE_URL=sim://{self._cloud.host}:{self._cloud.port}",
                # Agents of the simulated cloud cannot verify: they are served in clear.
                "PLAIN_HTTP=open",
                f"PLAIN_PORT={self._plain_port}",
                f"DOCKER_JOB_API_URL=http://127.0.0.1:{self._plain_port}",
                "DOCKER_JOB_INSTANCE_ROLE_ARN=",
                "DOCKER_JOB_INTERRUPTION_QUEUE_URL=",
                "LOG_GROUP=",
                f"DATA_DIR={self._disk}/data",
                f"RUN_DIR={self._disk}/run",
                f"DOCKER_JOB_PORT={self.port}",
                f"COMPOSE_PROJECT_NAME={self._name}",
                "IMAGES_LOCK=/dev/null",  # the engine has the images by their tags alone
                f"AWS_ENDPOINT_URL={self._aws.url}",
            )
        )
        changed = script.replace("\nSETTINGS\n", f"\n{more}\nSETTINGS\n", 1)
        assert changed != script
        # The source has to be where the engine can mount an empty file of it from.
        return changed.replace("/opt/docker-job", f"{self._disk}/opt")

    def run(self, status: int = 0) -> None:
        """Run the first boot. Raises AssertionError unless it ends with *status*."""
        mounts, env = self._mounts(), self._env()
        docker(
            *("run", "--detach", "--name", self._name, "--network", "host", "--init"),
            *(part for each in mounts for part in ("--volume", f"{each}:{each}")),
            *(part for name, value in env.items() for part in ("--env", f"{name}={value}")),
            *(self.machine, "sleep", "infinity"),
        )
        self._exec(f"{self._disk}/user-data", status)

    def _mounts(self) -> list[str]:
        return ["/var/run/docker.sock", str(self._disk), f"{self._disk}/data"]

    def _env(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._aws.url,
            "AWS_ENDPOINT_URL_CLOUDFORMATION": self.signals.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self._metadata.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": "likewise",
        }

    def run_start_again(self, *arguments: str) -> None:
        """Run the start script again, as systemd does at a reboot."""
        self._exec(f"{self._disk}/opt/current/deploy/instance/start.sh", 0, *arguments)

    def renew_certificate(self, *, at_once: bool) -> None:
        """Run the start script's daily step; *at_once*: as if the certificate were old."""
        if at_once:
            docker("exec", self._name, "rm", f"{self._disk}/run/secrets/tls/certificate.pem")
        self._exec(f"{self._disk}/opt/current/deploy/instance/start.sh", 0, "certificate")

    def _exec(self, script: str, status: int = 0, *arguments: str) -> None:
        done = subprocess.run(
            ["docker", "exec", self._name, "bash", script, *arguments],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        self.output = done.stdout + done.stderr
        assert done.returncode == status, self.output[-6000:]

    @property
    def authority(self) -> ssl.SSLContext:
        """The authority of the API's certificate, as the instance has it."""
        path = f"{self._disk}/run/secrets/tls/ca.pem"
        return ssl.create_default_context(cadata=docker("exec", self._name, "cat", path))

    def access_key_of(self, service: str) -> str:
        """Return the access key that the AWS SDK finds in a service's container."""
        ask = "import boto3; print(boto3.Session().get_credentials().access_key)"
        return docker("exec", f"{self._name}-{service}-1", "python", "-c", ask).strip()

    def session_of(self, service: str) -> dict[str, str]:
        """Return the session that the start script has written for a service."""
        path = f"{self._disk}/run/services/{service}/aws_session"
        found: dict[str, str] = json.loads(docker("exec", self._name, "cat", path))
        return found

    @property
    def data(self) -> Path:
        """The data volume."""
        return self._disk / "data"

    def files_of_the_volume(self) -> dict[str, str]:
        """Read every file of the data volume."""
        paths = docker("exec", self._name, "find", str(self.data), "-type", "f").splitlines()
        return {each: docker("exec", self._name, "cat", each) for each in paths}

    def modes_of_secrets(self) -> dict[str, str]:
        """Return the mode, in octal digits, of each file and directory with secrets, by path."""
        places = (f"{self._disk}/run/secrets", f"{self._disk}/run/services")
        listing = docker("exec", self._name, "find", *places, "-printf", "%m %p\n")
        return {path: mode for mode, path in (line.split(" ", 1) for line in listing.splitlines())}

    def secret_in_clear(self) -> str | None:
        """Return a secret that is in the start's output or user data, if there is one."""
        secrets = [each.read_text() for each in (self._disk / "run" / "secrets").glob("*_*")]
        assert len(secrets) >= 3
        text = self.output + (self._disk / "user-data").read_text()
        return next((each for each in secrets if each in text), None)

    def close(self) -> None:
        """Leave nothing behind."""
        label = f"label=com.docker.compose.project={self._name}"
        for kind in ("container", "volume", "network"):
            listing = (
                "ls",
                "--quiet",
                "--filter",
                label,
                *(["--all"] if kind == "container" else []),
            )
            for each in docker(kind, *listing).split():
                docker(kind, "rm", *(["--force"] if kind != "network" else []), each)
        with contextlib.suppress(AssertionError):
            docker("rm", "--force", "--volumes", self._name)
        found = re.search(r"RELEASE=([0-9a-f]+)", (self._disk / "user-data").read_text())
        if found:
            with contextlib.suppress(AssertionError):
                docker("image", "rm", f"docker-job:{found[1]}")
        # Files of the containers' users.
        inside = ("--volume", f"{self._disk}:/disk", MACHINE, "find", "/disk", "-mindepth", "1")
        docker("run", "--rm", *inside, "-delete")
        shutil.rmtree(self._disk, ignore_errors=True)
        self._cloud.close()
        self.signals.close()
        self._metadata.close()


def docker(*arguments: str) -> str:
    """Run docker; return its output. Raises AssertionError where it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
