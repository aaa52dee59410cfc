"""The stack's new parameters: what is kept, what the options change, and all checks before it.

Nothing here changes anything in the account.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from deploy import cap, dns, encryption, face, network, place, settings
from deploy.account import Account, refuse_no_spot, spot_quota
from deploy.refusal import Refusal
from deploy.source import Source, bucket_name, pack
from deploy.stack import Stack, find_stack, physical_id, refuse_unusable

ALL_PUBLIC = "public"
"""`--job-subnets public`: all public subnets of the VPC, which is the default."""

OWN_IMAGE = "default"
"""`--ami default`: the ECS-optimized image."""


@dataclass(frozen=True)
class Plan:
    """The stack's new parameters beside its present state."""

    account: Account
    name: str
    old: Stack | None
    parameters: Mapping[str, str]
    source: Source
    quota: str
    kept: str | None
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> list[str]:
        """The names of the parameters that differ from the stack's."""
        before = self.old.parameters if self.old else {}
        return [key for key, value in self.parameters.items() if before.get(key, "") != value]


def make_plan(account: Account, options: argparse.Namespace) -> Plan:
    """Inspect the account and decide on each parameter. Raises `Refusal`."""
    old = find_stack(account, options.stack)
    if old is not None:
        refuse_unusable(old, account.region)
    quota = spot_quota(account)
    if options.from_snapshot:
        place.refuse_no_snapshot(account, options.from_snapshot)
    before = old.parameters if old else {}
    volume = place.kept_volume(account, options.stack) if old is None else None
    source = pack()
    warnings: list[str] = []
    # An earlier choice is kept unless an option changes it: an updated stack keeps its place.
    chosen = _settings(account, options, before)
    # The quota of Standard matters neither to named types nor on demand: deploy/examine.py reads
    # the quotas of what is chosen.
    elsewhere = chosen.get("EC2_INSTANCE_TYPES") or chosen.get("CAPACITY", "spot") != "spot"
    if not options.ignore_quota and not elsewhere:
        refuse_no_spot(quota)
    parameters = (
        face.face(account, options, before, _longest_life(chosen, before))
        | _place(account, options, old, volume, chosen, warnings)
        | _settings_parameters(chosen)
        | _data(options, before, volume)
        | {
            "AllowedCidr": before.get("AllowedCidr") or "",
            "LogRetentionDays": before.get("LogRetentionDays", "30"),
            "JobPolicyArn": options.job_policy or before.get("JobPolicyArn", ""),
            "EbsKeyArn": encryption.choose_key(account, before.get("EbsKeyArn", ""), warnings),
            "AssetBucket": bucket_name(account, options.stack),
            "AssetKey": source.key,
            "AssetSha256": source.sha256,
        }
    )
    if options.allow or not parameters["AllowedCidr"]:
        parameters["AllowedCidr"] = place.allowed_cidr(options.allow)
    kept = parameters["DataVolume"] if volume else None
    return Plan(account, options.stack, old, parameters, source, quota.text, kept, tuple(warnings))


def _longest_life(chosen: Mapping[str, str], before: Mapping[str, str]) -> int:
    """Return how long a job instance may live that was launched before the update, or after it."""
    lives = (_lifetime(chosen), before.get("MaxLifetimeSeconds", "0"))
    return max(map(int, map(float, lives)))


def _lifetime(chosen: Mapping[str, str]) -> str:
    return chosen.get("MAX_LIFETIME_SECONDS", "86400")


def _data(
    options: argparse.Namespace,
    before: Mapping[str, str],
    volume: Mapping[str, str] | None,
) -> dict[str, str]:
    """Return the parameters of the data volume."""
    kept = (volume or {}).get("VolumeId") or before.get("DataVolume", "")
    return {
        "DataVolumeGib": str(options.data_gib or before.get("DataVolumeGib", 20)),
        "DataSnapshot": options.from_snapshot or before.get("DataSnapshot", ""),
        "DataVolume": "" if options.from_snapshot else kept,
        "SnapshotsKept": before.get("SnapshotsKept", "7"),
    }


def _settings(
    account: Account, options: argparse.Namespace, before: Mapping[str, str]
) -> dict[str, str]:
    """Return the services' settings, checked by the services' readers."""
    chosen = settings.read(before.get("Settings", ""))
    chosen |= {
        name: before[parameter]
        for name, parameter in settings.PARAMETERS.items()
        if before.get(parameter)
    }
    chosen = settings.merge(chosen, options.set or [])
    ask = None if before or options.dry_run else cap.terminal()
    chosen = cap.choose(chosen, options.usd_per_day, ask)
    if options.ami == OWN_IMAGE:
        chosen.pop(settings.IMAGE, None)
    elif options.ami:
        chosen[settings.IMAGE] = options.ami
    if image := chosen.get(settings.IMAGE):
        place.refuse_image(account, image, chosen.get("EC2_ARCHITECTURE", "x86_64"))
    if options.job_subnets == ALL_PUBLIC:
        chosen.pop(settings.SUBNETS, None)
    elif options.job_subnets:
        chosen[settings.SUBNETS] = ",".join(network.read_subnets(options.job_subnets))
    settings.refuse_bad(chosen, account.region)
    return chosen


def _settings_parameters(chosen: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that hold the settings."""
    rest = {name: value for name, value in chosen.items() if name not in settings.PARAMETERS}
    return {
        "Settings": settings.write(rest),
        "MaxLifetimeSeconds": _lifetime(chosen),
        "SessionManager": chosen.get(settings.SESSION_MANAGER, "off"),
    }


def _place(
    account: Account,
    options: argparse.Namespace,
    old: Stack | None,
    volume: Mapping[str, str] | None,
    chosen: Mapping[str, str],
    warnings: list[str],
) -> dict[str, str]:
    """Return the parameters of the place."""
    before = old.parameters if old else {}
    if before and options.vpc not in (None, before["VpcId"]):
        raise Refusal("A stack cannot move to another VPC: deploy a second one with --stack.")
    instance_type = options.instance_type or before.get("InstanceType", "t4g.small")
    vpc_id = place.find_vpc(account, options.vpc or before.get("VpcId"))
    own_dns = options.own_dns or before.get("OwnDns", "off")
    warnings += dns.refuse_no_dns(account, vpc_id, own_servers=own_dns == "on")
    subnets = place.public_subnets(account, vpc_id)
    zone = before.get("AvailabilityZone") or (volume or {}).get("AvailabilityZone")
    home = place.choose_subnet(account, subnets, instance_type, zone)
    jobs = chosen.get(settings.SUBNETS, "")
    if jobs:
        warnings += _check_job_subnets(account, old, vpc_id, chosen)
    with_balancer = options.certificate or before.get("CertificateArn")
    balancer = place.balancer_subnets(subnets, home.zone, jobs.split(",")) if with_balancer else []
    return {
        "VpcId": vpc_id,
        "SubnetId": before.get("SubnetId", home.subnet_id),
        "AvailabilityZone": home.zone,
        "JobSubnets": jobs or ",".join(each.subnet_id for each in subnets),
        "BalancerSubnets": ",".join(each.subnet_id for each in balancer),
        "TrustedProxies": ",".join(each.cidr for each in balancer),
        "InstanceType": instance_type,
        "ImageId": place.newest_image(account, instance_type),
        "OwnDns": own_dns,
    }


def _check_job_subnets(
    account: Account, old: Stack | None, vpc_id: str, chosen: Mapping[str, str]
) -> list[str]:
    """Check the subnets that `--job-subnets` names; return warnings."""
    found = network.job_subnets(account, vpc_id, chosen[settings.SUBNETS].split(","))
    return network.refuse_closed(
        account,
        vpc_id,
        found,
        option="--job-subnets",
        sessions=chosen.get(settings.SESSION_MANAGER) == "on",
        job_group=physical_id(account, old, "JobSecurityGroup") if old else "",
    )
