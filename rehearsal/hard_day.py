"""The hard day: what a real account does, one trouble after the other, on one system.

Each trouble is one that EC2 documents, and after each the job must be DONE, on one instance at a
time, without an operator's help but where AWS itself asks for it (a quota is raised, an account is
verified). `docs/ec2.md` names the source of each.
"""

from collections.abc import Callable
from typing import Any

from rehearsal.outcome import Causes
from rehearsal.steps import Deviation, Steps

VERIFYING = (
    "Your request for accessing resources in this region is being validated, and you will not be "
    "able to launch additional resources in this region until the validation is complete."
)
OTHER_FAMILY = "x2iedn.xlarge"
"""Of a family whose quota is 0 in a new account; it runs what any type runs."""

FIRST, SECOND = "m5.large", "c5.large"
BOOT_SECONDS = 8
LONGER_SECONDS = 10
"""Of the container that is interrupted: longer than the sped up notice."""

SETTINGS = {
    "BOOT_SECONDS": str(BOOT_SECONDS),
    "LAUNCH_RETRY_SECONDS": "0.5",
    "LAUNCH_RETRY_LONGEST_SECONDS": "2",
    "EC2_POOL_REST_SECONDS": "2",
}
"""The system's, so that its waits are as short as the sped up cloud's."""


CLOUD: dict[str, Any] = {"new_account_quotas": True, "fleet_token_lists_instances": False}
"""The cloud's: a new account, and the less helpful of the answers that AWS's documents allow."""


def run_hard_day(steps: Steps) -> dict[int, Causes]:
    """Run all troubles; return how each job's attempts must have ended. Raises `Deviation`."""
    expected: dict[int, Causes] = {}
    for trouble in TROUBLES:
        steps.report(f"--- {(trouble.__doc__ or '').splitlines()[0]}")
        expected |= trouble(steps)
    return expected


def account_is_verified(steps: Steps) -> dict[int, Causes]:
    """A new account's first launches are refused until AWS has verified it."""
    control = steps.stage.cloud.control
    control.fail(
        "CreateFleet", code="PendingVerification", message=VERIFYING, status=400, times=None
    )
    job_id = steps.post()
    steps.report(f"it waits: {steps.until_waiting(job_id, 'PendingVerification')}")
    control.heal()
    steps.until_settled(job_id)
    return {job_id: ("done",)}


def quota_by_family(steps: Steps) -> dict[int, Causes]:
    """One family's quota is 0, which stops no job of another family."""
    waiting = steps.post(resources={"instance_types": [OTHER_FAMILY]})
    steps.report(f"it waits: {steps.until_waiting(waiting, 'quota', 'L-')}")
    other = steps.post()
    steps.until_settled(other)
    steps.report(f"job {other} of another family is done; the quota is raised")
    steps.stage.cloud.control.set_quota(4, market="spot", family="x")
    steps.until_settled(waiting)
    return {waiting: ("done",), other: ("done",)}


def pool_without_capacity(steps: Steps) -> dict[int, Causes]:
    """A type has no capacity anywhere, and another one none in the first zone."""
    control = steps.stage.cloud.control
    control.set_capacity(0, instance_type=FIRST)
    control.set_capacity(0, instance_type=SECOND, zone=f"{steps.stage.account.region}a")
    job_id = steps.post(resources={"instance_types": [FIRST, SECOND]})
    job = steps.until_settled(job_id)
    [attempt] = job["attempts"]
    if attempt["instance_type"] != SECOND or attempt["zone"].endswith("a"):
        raise Deviation(f"it ran on {attempt['instance_type']} in {attempt['zone']}")
    control.set_capacity(None, instance_type=FIRST)
    control.set_capacity(None, instance_type=SECOND, zone=f"{steps.stage.account.region}a")
    return {job_id: ("done",)}


def boot_that_fails(steps: Steps) -> dict[int, Causes]:
    """An instance cannot reach the API: its console is kept, and the next one runs the job."""
    steps.stage.cloud.control.break_boots("no_network", times=1)
    job_id = steps.post()
    job = steps.until_settled(job_id)
    console = job["attempts"][0]["console_output"]
    if not console:
        raise Deviation("the console of the instance that failed to boot was not kept")
    steps.report(f"its console ended: {console.splitlines()[-1]}")
    return {job_id: ("lost", "done")}


def interruption_in_the_first_hour(steps: Steps) -> dict[int, Causes]:
    """EC2 takes an instance in its first hour, which is then free: it must not end itself."""
    job_id = steps.post(seconds=LONGER_SECONDS)
    interrupted = steps.until_running(job_id)
    steps.stage.cloud.control.interrupt(interrupted)
    steps.until_settled(job_id)
    [bill] = [
        each for each in steps.stage.cloud.control.ledger() if each.instance_id == interrupted
    ]
    if bill.instance_usd:
        raise Deviation(
            f"{interrupted} was interrupted in its first hour, and billed: {bill.cause}"
        )
    steps.report(f"{interrupted} ended by {bill.cause} and is free, but for address and disk")
    return {job_id: ("interrupted", "done")}


def answer_without_a_listing(steps: Steps) -> dict[int, Causes]:
    """CreateFleet's answer is lost, and the repeated call does not list what the first launched."""
    control = steps.stage.cloud.control
    before = {each.instance_id for each in control.ledger()}
    control.fail("CreateFleet", "lost_after", times=1)
    job_id = steps.post()
    steps.until_settled(job_id)
    launched = {each.instance_id for each in control.ledger()} - before
    if len(launched) != 1:
        raise Deviation(f"one job had {len(launched)} instances: {', '.join(sorted(launched))}")
    return {job_id: ("done",)}


TROUBLES: tuple[Callable[[Steps], dict[int, Causes]], ...] = (
    account_is_verified,
    quota_by_family,
    pool_without_capacity,
    boot_that_fails,
    interruption_in_the_first_hour,
    answer_without_a_listing,
)
