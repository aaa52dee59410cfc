"""The checks of an outcome. Pure: each deviation is one line of text."""

from collections.abc import Iterator
from datetime import datetime

from fake_aws.ledger import INTERRUPTED, Bill, total
from rehearsal.scenario import Job, Outcome

LEAK_BOUND_SECONDS = 60.0
"""The longest life of an instance after its attempt without a fault (docs/architecture.md)."""

CENT = 1e-6
"""The rounding of the API, in USD."""


def deviations(outcome: Outcome, interrupted: str) -> list[str]:
    """Return all deviations of *outcome*; an empty list is a success."""
    return [
        *_of_the_job(outcome.job, interrupted),
        *_of_instances(outcome),
        *_of_the_bill(outcome),
        *_of_the_first_hour(outcome),
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
    ours = {each["instance_id"]: each["cost_usd"] for each in outcome.job["attempts"]}
    for bill in outcome.bills:
        cost = ours.get(bill.instance_id)
        if cost is None or abs(cost - bill.cost_usd) > CENT:
            yield (
                f"instance {bill.instance_id} costs {cost} USD in the API and "
                f"{bill.cost_usd:.6f} in the cloud's ledger"
            )
    whole = outcome.job["cost_usd"]
    if whole is None or abs(whole - total(outcome.bills)) > CENT * len(outcome.bills):
        yield f"the job costs {whole} USD, the account is billed {total(outcome.bills):.6f}"


def _of_the_first_hour(outcome: Outcome) -> Iterator[str]:
    attempts = outcome.job["attempts"]
    free = {each["instance_id"] for each in attempts if each["cause"] == "interrupted"}
    for bill in outcome.bills:
        if bill.instance_id in free and (bill.cause != INTERRUPTED or bill.cost_usd):
            yield (
                f"instance {bill.instance_id} was interrupted within its first hour and is billed "
                f"{bill.cost_usd:.6f} USD: {bill.cause}"
            )
