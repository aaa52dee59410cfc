"""The steps of a first run about the deployment: budget, deploy, replace, destroy, bill.

A step that does not go as it must raises `Differs`. The steps that run jobs are in `first_jobs`.
"""

import re
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError

from deploy.down import DEPLOYMENT_TAG
from deploy.first_cloud import ids_of
from deploy.first_jobs import until_running
from deploy.first_world import ByHand, Differs, Facts, World, require, tail
from deploy.instance.parameters import write_private
from deploy.place import SERVICES_TAG
from deploy.refusal import code_of
from deploy.up import first_key_name

BUDGET = "docker-job-first-run"
PERCENT = 80.0


def budget(world: World) -> Facts:
    """Make a budget of the month with an e-mail at 80 percent of it, and read it back."""
    budgets, wanted = world.account.client("budgets"), world.choices.budget_usd
    limit = {"Amount": str(wanted), "Unit": "USD"}
    alarm = {
        "NotificationType": "ACTUAL",
        "ComparisonOperator": "GREATER_THAN",
        "Threshold": PERCENT,
        "ThresholdType": "PERCENTAGE",
    }
    subscriber = {"SubscriptionType": "EMAIL", "Address": world.choices.email}
    of_account = {"AccountId": world.account.account_id}
    try:
        budgets.create_budget(
            **of_account,
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
    named = of_account | {"BudgetName": BUDGET}
    shown = budgets.describe_budget(**named)["Budget"]["BudgetLimit"]
    require(
        float(shown["Amount"]) == float(wanted),
        f"the budget {BUDGET} exists with {shown['Amount']} {shown['Unit']}, not {wanted}: "
        "delete it, or give its amount with --budget-usd",
    )
    alarms = budgets.describe_notifications_for_budget(**named)["Notifications"]
    require(
        any(float(each["Threshold"]) <= PERCENT for each in alarms),
        f"the budget {BUDGET} has no alarm at {PERCENT:g} percent: delete it",
    )
    return {"budget": BUDGET, "usd": wanted, "alarms": len(alarms)}


def dry_run(world: World) -> Facts:
    """Run deploy.sh --dry-run; a stack that was not there is not there afterwards."""
    was_there = _has_stack(world)
    output = world.script("deploy.sh", *_allow(world), "--dry-run")
    require("nothing was changed" in output, "deploy.sh does not end with 'nothing was changed'")
    require(was_there or not _has_stack(world), "the dry run has made a stack")
    return {"output": tail(output)}


def _has_stack(world: World) -> bool:
    try:
        world.account.client("cloudformation").describe_stacks(StackName=world.stack)
    except ClientError as error:
        # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
        if code_of(error) == "ValidationError" and "does not exist" in str(error):
            return False
        raise
    return True


def deploy(world: World) -> Facts:
    """Deploy, and keep address and key; the API takes the key, which AWS keeps no more."""
    output = world.script("deploy.sh", *_allow(world))
    address = re.search(r"Address:\s+(\S+)", output)
    if address is None:
        raise Differs("deploy.sh printed no address")
    world.access["url"] = address[1]
    if ca := re.search(r"curl --cacert (\S+)", output):
        world.access["ca"] = ca[1]
    key = re.search(r"API key:\s+(djk_\S+)", output)
    if key is not None:
        write_private(world.key_file, key[1])
    require(world.key_file.exists(), f"the API key was shown before: put it into {world.key_file}")
    world.call("GET", "/list?limit=1")
    require(not _keeps_key(world), f"{first_key_name(world.stack)} still has the API key")
    return {"url": address[1], "output": tail(output.replace(key[1], "djk_…") if key else output)}


def _keeps_key(world: World) -> bool:
    try:
        world.account.client("ssm").get_parameter(Name=first_key_name(world.stack))
    except ClientError as error:
        if code_of(error) == "ParameterNotFound":
            return False
        raise
    return True


def _allow(world: World) -> tuple[str, ...]:
    return ("--allow", world.choices.allow) if world.choices.allow else ()


def kill(world: World) -> Facts:
    """Terminate the services' instance under a running job; both must continue.

    The address is the same since the API answers there, the volume since it knows the job, the
    private name since the job's instance reports its end.
    """
    number = world.schedule("sleep", "600")
    running = until_running(world, number)
    ids = ids_of(world, SERVICES_TAG)
    require(ids, f"no instance has the tag {SERVICES_TAG}={world.stack}")
    world.account.client("ec2").terminate_instances(InstanceIds=ids)

    def again() -> list[str]:
        try:
            new = sorted(set(ids_of(world, SERVICES_TAG)) - set(ids))
            return new if world.job(number) else []
        except Differs:
            return []

    new = world.until("the API answers from a new instance", 1800, again)
    job = world.until_over(number, "DONE", 1800)
    ran_on = [each["instance_id"] for each in job["attempts"]]
    require(
        ran_on == [running["instance_id"]],
        f"job {number} did not continue on {running['instance_id']}: it ran on {ran_on}",
    )
    return {"terminated": ids, "new": new, "job": job}


def destroy(world: World) -> Facts:
    """Remove all, the data too; nothing may remain."""
    output = world.script("destroy.sh", "--yes")
    if "Nothing remains" not in output and "nor resources of one" not in output:
        raise Differs("destroy.sh lists what remains: " + "; ".join(tail(output)))
    require(not _has_stack(world), "destroy.sh has ended, and CloudFormation still has the stack")
    world.until(
        "no instance is left after destroy.sh",
        600,
        lambda: not [*ids_of(world, SERVICES_TAG), *ids_of(world, DEPLOYMENT_TAG)],
    )
    world.key_file.unlink(missing_ok=True)
    return {"output": tail(output)}


def bill(world: World) -> Facts:
    """Name the command for the bill: AWS has it a day later, and only the operator compares."""
    today = datetime.now(UTC).date()
    raise ByHand(
        "Tomorrow compare cost_usd of the steps above with AWS's own figures: aws ce "
        f"get-cost-and-usage --time-period Start={today},End={today + timedelta(days=1)} "
        "--granularity DAILY --metrics UnblendedCost --group-by Type=DIMENSION,Key=USAGE_TYPE",
        account=world.account.account_id,
    )
