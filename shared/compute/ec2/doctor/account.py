"""Credentials, region and clock; the roles that EC2 and the instances need."""

import json
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from shared.compute.ec2 import error_rules
from shared.compute.ec2.doctor.asking import MORE, Outcome, ask
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.ec2.errors import NO_CREDENTIALS, UNREAD_CREDENTIALS, fits
from shared.findings import Finding, FindingGroup, Status

GROUP = "account"
SPOT_ROLE = "AWSServiceRoleForEC2Spot"
"""The console creates it, calls of the API do not. An instant fleet needs no other.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-prerequisites.html
"""
MAKE_SPOT_ROLE = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"

WARN_SECONDS = 60.0
FAIL_SECONDS = 300.0
"""AWS takes a signature for five minutes before and after.
https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html
"""
SYNCHRONISE = f"synchronise this machine's clock (NTP): AWS refuses calls {FAIL_SECONDS:.0f} s off"

NONE = frozenset({"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"})
UNREADABLE = frozenset(
    kind.__name__
    for each in (*NO_CREDENTIALS, *UNREAD_CREDENTIALS)
    for kind in (each, *each.__subclasses__())
)


async def credentials(scene: Scene) -> list[Finding]:
    """Check that AWS knows the credentials, and that both clocks agree."""
    found = FindingGroup(GROUP)
    outcome = await ask(scene.aws, "GetCallerIdentity", service="sts")
    skew = _skew(outcome, scene.clock.now())
    if outcome.is_answer:
        found.add("ok", "credentials", str(outcome.answer["Arn"]))
    else:
        found.add("fail", "credentials", outcome.error, _mend(outcome.code, skew))
    if skew is None:
        found.add("skip", "clock", "AWS's time is not known")
        return found.all
    size = abs(skew)
    status: Status = "fail" if size > FAIL_SECONDS else "warn" if size > WARN_SECONDS else "ok"
    side = "behind" if skew > 0 else "ahead of"
    text = f"this machine is {size:.0f} s {side} AWS" if size >= 1 else "it agrees with AWS's"
    found.add(
        status,
        "clock",
        text,
        SYNCHRONISE,
    )
    return found.all


async def region(scene: Scene) -> list[Finding]:
    """Check that the region exists, and that the account has opted in to it."""
    found, name = FindingGroup(GROUP), scene.has.region
    outcome = await ask(scene.aws, "DescribeRegions", RegionNames=[name], AllRegions=True)
    if outcome.is_denied:
        found.add("skip", "region", f"{name}; {outcome.error}", _allow("ec2:DescribeRegions"))
        return found.all
    regions = outcome.answer.get("Regions") or []
    if not regions:
        do = "write an existing region in DOCKER_JOB_COMPUTE_URL, such as ec2://us-east-1"
        found.add("fail", "region", outcome.error or f"there is no {name}", do)
    elif regions[0].get("OptInStatus") == "not-opted-in":
        do = f"enable it: aws account enable-region --region-name {name}"
        found.add("fail", "region", f"the account has not opted in to {name}", do)
    else:
        found.add("ok", "region", name)
    return found.all


async def spot_role(scene: Scene) -> list[Finding]:
    """Check that the service-linked role of Spot exists."""
    found = FindingGroup(GROUP)
    outcome = await ask(scene.aws, "GetRole", service="iam", RoleName=SPOT_ROLE)
    if outcome.is_answer:
        found.add("ok", "Spot's role", SPOT_ROLE)
    elif outcome.is_denied:
        found.add("skip", "Spot's role", outcome.error, _allow("iam:GetRole"))
    elif outcome.code.startswith("NoSuchEntity"):
        found.add("fail", "Spot's role", f"there is no {SPOT_ROLE}", f"once: {MAKE_SPOT_ROLE}")
    else:
        found.add("warn", "Spot's role", outcome.error)
    return found.all


async def profile(scene: Scene) -> list[Finding]:
    """Check the instance profile, and who may assume its role."""
    found, given = FindingGroup(GROUP), scene.settings.instance_profile
    name = "instance profile"
    if not given:
        do = "name a profile whose role identifies instances: DOCKER_JOB_EC2_INSTANCE_PROFILE"
        found.add("fail", name, "DOCKER_JOB_EC2_INSTANCE_PROFILE is not set", do)
        return found.all
    short = given.rpartition("/")[2]
    outcome = await ask(scene.aws, "GetInstanceProfile", service="iam", InstanceProfileName=short)
    if outcome.is_denied:
        found.add("skip", name, outcome.error, _allow("iam:GetInstanceProfile"))
    elif not outcome.is_answer:
        do = "make it, or name another in DOCKER_JOB_EC2_INSTANCE_PROFILE (docs/ec2.md)"
        found.add("fail", name, outcome.error, do)
    else:
        _check_profile(found, name, outcome.answer["InstanceProfile"], scene)
    return found.all


def _check_profile(found: FindingGroup, name: str, shown: dict[str, Any], scene: Scene) -> None:
    given, wanted = scene.settings.instance_profile, scene.has.instance_role_arn
    roles = shown.get("Roles") or []
    if given.startswith("arn:") and shown["Arn"] != given:
        do = f"set DOCKER_JOB_EC2_INSTANCE_PROFILE to {shown['Arn']}"
        found.add("fail", name, f"there is no {given}", do)
    elif not roles:
        short = shown["InstanceProfileName"]
        do = f"aws iam add-role-to-instance-profile --instance-profile-name {short} --role-name …"
        found.add("fail", name, f"{short} has no role", do)
    elif wanted and roles[0]["Arn"] != wanted:
        do = f"set DOCKER_JOB_INSTANCE_ROLE_ARN to {roles[0]['Arn']}: else no instance gets a job"
        found.add("fail", name, f"its role is {roles[0]['Arn']}, and {wanted} is expected", do)
    else:
        found.add("ok", name, f"{shown['InstanceProfileName']}, role {roles[0]['RoleName']}")
    if roles and not wanted:
        text = "not compared with what the API expects: DOCKER_JOB_INSTANCE_ROLE_ARN is not set"
        found.add("skip", "expected role", text, "set it where the doctor runs, as for the API")
    if roles:
        _check_trust(found, roles[0].get("AssumeRolePolicyDocument"))


def _check_trust(found: FindingGroup, document: Any) -> None:
    read = json.loads(unquote(document)) if isinstance(document, str) else document or {}
    given = read.get("Statement") or []
    statements = [given] if isinstance(given, dict) else given
    trusted = {
        name
        for each in statements
        if each.get("Effect") == "Allow"
        for name in _principals(each.get("Principal"))
    }
    ours = {each for each in trusted if each.startswith("ec2.amazonaws.com")}
    do = "replace its trust policy by docs/iam/instance-trust.json"
    if not ours:
        found.add("fail", "role's trust", "EC2 may not assume the instances' role", do)
    elif trusted - ours:
        others = ", ".join(sorted(trusted - ours))
        text = f"{others} may assume it too, and with it choose an instance's name"
        found.add("warn", "role's trust", text, do)
    else:
        found.add("ok", "role's trust", "EC2 alone may assume it")


def _principals(given: Any) -> list[str]:
    values = given.values() if isinstance(given, dict) else [given or []]
    return [name for each in values for name in (each if isinstance(each, list) else [str(each)])]


def _skew(outcome: Outcome, now: datetime) -> float | None:
    """Return by how many seconds AWS's clock is ahead of ours."""
    return None if outcome.at is None else (outcome.at - now).total_seconds()


def _mend(code: str, skew: float | None) -> str:
    # A signature at another time is refused with the codes of wrong or expired credentials.
    may_be_clock = fits(code, error_rules.EXPIRED) or fits(code, error_rules.NOT_KNOWN)
    if may_be_clock and abs(skew or 0.0) > FAIL_SECONDS:
        return SYNCHRONISE
    if code in NONE:
        return "name credentials: AWS_PROFILE, AWS_ACCESS_KEY_ID, or a role of this machine"
    if code in UNREADABLE:
        return "they cannot be read: check the profile or role, or sign in again (aws sso login)"
    if fits(code, error_rules.EXPIRED):
        return "get new ones, and renew them in time; or this machine's clock is off"
    if fits(code, error_rules.NOT_KNOWN):
        return "AWS does not know them: check the key or profile, and this machine's clock"
    return "check the network's way to AWS, the region and AWS_ENDPOINT_URL"


def _allow(action: str) -> str:
    return f"to check it, allow {action} ({MORE})"
