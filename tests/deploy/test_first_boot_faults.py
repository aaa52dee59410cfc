"""The first boot when AWS, a mirror or a registry fails: repeated, or reported at once.

A new role is not known everywhere for some seconds, so each of the instance's first calls may be
refused. Whatever fails for good is signalled to CloudFormation, and its output is in the log group,
also before boto3 is installed.
"""

import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.deploy.conftest import REGION, MotoCloud
from tests.deploy.test_stack import user_data
from tests.deploy.test_start import ALLOW, step
from tests.support.deploy.faulty_moto import Faults
from tests.support.deploy.instance_world import KEY_ID, MetadataOfTheInstance, SmallServer
from tests.support.deploy.without_engine import FirstBootWithoutEngine
from tests.support.systems.compose_project import what_is_missing

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

GROUP = "/docker-job/docker-job"


@pytest.fixture
def boot(aws: MotoCloud) -> Iterator[FirstBootWithoutEngine]:
    """Make an instance whose engine only notes its commands."""
    if missing := what_is_missing():
        pytest.skip(missing)
    assert aws.deploy(*ALLOW).returncode == 0
    boot = FirstBootWithoutEngine(aws)
    yield boot
    boot.close()


def reported(aws: MotoCloud) -> str:
    """Return the text of the one report in the log group."""
    logs = aws.client("logs")
    [stream] = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert stream["logStreamName"].startswith("start/i-")
    found = logs.get_log_events(logGroupName=GROUP, logStreamName=stream["logStreamName"])
    return "".join(str(each["message"]) for each in found["events"])


REFUSED_ONCE = {
    "GetObject": "AccessDenied",
    "PutParameter": "AccessDeniedException",
    "AssumeRole": "InvalidClientTokenId",
    "AssociateAddress": "AuthFailure",
    "ChangeResourceRecordSets": "AccessDenied",
}
FAIL_ONCE = (
    "apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 update",
    "install -y --no-install-recommends python3-boto3",
    "build --quiet migrate",
    "pull --quiet --policy missing postgres rabbitmq",
    "run --rm -T migrate",
)


def test_each_step_that_fails_once_is_repeated(
    faults: Faults, boot: FirstBootWithoutEngine
) -> None:
    for action, code in REFUSED_ONCE.items():
        faults.fail(action, code)
    for words in FAIL_ONCE:
        boot.fail(words)
    boot.signals.refusals = 1
    boot.run()
    assert boot.signals.received == [("docker-job", "Services", boot.instance_id, "SUCCESS")]
    assert set(faults.refused) == set(REFUSED_ONCE)
    assert "AuthFailure" in boot.output, "the reason of each repetition is in the log"


def test_a_failure_before_the_sdk_is_there_is_signalled_at_once_with_its_output(
    aws: MotoCloud, boot: FirstBootWithoutEngine
) -> None:
    boot.hurry()
    boot.fail("install -y --no-install-recommends python3-boto3", times=99)
    boot.signals.refusals = 1
    boot.run(status=1)
    assert boot.signals.received == [("docker-job", "Services", boot.instance_id, "FAILURE")]
    text = reported(aws)
    assert "apt-get: no route to host" in text
    assert "installing python3-boto3: failed with status" in text


def test_a_failure_of_the_start_script_is_signalled_once(boot: FirstBootWithoutEngine) -> None:
    boot.fail("up -d --wait --remove-orphans api scheduler launcher reaper")
    boot.run(status=99)
    assert boot.signals.received == [("docker-job", "Services", boot.instance_id, "FAILURE")]
    assert "docker: no route to host" in boot.output


def test_a_step_that_never_succeeds_ends_with_its_status_and_its_name() -> None:
    run = step("again", "2", "pulling images", "bash", "-c", "exit 7")
    assert run.returncode == 7
    assert "pulling images: status 7; again in 1 s" in run.stderr
    assert "pulling images: status 7, at each try in 2 s" in run.stderr


class Receiver(SmallServer):
    """Keeps each call."""

    def __init__(self) -> None:
        self.received: list[tuple[Message, str]] = []
        super().__init__()

    def answer(self, method: str, path: str, headers: Message, body: str) -> tuple[int, str]:
        self.received.append((headers, body))
        return 200, "{}"


def test_the_report_is_signed_as_the_sdk_signs(aws: MotoCloud, tmp_path: Path) -> None:
    assert aws.deploy(*ALLOW).returncode == 0
    script = user_data(aws).partition("<<'REPORT'\n")[2].partition("\nREPORT\n")[0]
    (tmp_path / "report.py").write_text(script)
    metadata, receiver = MetadataOfTheInstance("i-1", "10.0.0.7"), Receiver()
    subprocess.run(
        [
            sys.executable,
            "-I",
            tmp_path / "report.py",
            REGION,
            "amazonaws.com",
            "a-stack",
            "a-group",
        ],
        input="no room",
        text=True,
        check=True,
        timeout=60,
        env={
            "AWS_ENDPOINT_URL": receiver.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        },
    )
    metadata.close()
    receiver.close()
    assert [signature_of(*each) for each in receiver.received] == [
        headers["authorization"].rpartition("Signature=")[2] for headers, _ in receiver.received
    ]
    assert "no room" in receiver.received[1][1]
    assert "Status=FAILURE" in receiver.received[2][1]


def signature_of(headers: Message, body: str) -> str:
    """Sign the received call with the SDK's own code."""
    credential = headers["authorization"].partition("Credential=")[2].partition(",")[0]
    service = credential.split("/")[3]
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest("POST", f"http://{headers['host']}/", data=body.encode())
    for name in signed:
        request.headers[name] = headers[name]
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY_ID, "likewise", "a-session"), service, REGION)
    return str(
        signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    )
