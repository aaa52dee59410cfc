"""`deploy.sh`: check, show, upload, create or update, wait, print the address and the first key."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from botocore.exceptions import ClientError

from deploy import authority, cap, costs, face, settings
from deploy.account import Account, ensure_linked_roles, open_account
from deploy.examine import examine, report
from deploy.plan import Plan, make_plan
from deploy.progress import Progress
from deploy.reason import FailedLaunches, last_lines
from deploy.refusal import Refusal, as_refusals, code_of
from deploy.source import upload
from deploy.stack import READY, Stack, Waiting, apply, first_failure, last_event
from deploy.terminal import protect_terminal

CLOCKS_APART = 120
"""Seconds that this machine's clock may be ahead of AWS's."""

ROOT_GIB = 16
"""The size in template.yaml; a test compares both."""

MAKES = """\
  It creates: one instance ({InstanceType}) in an Auto Scaling group of one, in {AvailabilityZone};
  a data volume of {DataVolumeGib} GiB with daily snapshots ({SnapshotsKept} kept); roles for
  services and jobs; security groups, the API open to {AllowedCidr} alone; a queue for
  interruptions; a private DNS zone; {face}; logs kept {LogRetentionDays} days;
  a bucket for the source."""


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
    _add_face(top)
    top.add_argument(
        "--job-policy", metavar="ARN", help="policy of jobs on AWS (default: no permissions)"
    )
    top.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        help="a setting of the services, with or without DOCKER_JOB_ (docs/ec2.md, "
        ".env.example); may be repeated; NAME= removes it; kept by updates",
    )
    top.add_argument(
        "--usd-per-day",
        metavar="N|none",
        help="what jobs may cost a UTC day (default: asked for on a terminal, else none); kept by "
        "updates",
    )
    top.add_argument("--ami", help="image of job instances; `default`: the ECS-optimized one")
    _add_network(top)
    top.add_argument(
        "--ignore-quota", action="store_true", help="deploy even if the Spot quota is 0"
    )
    return top


def _add_face(top: argparse.ArgumentParser) -> None:
    """Add the options of HTTPS."""
    top.add_argument("--domain", help="the API's name (default: its address)")
    top.add_argument(
        "--certificate",
        metavar="ARN",
        help="an ACM certificate of --domain, which a load balancer serves (default: the "
        "deployment's own authority issues one)",
    )
    top.add_argument(
        "--insecure",
        action="store_true",
        help="serve plain HTTP too: keys and secrets travel in clear; for this update alone",
    )


def _add_network(top: argparse.ArgumentParser) -> None:
    """Add the options of the network of job instances."""
    top.add_argument(
        "--job-subnets",
        metavar="LIST",
        help="subnets of job instances, also private ones (default: `public`, all public ones)",
    )
    top.add_argument(
        "--own-dns",
        choices=("on", "off"),
        help="on: the VPC's own DNS servers forward docker-job.internal (default: off)",
    )


def add_where(top: argparse.ArgumentParser) -> None:
    """Add the options that deploy.sh and destroy.sh share."""
    top.add_argument("--stack", default="docker-job", help="the stack's name (default: docker-job)")
    top.add_argument("--region", help="default: AWS_REGION, or the profile's")
    top.add_argument("--profile", help="default: AWS_PROFILE, or the standard chain")


def show(plan: Plan, out: TextIO) -> None:
    """Print the resources or changes, and the costs."""
    account, parameters = plan.account, plan.parameters
    out.write(
        f"docker-job: stack {plan.name} in {account.region}, account {account.account_id}, "
        f"as {account.caller}\n  Spot quota: {plan.quota}\n"
    )
    if plan.old is None:
        out.write(MAKES.format(face=face.describe(parameters), **parameters) + "\n")
        if plan.kept:
            out.write(f"  It continues with the data on {plan.kept}, left by an earlier stack.\n")
    else:
        out.write(f"  It exists. To change: {', '.join(plan.changed) or 'nothing'}\n")
    out.write(face.describe_transition(parameters))
    chosen = settings.read(parameters["Settings"])
    if chosen:
        out.write("  Settings: " + ", ".join(f"{k}={v}" for k, v in chosen.items()) + "\n")
    out.write(f"  Jobs may cost: {cap.sentence(chosen)}\n")
    out.write(
        costs.table(
            costs.monthly(
                account.region,
                parameters["InstanceType"],
                data_gib=int(parameters["DataVolumeGib"]),
                root_gib=ROOT_GIB,
                balancer=bool(parameters["CertificateArn"]),
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
    since, began = last_event(account, plan.old), time.time() - CLOCKS_APART
    if not apply(account, plan.name, plan.parameters, plan.old):
        progress.done("nothing has changed")
        if plan.old is not None:
            return plan.old
    lines: list[str] = []
    launches = FailedLaunches(account, plan.name, began)

    def look() -> list[str]:
        return [f"the services' instance did not launch: {each}" for each in launches.look()]

    def read_reason() -> None:
        lines[:] = last_lines(account, plan.name, began)

    waiting = Waiting(account, progress, failed=read_reason, look=look)
    stack = waiting.until_settled(plan.name, since)
    if stack is None or stack.status not in READY or "ROLLBACK" in stack.status:
        progress.done("failed")
        status = stack.status if stack else "deleted"
        why = first_failure(account, stack, since) if stack else "It was deleted meanwhile."
        print_lines(lines, out)
        launch = f" Auto Scaling's reason: {launches.reasons[-1]}" if launches.reasons else ""
        raise Refusal(f"The stack is {status}. {why}{launch}")
    progress.done("the services are ready")
    return stack


def print_lines(lines: Sequence[str], out: TextIO) -> None:
    """Print the last lines that the instance has logged."""
    if lines:
        out.write("  The instance's last lines:\n")
        out.writelines(f"    {line}\n" for line in lines)
        out.flush()


def print_access(plan: Plan, stack: Stack, out: TextIO) -> None:
    """Print the address, the first API key once, and an example call."""
    outputs, domain = stack.outputs, plan.parameters["Domain"]
    url = outputs["Url"]
    out.write(f"\n  Address:  {url}\n")
    if "PlainUrl" in outputs:
        out.write(f"  In clear: {outputs['PlainUrl']}\n")
    if "BalancerName" in outputs:
        out.write(f"  DNS:      make {domain} a CNAME of {outputs['BalancerName']}\n")
    elif domain:
        out.write(f"  DNS:      make {domain} an A record of {outputs['PublicAddress']}\n")
    verify = "" if plan.parameters["CertificateArn"] else _print_authority(plan, out)
    out.write(f"  Limit:    {cap.sentence(settings.read(plan.parameters['Settings']))}\n")
    key = take_first_key(plan.account, plan.name)
    if key is None:
        out.write("  API key:  was shown before (docs/operations.md, 'API keys', for another)\n")
    else:
        out.write(f"  API key:  {key}\n            shown only now, and stored nowhere: note it\n")
    out.write(
        f"  Try:      curl {verify}-H 'Authorization: Bearer {key or '<key>'}' -d "
        '\'{"docker_image": "alpine", "scheduled_for": "now"}\' '
        f"{url}/schedule\n"
    )
    out.write(f"            docker-job login {verify}{url}\n")
    if (warning := face.warning(plan.parameters)) is not None:
        out.write(f"\n  {warning}\n")


def _print_authority(plan: Plan, out: TextIO) -> str:
    """Save the authority's certificate and print where; return the option for curl."""
    account, name = plan.account, plan.name
    certificate, path = authority.read(account, name), authority.file_of(account, name)
    shown, others = "ca.pem", f"            for others: {authority.command(account, name)}\n"
    if certificate is None:
        out.write(f"  CA:       is not in SSM: see the instance's log\n{others}")
    else:
        try:
            authority.save(path, certificate)
            shown = str(path)
            out.write(f"  CA:       {shown}, the certificate to verify it by\n{others}")
        except OSError as error:
            out.write(f"  CA:       cannot be written to {path}: {error.strerror}\n{others}")
    return f"--cacert {shlex.quote(shown)} "


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
        if (warning := face.warning(plan.parameters)) is not None:
            out.flush()
            print(f"deploy: {warning}", file=sys.stderr, flush=True)
        for each in plan.warnings:
            print(f"deploy: warning: {each}", file=sys.stderr, flush=True)
        found = examine(account, plan.parameters, ignore_quota=options.ignore_quota)
        report(found, out)
        if options.dry_run:
            out.write("  Dry run: nothing was changed.\n")
            return
        print_access(plan, carry_out(plan, out), out)


def main() -> int:
    """Run the command line; return the exit status."""
    protect_terminal()
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
