"""`deploy.sh`: check, show, upload, create or update, wait, print the address and the first key."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from botocore.exceptions import ClientError

from deploy import costs, place
from deploy.account import (
    Account,
    ensure_linked_roles,
    open_account,
    refuse_no_spot,
    spot_quota,
)
from deploy.examine import examine, report
from deploy.progress import Progress
from deploy.refusal import Refusal, as_refusals, code_of
from deploy.source import Source, bucket_name, pack, upload
from deploy.stack import (
    READY,
    Stack,
    Waiting,
    apply,
    find_stack,
    first_failure,
    last_event,
    refuse_unusable,
)

ROOT_GIB = 16
"""The size in template.yaml; a test compares both."""

MAKES = """\
  It creates: one instance ({InstanceType}) in an Auto Scaling group of one, in {AvailabilityZone};
  a data volume of {DataVolumeGib} GiB with daily snapshots ({SnapshotsKept} kept); roles for
  services and jobs; security groups, the API open to {AllowedCidr} alone; a queue for
  interruptions; a private DNS zone; {face}; logs kept {LogRetentionDays} days;
  a bucket for the source."""


IN_CLEAR = (
    "deploy: warning: without a certificate the API is served over plain HTTP: API keys and "
    "secrets travel in clear, and every network on the way can read them. For HTTPS add "
    "--domain jobs.example.com and --certificate arn:aws:acm:…"
)


def parser() -> argparse.ArgumentParser:
    """Define the command line."""
    top = argparse.ArgumentParser(
        prog="deploy/deploy.sh",
        description="Deploys docker-job to AWS, or updates the deployment.",
    )
    add_where(top)
    top.add_argument("--dry-run", action="store_true", help="check and show, change nothing")
    top.add_argument(
        "--allow", metavar="CIDR", help="network that may reach the API (default: this machine)"
    )
    top.add_argument("--vpc", help="default: the region's default VPC")
    top.add_argument("--instance-type", help="of the services' instance (default: t4g.small)")
    top.add_argument("--data-gib", type=int, help="size of a new data volume (default: 20)")
    top.add_argument("--from-snapshot", metavar="SNAP", help="start with the data of a snapshot")
    top.add_argument("--domain", help="with --certificate: the API's name, for HTTPS")
    top.add_argument("--certificate", metavar="ARN", help="an ACM certificate of --domain")
    top.add_argument(
        "--job-policy", metavar="ARN", help="policy of jobs on AWS (default: no permissions)"
    )
    top.add_argument(
        "--ignore-quota", action="store_true", help="deploy even if the Spot quota is 0"
    )
    return top


def add_where(top: argparse.ArgumentParser) -> None:
    """Add the options that deploy.sh and destroy.sh share."""
    top.add_argument("--stack", default="docker-job", help="the stack's name (default: docker-job)")
    top.add_argument("--region", help="default: AWS_REGION, or the profile's")
    top.add_argument("--profile", help="default: AWS_PROFILE, or the standard chain")


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
    if bool(options.domain) != bool(options.certificate):
        raise Refusal("HTTPS needs both --domain jobs.example.com and --certificate arn:aws:acm:…")
    quota = spot_quota(account)
    if not options.ignore_quota:
        refuse_no_spot(quota)
    if options.from_snapshot:
        place.refuse_no_snapshot(account, options.from_snapshot)
    before = old.parameters if old else {}
    volume = place.kept_volume(account, options.stack) if old is None else None
    source = pack()
    # An earlier choice is kept unless an option changes it: an updated stack keeps its place.
    parameters = _place(account, options, before, volume) | {
        "AllowedCidr": before.get("AllowedCidr") or "",
        "Domain": options.domain or before.get("Domain", ""),
        "CertificateArn": options.certificate or before.get("CertificateArn", ""),
        "DataVolumeGib": str(options.data_gib or before.get("DataVolumeGib", 20)),
        "DataSnapshot": options.from_snapshot or before.get("DataSnapshot", ""),
        "DataVolume": (volume or {}).get("VolumeId") or before.get("DataVolume", ""),
        "SnapshotsKept": before.get("SnapshotsKept", "7"),
        "LogRetentionDays": before.get("LogRetentionDays", "30"),
        "MaxLifetimeSeconds": before.get("MaxLifetimeSeconds", "86400"),
        "JobPolicyArn": options.job_policy or before.get("JobPolicyArn", ""),
        "AssetBucket": bucket_name(account, options.stack),
        "AssetKey": source.key,
        "AssetSha256": source.sha256,
    }
    if options.allow or not parameters["AllowedCidr"]:
        parameters["AllowedCidr"] = place.allowed_cidr(options.allow)
    if options.from_snapshot:
        parameters["DataVolume"] = ""
    kept = parameters["DataVolume"] if volume else None
    return Plan(account, options.stack, old, parameters, source, quota.text, kept)


def _place(
    account: Account,
    options: argparse.Namespace,
    before: Mapping[str, str],
    volume: Mapping[str, str] | None,
) -> dict[str, str]:
    """Return the parameters of the place."""
    if before and options.vpc not in (None, before["VpcId"]):
        raise Refusal("A stack cannot move to another VPC: deploy a second one with --stack.")
    instance_type = options.instance_type or before.get("InstanceType", "t4g.small")
    vpc_id = place.find_vpc(account, options.vpc or before.get("VpcId"))
    subnets = place.public_subnets(account, vpc_id)
    zone = before.get("AvailabilityZone") or (volume or {}).get("AvailabilityZone")
    home = place.choose_subnet(account, subnets, instance_type, zone)
    with_balancer = options.certificate or before.get("CertificateArn")
    return {
        "VpcId": vpc_id,
        "SubnetId": before.get("SubnetId", home.subnet_id),
        "AvailabilityZone": home.zone,
        "JobSubnets": ",".join(each.subnet_id for each in subnets),
        "BalancerSubnets": ",".join(place.one_a_zone(subnets)) if with_balancer else "",
        "InstanceType": instance_type,
        "ImageId": place.newest_image(account, instance_type),
    }


def show(plan: Plan, out: TextIO) -> None:
    """Print the resources or changes, and the costs."""
    account, parameters = plan.account, plan.parameters
    with_balancer = bool(parameters["CertificateArn"])
    face = (
        "a load balancer with HTTPS" if with_balancer else "a fixed public address, without HTTPS"
    )
    out.write(
        f"docker-job: stack {plan.name} in {account.region}, account {account.account_id}, "
        f"as {account.caller}\n  Spot quota: {plan.quota}\n"
    )
    if plan.old is None:
        out.write(MAKES.format(face=face, **parameters) + "\n")
        if plan.kept:
            out.write(f"  It continues with the data on {plan.kept}, left by an earlier stack.\n")
    else:
        out.write(f"  It exists. To change: {', '.join(plan.changed) or 'nothing'}\n")
    out.write(
        costs.table(
            costs.monthly(
                account.region,
                parameters["InstanceType"],
                data_gib=int(parameters["DataVolumeGib"]),
                root_gib=ROOT_GIB,
                balancer=with_balancer,
            )
        )
        + "\n"
    )


def carry_out(plan: Plan, out: TextIO) -> Stack:
    """Upload, create or update, wait. Raises `Refusal` with the first failure."""
    account, progress = plan.account, Progress(out)
    ensure_linked_roles(account)
    progress.done(f"source {plan.source.sha256[:12]}, {len(plan.source.body) // 1024} KiB")
    upload(account, plan.name, plan.source)
    since = last_event(account, plan.old)
    if not apply(account, plan.name, plan.parameters, plan.old):
        progress.done("nothing has changed")
        if plan.old is not None:
            return plan.old
    stack = Waiting(account, progress).until_settled(plan.name, since)
    if stack is None or stack.status not in READY or "ROLLBACK" in stack.status:
        progress.done("failed")
        status = stack.status if stack else "deleted"
        why = first_failure(account, stack, since) if stack else "It was deleted meanwhile."
        raise Refusal(
            f"The stack is {status}. {why} (the instance's log is in the log group "
            f"/docker-job/{plan.name}, streams start/…: docs/operations.md)"
        )
    progress.done("the services are ready")
    return stack


def print_access(plan: Plan, stack: Stack, out: TextIO) -> None:
    """Print the address, the first API key once, and an example call."""
    url = stack.outputs["Url"]
    out.write(f"\n  Address:  {url}\n")
    if "BalancerName" in stack.outputs:
        domain = plan.parameters["Domain"]
        out.write(f"  DNS:      make {domain} a CNAME of {stack.outputs['BalancerName']}\n")
    key = take_first_key(plan.account, plan.name)
    if key is None:
        out.write("  API key:  was shown before (docs/operations.md, 'API keys', for another)\n")
    else:
        out.write(f"  API key:  {key}\n            shown only now, and stored nowhere: note it\n")
    out.write(
        f"  Try:      curl -H 'Authorization: Bearer {key or '<key>'}' -d "
        '\'{"docker_image": "alpine", "scheduled_for": "now"}\' '
        f"{url}/schedule\n"
    )


def first_key_name(stack: str) -> str:
    """Return the name of the parameter that holds the first API key for deploy.sh."""
    return f"/docker-job/{stack}/first_api_key"


def take_first_key(account: Account, stack: str) -> str | None:
    """Return the key that the start script has left, and delete it there; None: there is none."""
    ssm = account.client("ssm")
    name = first_key_name(stack)
    try:
        key = str(ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return None
    ssm.delete_parameter(Name=name)
    return key


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Deploy or update. Raises `Refusal`."""
    with as_refusals():
        account = open_account(options.profile, options.region)
        plan = make_plan(account, options)
        show(plan, out)
        if not plan.parameters["CertificateArn"]:
            out.flush()
            print(IN_CLEAR, file=sys.stderr, flush=True)
        report(examine(account, plan.parameters), out)
        if options.dry_run:
            out.write("  Dry run: nothing was changed.\n")
            return
        print_access(plan, carry_out(plan, out), out)


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        run(parser().parse_args(), sys.stdout)
    except Refusal as refusal:
        print(f"deploy: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndeploy: stopped; CloudFormation continues what it has begun", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
