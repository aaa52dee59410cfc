"""The checks of an outcome. Pure: each deviation is one line of text."""

from collections.abc import Iterator
from datetime import datetime

from fake_aws.ledger import INTERRUPTED, Bill
from rehearsal.scenario import Job, Outcome

LEAK_BOUND_SECONDS = 60.0
"""The longest life of an instance after its attempt without a fault (docs/architecture.md)."""

CENT = 1e-6
"""The rounding of a line of the API, in USD."""

LINES = ("instance_usd", "public_ipv4_usd", "volume_usd")
DIGITS = 6


def billed_usd(bill: Bill) -> float:
    """Return the sum of the bill's lines, each rounded as the API does: a reader adds them up."""
    lines = (bill.instance_usd, bill.public_ipv4_usd, bill.volume_usd)
    return round(sum(round(each, DIGITS) for each in lines), DIGITS)


def deviations(outcome: Outcome, interrupted: str) -> list[str]:
    """Return all deviations of *outcome*; an empty list is a success."""
    return [
        *_of_the_job(outcome.job, interrupted),
        *_of_instances(outcome),
        *_of_the_bill(outcome),
        *(f"instance {each} is not terminated in EC2" for each in outcome.left),
    ]


def leaked_seconds(bill: Bill, job: Job) -> float:
    """Return the seconds that the instance ran after its attempt, by the cloud's clock."""
    ends = [each["ended_at"] for each in job["attempts"] if each["instance_id"] == bill.instance_id]
    if not ends or ends[0] is None or bill.ended_at is None:
        return bill.seconds
    return max(0.0, (bill.ended_at - datetime.fromisoformat(ends[0])).total_seconds())


def _of_the_job(job: Job, interrupted: str) -> Iterator[str]:
    causes = [each["cause"] for each in job["attempts"]]
    if job["status"] != "DONE":
        yield f"the job is {job['status']}, not DONE: {job['error_message']}"
    if causes != ["interrupted", "done"]:
        yield f"its attempts ended {causes}, not interrupted and done"
    instances = [each["instance_id"] for each in job["attempts"]]
    if instances[0] != interrupted or len(set(instances)) != len(instances):
        yield f"its attempts were on {instances}, of which {interrupted} was interrupted"


def _of_instances(outcome: Outcome) -> Iterator[str]:
    known = {each["instance_id"] for each in outcome.job["attempts"]}
    for bill in outcome.bills:
        if bill.instance_id not in known:
            yield f"instance {bill.instance_id} belongs to no attempt"
        if bill.market != "spot":
            yield f"instance {bill.instance_id} is {bill.market}, not Spot"
        leaked = leaked_seconds(bill, outcome.job)
        if leaked > LEAK_BOUND_SECONDS:
            yield f"instance {bill.instance_id} ran {leaked:.0f} s longer than its attempt"


def _of_the_bill(outcome: Outcome) -> Iterator[str]:
    ours = {each["instance_id"]: each for each in outcome.job["attempts"]}
    for bill in outcome.bills:
        yield from _of_one_bill(bill, ours.get(bill.instance_id, {}))
    whole, billed = outcome.job["cost_usd"], sum(billed_usd(each) for each in outcome.bills)
    if whole is None or abs(whole - billed) > CENT * len(LINES) * len(outcome.bills):
        yield f"the job costs {whole} USD, the account is billed {billed:.6f}"
    free = [each for each in outcome.bills if each.cause == INTERRUPTED]
    if any(each.instance_usd for each in free):
        yield "an instance was billed that was interrupted within its first hour"


def _of_one_bill(bill: Bill, attempt: Job) -> Iterator[str]:
    """Compare an attempt's cost with the bill of its instance: the sum, then each line."""
    cost, billed = attempt.get("cost_usd"), billed_usd(bill)
    if cost is None or abs(cost - billed) > CENT * len(LINES):
        yield (
            f"instance {bill.instance_id} costs {cost} USD in the API and {billed:.6f} in the "
            "cloud's ledger"
        )
        return
    ours = attempt["cost_lines"]
    for name in LINES:
        if ours[name] is None or abs(ours[name] - getattr(bill, name)) > CENT:
            yield (
                f"{name} of instance {bill.instance_id} is {ours[name]} in the API and "
                f"{round(getattr(bill, name), DIGITS)} in the cloud's ledger"
            )
