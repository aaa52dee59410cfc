"""The checks of an outcome. Pure: each deviation is one line of text."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from fake_aws.ledger import INTERRUPTED, Bill, total
from rehearsal.outcome import Causes, Job, Outcome

LEAK_BOUND_SECONDS = 60.0
"""The longest life of an instance after its attempt without a fault (docs/architecture.md)."""

CENT = 1e-6
"""The rounding of a line of the API, in USD."""

DIGITS = 6
"""Decimals of US dollars, as the API has them."""

LINES = ("instance_usd", "public_ipv4_usd", "volume_usd")
PARTS = {"cost_usd": "", "instance_usd": "", "public_ipv4_usd": "'s IPv4", "volume_usd": "'s disk"}


def deviations(outcome: Outcome) -> list[str]:
    """Return all deviations of *outcome*; an empty list is a success."""
    return [
        *(each for job in outcome.jobs for each in _of_the_job(job, outcome.expected[job["id"]])),
        *_of_instances(outcome),
        *_of_the_bill(outcome),
        *_of_the_first_hour(outcome),
        *(f"instance {each} is not terminated in EC2" for each in outcome.left),
    ]


def billed_usd(bill: Bill) -> float:
    """Return the sum of the bill's lines, each rounded as the API does: a reader adds them up."""
    lines = (bill.instance_usd, bill.public_ipv4_usd, bill.volume_usd)
    return round(sum(round(each, DIGITS) for each in lines), DIGITS)


def leaked_seconds(bill: Bill, attempts: Mapping[str, Job]) -> float:
    """Return the seconds that the instance ran after its attempt, by the cloud's clock."""
    ended_at = attempts.get(bill.instance_id, {}).get("ended_at")
    if ended_at is None or bill.ended_at is None:
        return bill.seconds
    return max(0.0, (bill.ended_at - datetime.fromisoformat(ended_at)).total_seconds())


def _of_the_job(job: Job, expected: Causes) -> Iterator[str]:
    name = f"job {job['id']}"
    causes = tuple(each["cause"] for each in job["attempts"])
    if job["status"] != "DONE":
        yield f"{name} is {job['status']}, not DONE: {job['error_message']}"
    if causes != expected:
        yield f"{name}: its attempts ended {_names(causes)}, not {_names(expected)}"
    instances = [each["instance_id"] for each in job["attempts"]]
    if len(set(instances)) != len(instances):
        yield f"{name}: two of its attempts were on one instance: {_names(instances)}"


def _of_instances(outcome: Outcome) -> Iterator[str]:
    attempts = outcome.attempts
    for bill in outcome.bills:
        if bill.instance_id not in attempts:
            yield f"instance {bill.instance_id} belongs to no attempt"
        if bill.market != "spot":
            yield f"instance {bill.instance_id} is {bill.market}, not Spot"
        leaked = leaked_seconds(bill, attempts)
        if leaked > LEAK_BOUND_SECONDS:
            yield f"instance {bill.instance_id} ran {leaked:.0f} s longer than its attempt"


def _of_the_bill(outcome: Outcome) -> Iterator[str]:
    attempts = outcome.attempts
    for bill in outcome.bills:
        yield from _of_one_bill(bill, attempts.get(bill.instance_id, {}))
    whole, billed = outcome.sum_of("cost_usd"), total(outcome.bills)
    if whole is None or abs(whole - billed) > CENT * len(outcome.bills) * len(LINES):
        costs = "unknown" if whole is None else f"{whole:.6f} USD"
        yield f"the jobs cost {costs}, the account is billed {billed:.6f}"


def _of_one_bill(bill: Bill, attempt: Job) -> Iterator[str]:
    """Compare an attempt's cost with the bill of its instance: the sum, and each line."""
    ours = {"cost_usd": attempt.get("cost_usd"), **(attempt.get("cost_lines") or {})}
    for name, part in PARTS.items():
        cost, billed = ours.get(name), getattr(bill, name)
        if cost is None or abs(cost - billed) > CENT * (len(LINES) if name == "cost_usd" else 1):
            yield (
                f"instance {bill.instance_id}{part} costs {cost} USD in the API and "
                f"{billed:.6f} in the cloud's ledger"
            )
            return


def _of_the_first_hour(outcome: Outcome) -> Iterator[str]:
    attempts = outcome.attempts
    for bill in outcome.bills:
        reclaimed = attempts.get(bill.instance_id, {}).get("cause") == "interrupted"
        if reclaimed and (bill.cause != INTERRUPTED or bill.instance_usd):
            yield (
                f"instance {bill.instance_id} was interrupted within its first hour and is billed "
                f"{bill.instance_usd:.6f} USD: {bill.cause}"
            )


def _names(values: Iterable[object]) -> str:
    return ", ".join(str(each) for each in values) or "none"
