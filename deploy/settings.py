"""`--set NAME=VALUE`: settings of the services, checked here and kept in the stack's parameter.

A setting is one that compose.yaml passes to the services. Those that the stack makes itself are
refused with the option to use instead, secrets always: a stack's parameters are readable to all who
may describe it. Values are read by the services' own readers, in a process of its own.
"""

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from deploy.refusal import Refusal
from deploy.source import ROOT

PREFIX = "DOCKER_JOB_"

MOST_BYTES = 4096
"""Of a parameter's value:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""

STACKS_OWN = {
    "COMPUTE_URL": "--region",
    "DEPLOYMENT": "--stack",
    "EC2_SUBNETS": "--job-subnets",
    "EC2_IMAGE_ID": "--ami",
    "EC2_INSTANCE_PROFILE": "--job-policy, for what jobs may do on AWS",
    "INSTANCE_ROLE_ARN": "--job-policy, for what jobs may do on AWS",
    "API_URL": "--domain",
    "HOST": "--allow",
    "PORT": None,
    "EC2_KEY_NAME": "--set EC2_SESSION_MANAGER=on, since no port is open for SSH",
    "EC2_SECURITY_GROUPS": (
        "the group that the stack makes, in which job instances reach HTTPS and the API"
    ),
    "INTERRUPTION_QUEUE_URL": None,
    "STS_REGION": None,
    "STS_URL": None,
    "IMAGE": None,
    "HEALTH_PORT": None,
    "PUBLISHED_HOST": None,
    "SECRETS_DIR": None,
}
"""Settings that the stack makes, and the option for each, if there is one."""

OF_A_SHARED_ENGINE = (
    *("ENGINE_SOCKET", "IMAGES_DISK_PERCENT", "IMAGES_KEEP_HOURS", "INSTANCE_IMAGE"),
    *("INSTANCE_NETWORK", "LOCAL_IMAGES", "NETWORK_POOL", "PACKET_FILTER", "RUNTIME"),
    *("REHEARSAL_IMAGE", "REHEARSAL_PORT", "REHEARSAL_SPEED"),
)
"""Settings without effect on EC2."""

PARAMETERS = {"MAX_LIFETIME_SECONDS": "MaxLifetimeSeconds"}
"""Settings that are parameters of their own: the template needs them elsewhere too."""

IMAGE, SUBNETS, SESSION_MANAGER = "EC2_IMAGE_ID", "EC2_SUBNETS", "EC2_SESSION_MANAGER"

SECRET = re.compile(r"(_FILE|PASSWORD|SECRET|_KEY|TOKEN)(_|$)")
NOT_SECRET = ("WIPE_SECRETS",)


def known() -> set[str]:
    """Return the names that compose.yaml passes to the services, without the prefix."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    passed_on = re.findall(rf"^ +{PREFIX}([A-Z0-9_]+):", text, re.MULTILINE)
    return {*passed_on, *re.findall(rf"\$\{{{PREFIX}([A-Z0-9_]+)", text)}


def read(before: str) -> dict[str, str]:
    """Read the stack's parameter. Raises `Refusal`."""
    try:
        found = json.loads(before or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise Refusal(
            "The stack's parameter Settings is no JSON object of texts: it was changed elsewhere. "
            "Set it to {} in the console, and give the settings again with --set."
        )
    return {str(name): value for name, value in found.items()}


def merge(before: Mapping[str, str], given: Sequence[str]) -> dict[str, str]:
    """Apply each `NAME=VALUE` of *given* to *before*; `NAME=` removes. Raises `Refusal`."""
    settings = dict(before)
    for each in given:
        name, equals, value = each.partition("=")
        name = name.strip().removeprefix(PREFIX)
        if not equals:
            raise Refusal(f"--set {each!r} has no value: write it as --set CAPACITY=spot.")
        if value.strip() or name not in STACKS_OWN:  # to remove what the stack decides is harmless
            _refuse_name(name)
        _refuse_value(name, value)
        settings.pop(name, None)
        if value.strip():
            settings[name] = value.strip()
    return settings


def _refuse_name(name: str) -> None:
    if name in STACKS_OWN:
        option = STACKS_OWN[name]
        instead = f": use {option}" if option else ""
        raise Refusal(f"--set {name}: {PREFIX}{name} is for the stack to decide{instead}.")
    if name in OF_A_SHARED_ENGINE:
        raise Refusal(f"--set {name}: {PREFIX}{name} has no effect on EC2.")
    if SECRET.search(name) and name not in NOT_SECRET:
        raise Refusal(
            f"--set {name}: secrets are not settings of a stack, which others can read: they are "
            "in SSM's Parameter Store (docs/operations.md, 'Rotate secrets')."
        )
    if name not in known() | set(PARAMETERS):
        names = known() - set(STACKS_OWN) - set(OF_A_SHARED_ENGINE)
        near = difflib.get_close_matches(name.upper(), sorted(names), 1, 0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise Refusal(f"--set {name}: the services have no setting {PREFIX}{name}.{hint}")


def _refuse_value(name: str, value: str) -> None:
    if not value.isprintable():
        raise Refusal(f"--set {name}: the value must be one line of printable characters.")


def refuse_bad(settings: Mapping[str, str], region: str) -> None:
    """Raise `Refusal` with the reader's message where a service would not start."""
    values = {
        "COMPUTE_URL": f"ec2://{region}",
        "API_URL": "https://api.docker-job.internal:8443",
        **settings,
    }
    run = subprocess.run(
        [sys.executable, "-m", "operations.check_settings"],
        input=json.dumps(values),
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or ["the check of the settings has failed"]
        raise Refusal(f"--set: {lines[-1]}")


def write(settings: Mapping[str, str]) -> str:
    """Format the parameter's value: one line of JSON. Raises `Refusal` where it is too long."""
    text = json.dumps(dict(sorted(settings.items())), separators=(",", ":"))
    if len(text.encode()) > MOST_BYTES:
        raise Refusal(
            f"The settings take {len(text)} bytes, and CloudFormation keeps {MOST_BYTES}: remove "
            "some with --set NAME=."
        )
    return text
