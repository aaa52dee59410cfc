"""`destroy.sh`: end job instances, delete the stack, delete or keep the data, list what remains.

The services end first, or they would replace terminated instances; then job instances, which are
in no stack; then the record that the services' instance has made in the stack's zone, which is not
in the stack either; then the stack; then the resources that outlive it.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from botocore.exceptions import ClientError

from deploy import place, zone
from deploy.account import Account, open_account
from deploy.ending import Ending
from deploy.progress import Progress
from deploy.reason import groups
from deploy.refusal import Refusal, as_refusals, code_of
from deploy.source import bucket_name
from deploy.stack import Stack, Waiting, find_stack, first_failure, last_event
from deploy.terminal import protect_terminal
from deploy.up import add_where

DEPLOYMENT_TAG = "docker-job:deployment"
"""The launcher's tag on job instances, their volumes and Spot requests, and its templates."""

SERVICES_SECONDS = 120.0
"""How long the services' instance has to end with its group."""

BATCH = 100


def parser() -> argparse.ArgumentParser:
    """Define the command line."""
    top = argparse.ArgumentParser(
        prog="deploy/destroy.sh", description="Removes docker-job from AWS, its data included."
    )
    add_where(top)
    top.add_argument("--keep-data", action="store_true", help="leave volume, snapshots, secrets")
    top.add_argument("--yes", action="store_true", help="do not ask")
    return top


@dataclass(frozen=True)
class Removal:
    """The removal of one stack and of all that belongs to it."""

    account: Account
    stack: str
    progress: Progress
    sleep: Callable[[float], None] = time.sleep
    seconds: Callable[[], float] = time.monotonic

    def end_services(self) -> None:
        """Set the group's size to 0, and wait until its instance is terminated.

        One that the group does not end is terminated after a while.
        """
        scaling = self.account.client("autoscaling")
        for group in groups(scaling, self.stack):
            scaling.update_auto_scaling_group(
                AutoScalingGroupName=group, MinSize=0, MaxSize=0, DesiredCapacity=0
            )
        self._ending.until_none(
            "the services' instance", place.SERVICES_TAG, after=SERVICES_SECONDS
        )

    def end_jobs(self) -> int:
        """Cancel every request, terminate every job instance; return their number.

        The requests first: a persistent one would launch again.
        """
        ec2 = self.account.client("ec2")
        for start in range(0, len(requests := self._requests()), BATCH):
            ec2.cancel_spot_instance_requests(
                SpotInstanceRequestIds=requests[start : start + BATCH]
            )
        ended = self._ending.until_none("job instances", DEPLOYMENT_TAG)
        for template in self._templates():
            ec2.delete_launch_template(LaunchTemplateId=template)
        for volume in self._job_volumes():
            try:
                ec2.delete_volume(VolumeId=volume["VolumeId"])
            except ClientError as error:  # what is left is listed at the end
                if code_of(error) not in ("VolumeInUse", "InvalidVolume.NotFound"):
                    raise
        return ended

    @property
    def _ending(self) -> Ending:
        return Ending(self.account, self.stack, self.progress, self.sleep, self.seconds)

    def _requests(self) -> list[str]:
        pages = self.account.client("ec2").get_paginator("describe_spot_instance_requests")
        chosen = [
            self._tagged(DEPLOYMENT_TAG),
            {"Name": "state", "Values": ["open", "active"]},
        ]
        return [
            each["SpotInstanceRequestId"]
            for page in pages.paginate(Filters=chosen)
            for each in page["SpotInstanceRequests"]
        ]

    def _job_volumes(self) -> list[dict[str, Any]]:
        """Return the volumes of job instances that their ends have not deleted.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/preserving-volumes-on-termination.html
        """
        pages = self.account.client("ec2").get_paginator("describe_volumes")
        return [
            each
            for page in pages.paginate(Filters=[self._tagged(DEPLOYMENT_TAG)])
            for each in page["Volumes"]
            if each["State"] not in ("deleting", "deleted")
        ]

    def _templates(self) -> list[str]:
        pages = self.account.client("ec2").get_paginator("describe_launch_templates")
        return [
            each["LaunchTemplateId"]
            for page in pages.paginate(Filters=[self._tagged(DEPLOYMENT_TAG)])
            for each in page["LaunchTemplates"]
        ]

    def _tagged(self, tag: str) -> dict[str, Any]:
        return {"Name": f"tag:{tag}", "Values": [self.stack]}

    def delete_stack(self) -> None:
        """Delete the stack and wait. Raises `Refusal` with CloudFormation's reason."""
        stack = find_stack(self.account, self.stack)
        if stack is None:
            return
        since = last_event(self.account, stack)
        self.account.client("cloudformation").delete_stack(StackName=stack.stack_id)
        left = Waiting(self.account, self.progress, self.sleep).until_settled(stack.stack_id, since)
        if left is not None and left.status != "DELETE_COMPLETE":
            why = first_failure(self.account, left, since)
            raise Refusal(f"The stack is {left.status}. {why}")

    def delete_data(self) -> None:
        """Delete volumes, snapshots and secrets."""
        ec2, ssm = self.account.client("ec2"), self.account.client("ssm")
        for volume in place.data_volumes(self.account, self.stack):
            ec2.delete_volume(VolumeId=volume["VolumeId"])
        for snapshot in self._snapshots():
            ec2.delete_snapshot(SnapshotId=snapshot)
        for name in self._secrets():
            ssm.delete_parameter(Name=name)

    def _snapshots(self) -> list[str]:
        pages = self.account.client("ec2").get_paginator("describe_snapshots")
        chosen = [self._tagged(place.SERVICES_TAG)]
        return [
            each["SnapshotId"]
            for page in pages.paginate(OwnerIds=["self"], Filters=chosen)
            for each in page["Snapshots"]
        ]

    def _secrets(self) -> list[str]:
        pages = self.account.client("ssm").get_paginator("get_parameters_by_path")
        path = f"/docker-job/{self.stack}/"
        return [each["Name"] for page in pages.paginate(Path=path) for each in page["Parameters"]]

    def delete_bucket(self) -> None:
        """Delete the bucket with the source."""
        bucket, s3 = bucket_name(self.account, self.stack), self.account.client("s3")
        owner = self.account.account_id
        try:
            for page in s3.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, ExpectedBucketOwner=owner
            ):
                for each in page.get("Contents", []):
                    s3.delete_object(Bucket=bucket, Key=each["Key"], ExpectedBucketOwner=owner)
            s3.delete_bucket(Bucket=bucket, ExpectedBucketOwner=owner)
        except ClientError as error:
            if code_of(error) != "NoSuchBucket":
                raise

    def remaining(self) -> list[str]:
        """List the remaining resources of the deployment, each as a line of text."""
        found = [f"instance {each}" for each in self._ending.instances(DEPLOYMENT_TAG)]
        found += [f"instance {each}" for each in self._ending.instances(place.SERVICES_TAG)]
        found += [
            f"data volume {each['VolumeId']} ({each['Size']} GiB, {each['AvailabilityZone']})"
            for each in place.data_volumes(self.account, self.stack)
        ]
        found += [
            f"volume of a job instance {each['VolumeId']} ({each['Size']} GiB, {each['State']})"
            for each in self._job_volumes()
        ]
        found += [f"snapshot {each}" for each in self._snapshots()]
        found += [f"secret {each}" for each in self._secrets()]
        found += [f"launch template {each}" for each in self._templates()]
        return found


def confirm(options: argparse.Namespace, account: Account) -> None:
    """Have the operator type the stack's name. Raises `Refusal`."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("Standard input is not a terminal: add --yes to remove it.")
    data = "Its data is kept." if options.keep_data else "Its DATA too (--keep-data keeps it)."
    print(f"This removes {options.stack} in {account.region}, account {account.account_id}. {data}")
    if input("Type the stack's name to go on: ").strip() != options.stack:
        raise Refusal("Nothing was removed.")


def emptiable_zone(account: Account, stack: Stack | None) -> str | None:
    """Return the stack's hosted zone, or None. Raises `Refusal` where it holds foreign records."""
    zone_id = zone.find_zone(account, stack) if stack else None
    if stack is not None and zone_id is not None:
        zone.refuse_foreign_records(account, zone_id, stack.name)
    return zone_id


def run(options: argparse.Namespace, out: TextIO) -> None:
    """Remove the deployment. Raises `Refusal`."""
    with as_refusals():
        account = open_account(options.profile, options.region)
        stack = find_stack(account, options.stack)
        removal = Removal(account, options.stack, Progress(out))
        if stack is None and not removal.remaining():
            out.write(f"{account.region} has no stack {options.stack}, nor resources of one.\n")
            return
        if stack is not None and stack.status == "UPDATE_IN_PROGRESS":
            raise Refusal(
                f"The stack {options.stack} is being updated now: wait until that has ended."
            )
        zone_id = emptiable_zone(account, stack)
        confirm(options, account)
        removal.end_services()
        ended = removal.end_jobs()
        removal.progress.done(f"job instances ended: {ended}")
        if zone_id is not None:
            zone.delete_own_record(account, zone_id, options.stack, removal.sleep)
        removal.delete_stack()
        if not options.keep_data:
            removal.delete_data()
        removal.delete_bucket()
        removal.progress.done("removed")
        left = removal.remaining()
        out.write("Nothing remains.\n" if not left else "What remains:\n")
        out.writelines(f"  {each}\n" for each in left)
        if left and options.keep_data:
            out.write(
                "deploy/deploy.sh with the same --stack and region continues with that data.\n"
            )


def main() -> int:
    """Run the command line; return the exit status."""
    protect_terminal()
    try:
        run(parser().parse_args(), sys.stdout)
    except Refusal as refusal:
        print(f"destroy: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndestroy: stopped half-way; run it again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
