"""The steps of a first run: each acts on a `World`, and returns facts for the report.

A step that does not go as it must raises `Differs`; one that cannot run here raises `Skipped`.
"""

import re

from botocore.exceptions import ClientError

from deploy.down import DEPLOYMENT_TAG
from deploy.first_world import Differs, Facts, World, tail
from deploy.place import SERVICES_TAG
from deploy.refusal import code_of

BUDGET = "docker-job-first-run"
TEMPLATE_TAG = "docker-job-first-run"


class Skipped(Exception):
    """A step that cannot run here. The message names what it needs."""


def budget(world: World) -> Facts:
    """Make a budget of the month with an e-mail at 80 percent of it."""
    budgets = world.account.client("budgets")
    limit = {"Amount": str(world.choices.budget_usd), "Unit": "USD"}
    alarm = {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": 80.0,
        "ThresholdType": "PERCENTAGE",
    }
    subscriber = {"SubscriptionType": "EMAIL", "Address": world.choices.email}
    try:
        budgets.create_budget(
            AccountId=world.account.account_id,
            Budget={
                "BudgetName": BUDGET,
                "BudgetLimit": limit,
                "TimeUnit": "MONTHLY",
                "BudgetType": "COST",
            },
            NotificationsWithSubscribers=[{"Notification": alarm, "Subscribers": [subscriber]}],
        )
    except ClientError as error:
        if code_of(error) != "DuplicateRecordException":
            raise
    return {"budget": BUDGET, "usd": world.choices.budget_usd}


def doctor(world: World) -> Facts:
    """Run the checks of `make doctor`; their findings are facts, not failures of this step."""
    done = world.module("operations.doctor")
    if "No module named" in done.stderr:
        raise Skipped("this checkout has no operations/doctor")
    return {"exit_status": done.returncode, "output": tail(done.stdout + done.stderr)}


def dry_run(world: World) -> Facts:
    """Run deploy.sh --dry-run."""
    return {"output": tail(world.script("deploy.sh", *_allow(world), "--dry-run"))}


def deploy(world: World) -> Facts:
    """Deploy, and keep address and key."""
    output = world.script("deploy.sh", *_allow(world))
    address = re.search(r"Address:\s+(\S+)", output)
    if address is None:
        raise Differs("deploy.sh printed no address")
    world.access["url"] = address[1]
    key = re.search(r"API key:\s+(djk_\S+)", output)
    if key is not None:
        world.key_file.touch(mode=0o600)
        world.key_file.write_text(key[1])
    if not world.key_file.exists():
        raise Differs("the API key was shown before: put it into " + str(world.key_file))
    return {"url": address[1], "output": tail(output.replace(key[1], "djk_…") if key else output)}


def _allow(world: World) -> tuple[str, ...]:
    return ("--allow", world.choices.allow) if world.choices.allow else ()


def one_job(world: World) -> Facts:
    """Run one job on Spot."""
    number = world.schedule("echo", "it works", capacity="spot")
    job = world.until_over(number, "DONE")
    return {"job": job, "logs": world.call("GET", f"/jobs/{number}/logs")}


def interruption(world: World) -> Facts:
    """Have AWS interrupt the instance of a running job; the job must run again and end."""
    if not world.choices.fis_role:
        raise Skipped("add --fis-role ARN: a role that Fault Injection Service may assume")
    number = world.schedule("sleep", "240", capacity="spot")
    running = _runs(world, number)
    experiment = _interrupt(world, str(running["instance_id"]))
    job = world.until_over(number, "DONE", 1800)
    if len(job["attempts"]) < 2:
        raise Differs(f"job {number} had no second attempt after the interruption")
    return {"job": job, "experiment": experiment}


def _runs(world: World, number: int) -> Facts:
    """Wait until a job runs; return it."""

    def found() -> Facts | None:
        job = world.job(number)
        return job if job.get("phase") == "running" else None

    job: Facts = world.until(f"job {number} runs", 900, found)
    return job


def _interrupt(world: World, instance: str) -> str:
    """Interrupt an instance, with the notice of two minutes; return the experiment's id.

    https://docs.aws.amazon.com/fis/latest/userguide/fis-actions-reference.html
    (aws:ec2:send-spot-instance-interruptions)
    """
    fis, account = world.account.client("fis"), world.account
    arn = f"arn:{account.partition}:ec2:{account.region}:{account.account_id}:instance/{instance}"
    template = fis.create_experiment_template(
        clientToken=instance,
        description="docker-job's first run",
        roleArn=world.choices.fis_role,
        stopConditions=[{"source": "none"}],
        targets={
            "one": {
                "resourceType": "aws:ec2:spot-instance",
                "resourceArns": [arn],
                "selectionMode": "ALL",
            }
        },
        actions={
            "interrupt": {
                "actionId": "aws:ec2:send-spot-instance-interruptions",
                "parameters": {"durationBeforeInterruption": "PT2M"},
                "targets": {"SpotInstances": "one"},
            }
        },
        tags={TEMPLATE_TAG: world.stack},
    )["experimentTemplate"]["id"]
    started = fis.start_experiment(experimentTemplateId=template, clientToken=instance)
    fis.delete_experiment_template(id=template)
    return str(started["experiment"]["id"])


def burst(world: World) -> Facts:
    """Run many jobs at once; a new account's quota makes some of them wait."""
    numbers = [world.schedule("sleep", "20") for _ in range(world.choices.burst)]
    jobs = [world.until_over(number, "DONE", 3600) for number in numbers]
    return {
        "jobs": numbers,
        "waits": sorted({str(job.get("waiting_because")) for job in jobs}),
        "cost_usd": [job.get("cost_usd") for job in jobs],
    }


def cancel(world: World) -> Facts:
    """Cancel a job; its instance must be terminated."""
    number = world.schedule("sleep", "3600")
    _runs(world, number)
    world.call("DELETE", f"/jobs/{number}")
    job = world.until_over(number, "CANCELLED", 300)
    world.until("its instance is terminated", 600, lambda: not _instances(world, DEPLOYMENT_TAG))
    return {"job": job}


def wrong_image(world: World) -> Facts:
    """Run an image that does not exist; the job must fail with the registry's reason."""
    number = world.schedule(image="public.ecr.aws/docker/library/no-such-image:none", retries=0)
    return {"job": world.until_over(number, "FAILED", 1800)}


def kill(world: World) -> Facts:
    """Terminate the services' instance under a running job; both must continue."""
    number = world.schedule("sleep", "600")
    _runs(world, number)
    ids = _instances(world, SERVICES_TAG)
    world.account.client("ec2").terminate_instances(InstanceIds=ids)

    def again() -> bool:
        try:
            return bool(set(_instances(world, SERVICES_TAG)) - set(ids)) and bool(world.job(number))
        except Differs:
            return False

    world.until("the API answers from a new instance", 1800, again)
    return {"terminated": ids, "job": world.until_over(number, "DONE", 1800)}


def _instances(world: World, tag: str) -> list[str]:
    pages = world.account.client("ec2").get_paginator("describe_instances")
    alive = ["pending", "running", "shutting-down", "stopping"]
    chosen = [
        {"Name": f"tag:{tag}", "Values": [world.stack]},
        {"Name": "instance-state-name", "Values": alive},
    ]
    return [
        str(instance["InstanceId"])
        for page in pages.paginate(Filters=chosen)
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]


def destroy(world: World) -> Facts:
    """Remove all, the data too; nothing may remain."""
    output = world.script("destroy.sh", "--yes")
    if "Nothing remains" not in output and "nor resources of one" not in output:
        raise Differs("destroy.sh lists what remains: " + "; ".join(tail(output)))
    world.key_file.unlink(missing_ok=True)
    return {"output": tail(output)}


def bill(world: World) -> Facts:
    """Name the command for the bill: AWS has it a day later."""
    command = (
        "aws ce get-cost-and-usage --time-period Start=<day>,End=<the day after> --granularity "
        "DAILY --metrics UnblendedCost --group-by Type=DIMENSION,Key=USAGE_TYPE"
    )
    return {
        "account": world.account.account_id,
        "tomorrow": command,
        "compare_with": "cost_usd of the steps above",
    }
