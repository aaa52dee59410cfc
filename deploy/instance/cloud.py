"""The calls of AWS for `start.sh`, run by the instance's own Python with its package of boto3.

    cloud.py instance-id             print this instance's id
    cloud.py attach VOLUME           attach the volume, and print its device
    cloud.py secrets STACK DIRECTORY write each secret into a file; make those that are missing
    cloud.py keep-sealing-keys STACK FILE  add the keys of that file to the sealing keys' parameter
    cloud.py new-sealing-key STACK   put a new key in front of the sealing keys
    cloud.py session ROLE NAME FILE  assume a role, and write its session for a container to read
    cloud.py keep-first-key STACK    keep the API key on standard input for deploy.sh to show
    cloud.py address ALLOCATION      associate the fixed public address with this instance
    cloud.py name ZONE NAME          point the API's name inside the VPC to this instance
    cloud.py signal STACK STATUS     signal SUCCESS or FAILURE to CloudFormation
    cloud.py note GROUP              write the end of standard input to the log

Each may be run again at any time, and is repeated here for `STEP_SECONDS`, 300 by default, while
AWS's answer may change: the first calls of a new role are refused for some seconds.
"""

import json
import os
import random
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this is run as a script

from deploy.instance import parameters

WAIT_SECONDS = 300
POLL_SECONDS = 2
LONGEST_PAUSE = 15.0
RESOURCE = "Services"
"""The Auto Scaling group's name in template.yaml."""

DENIED = frozenset(
    {
        *("AuthFailure", "UnauthorizedOperation", "AccessDenied", "AccessDeniedException"),
        *("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"),
    }
)
"""Until a new role has reached the service, which takes seconds (sources: docs/ec2.md, "Network,
permissions and quotas")."""

BUSY = frozenset(
    {
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded"),
        *("TooManyRequestsException", "TooManyUpdates", "RequestTimeout", "RequestTimeTooSkewed"),
        "PriorRequestNotComplete",  # Route 53: another change of the zone is under way
    }
)

NOT_YET = frozenset(
    {
        *("InvalidInstanceID.NotFound", "InvalidVolume.NotFound", "InvalidAllocationID.NotFound"),
        *("InvalidInstanceID", "IncorrectInstanceState", "IncorrectState", "VolumeInUse"),
        "ResourceNotFoundException",  # the log group
    }
)
"""Visible soon, or free soon: AssociateAddress of a pending instance is IncorrectInstanceState
(https://github.com/hashicorp/terraform-provider-aws/issues/19699)."""

CONTAINERS_USER = 10001
"""The user id of the Dockerfile."""

NOTE_BYTES = 200_000
"""A little less than the limit of one PutLogEvents call."""


def metadata(path: str) -> str:
    """Read a value of this instance from its metadata service."""
    token = _ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    return _ask("GET", f"meta-data/{path}", {"X-aws-ec2-metadata-token": token})


def _ask(method: str, path: str, headers: dict[str, str]) -> str:
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
    url = f"{base.rstrip('/')}/latest/{path}"
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - http
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - http
        return str(answer.read().decode())


def client(service: str) -> Any:
    """Return a client for this region."""
    config = Config(connect_timeout=5, read_timeout=20, retries={"max_attempts": 2})
    return boto3.client(service, region_name=os.environ["AWS_REGION"], config=config)


class NotInTimeError(Exception):
    """An expected change has not come."""


def may_change(error: Exception) -> bool:
    """Return whether the same call may succeed later."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code in DENIED | BUSY | NOT_YET or status >= 500
    if isinstance(error, ParamValidationError):
        return False
    if isinstance(error, parameters.NotKeptError):
        return True
    # Without an answer of AWS or of the metadata service: no network, no credentials yet.
    return isinstance(error, BotoCoreError | OSError)


def repeat(
    name: str,
    step: Callable[[], None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> None:
    """Run *step* until it succeeds, for *seconds* at most. Raises its last error."""
    deadline, pause = clock() + seconds, 0.5
    while True:
        try:
            step()
            return
        except Exception as error:
            if not may_change(error) or clock() + pause >= deadline:
                raise
            wait = pause * (0.5 + jitter() / 2)
            print(f"cloud: {name}: {error}; again in {wait:.1f} s", file=sys.stderr, flush=True)
        sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def until(what: str, happened: Callable[[], Any]) -> Any:
    """Repeat *happened* until its result is true; return it. Raises `NotInTimeError`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(POLL_SECONDS)
    raise NotInTimeError(f"{what}: not within {WAIT_SECONDS} s")


def instance_id() -> None:
    """Print this instance's id."""
    print(metadata("instance-id"))


def attach(volume: str, devices: str = "/dev") -> None:
    """Attach the volume and print its device, once the instance before has released it."""
    ec2, me = client("ec2"), metadata("instance-id")

    def attachment() -> str:
        [found] = ec2.describe_volumes(VolumeIds=[volume])["Volumes"]
        mine = [each for each in found["Attachments"] if each["InstanceId"] == me]
        if mine:
            return str(mine[0]["State"])
        if found["State"] == "available":
            ec2.attach_volume(VolumeId=volume, InstanceId=me, Device="/dev/sdf")
        return ""

    until(f"{volume} is attached", lambda: attachment() == "attached")
    print(until(f"{volume} shows as a device", lambda: device_of(volume, Path(devices))))


def device_of(volume: str, devices: Path) -> Path | None:
    """Find the device of an attached volume: by its id on NVMe, by the requested name on Xen."""
    nvme = devices / "disk/by-id" / f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    return next((each for each in (nvme, devices / "xvdf") if each.exists()), None)


def write_secrets(stack: str, directory: str) -> None:
    """Write every secret's file."""
    parameters.write_secrets(client("ssm"), stack, Path(directory))


def keep_sealing_keys(stack: str, file: str) -> None:
    """Add the keys in *file* to the sealing keys' parameter."""
    parameters.keep_sealing_keys(client("ssm"), stack, Path(file))


def new_sealing_key(stack: str) -> None:
    """Put a new key in front of the sealing keys."""
    parameters.new_sealing_key(client("ssm"), stack)


def session(role: str, name: str, file: str) -> None:
    """Write a session of *role* in the form of the SDK's `credential_process`.

    The SDK reads it again well before its end. Only the containers' user may read it.
    """
    given = client("sts").assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
    keys = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    answer = {"Version": 1, **{key: given[key] for key in keys}}
    answer["Expiration"] = given["Expiration"].isoformat()
    parameters.write_private(Path(file), json.dumps(answer), owner=CONTAINERS_USER)


def keep_first_key(stack: str, given: str) -> None:
    """Store the *given* key for deploy.sh, which shows and deletes it."""
    client("ssm").put_parameter(
        Name=f"/docker-job/{stack}/first_api_key",
        Type="SecureString",
        Value=given.strip(),
        Overwrite=True,
    )


def address(allocation: str) -> None:
    """Associate the address with this instance, also if another one has it."""
    client("ec2").associate_address(
        AllocationId=allocation, InstanceId=metadata("instance-id"), AllowReassociation=True
    )


def name(zone: str, fully: str) -> None:
    """Point the name to this instance. Agents resolve it at each call: the TTL is ten seconds."""
    record = {
        "Name": fully,
        "Type": "A",
        "TTL": 10,
        "ResourceRecords": [{"Value": metadata("local-ipv4")}],
    }
    client("route53").change_resource_record_sets(
        HostedZoneId=zone,
        ChangeBatch={"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]},
    )


def signal(stack: str, status: str) -> None:
    """Signal the status to CloudFormation; ignore that it waits for none (a reboot)."""
    try:
        client("cloudformation").signal_resource(
            StackName=stack,
            LogicalResourceId=RESOURCE,
            UniqueId=metadata("instance-id"),
            Status=status,
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise


def note(group: str, given: str) -> None:
    """Write the end of the *given* text to a log stream of its own."""
    logs, stream = client("logs"), f"start/{metadata('instance-id')}/{int(time.time())}"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    text = given.encode()[-NOTE_BYTES:].decode(errors="ignore") or "no output"
    event = {"timestamp": int(time.time() * 1000), "message": text}
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])


COMMANDS: dict[str, Callable[..., None]] = {
    "instance-id": instance_id,
    "attach": attach,
    "secrets": write_secrets,
    "keep-sealing-keys": keep_sealing_keys,
    "new-sealing-key": new_sealing_key,
    "session": session,
    "keep-first-key": keep_first_key,
    "address": address,
    "name": name,
    "signal": signal,
    "note": note,
}


READERS = ("keep-first-key", "note")
"""The commands that get standard input, which a repetition could not read again."""


def main(command: str, *arguments: str) -> int:
    """Run a command, repeated as long as that may help; return the exit status."""
    given = (sys.stdin.read(),) if command in READERS else ()
    seconds = float(os.environ.get("STEP_SECONDS") or WAIT_SECONDS)
    try:
        repeat(command, lambda: COMMANDS[command](*arguments, *given), seconds)
    except (BotoCoreError, ClientError, OSError, NotInTimeError, parameters.NotKeptError) as error:
        print(f"cloud: {command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
