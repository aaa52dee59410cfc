"""The steps of a first run that run jobs. Each asserts what the list claims that it proves.

A step that does not go as it must raises `Differs`; one that cannot run here raises `Skipped`.
"""

from collections import Counter
from typing import Any

from deploy.down import DEPLOYMENT_TAG
from deploy.first_cloud import instances_of, launch_of, until_ended
from deploy.first_world import (
    LOOK_SECONDS,
    OVER,
    Differs,
    Facts,
    Skipped,
    World,
    require,
    require_status,
)

TEMPLATE_TAG = "docker-job-first-run"
MARK = "it works"
NO_IMAGE = "public.ecr.aws/docker/library/no-such-image:none"
REFUSALS = ("not found", "not exist", "unknown", "denied", "unauthorized")
"""A registry's words for an image that it does not have, or does not show."""

BURST_SECONDS = 3600.0
SILENT_SECONDS = 120.0
"""So long a job may wait without a reason: a launch takes some seconds."""

NOT_LAUNCHED = ("waiting", "scheduled", "launching")


def one_job(world: World) -> Facts:
    """Run one job on Spot: it prints, its instance ends, its cost is known."""
    number = world.schedule("echo", MARK, capacity="spot")
    job, ends = _settled(world, number, "DONE")
    attempt = job["attempts"][-1]
    market = attempt["market"]
    require(market == "spot", f"job {number} ran on an instance of the market {market}, not spot")
    logs = world.text(f"/jobs/{number}/logs")
    require(MARK in logs, f"the log of job {number} has no {MARK!r}: {logs[-300:]!r}")
    require(job["cost_usd"], f"job {number} has no cost: {job['cost_usd']}")
    return {"job": job, "logs": logs, "ends": ends}


def _settled(
    world: World, number: int, wanted: str, seconds: float = 900
) -> tuple[Facts, dict[str, str]]:
    """Wait for a job's end and the end of its instances, by the API and by EC2.

    Return the job, and why each instance ended.
    """
    world.until_over(number, wanted, seconds)

    def gone() -> Facts | None:
        job = world.job(number)
        launched = [each for each in job["attempts"] if each["instance_id"]]
        return job if all(each["instance_gone_at"] for each in launched) else None

    job: Facts = world.until(f"the instances of job {number} are terminated", 900, gone)
    ids = [each["instance_id"] for each in job["attempts"] if each["instance_id"]]
    require(ids, f"job {number} had no instance")
    return job, {each: until_ended(world, each) for each in ids}


def interruption(world: World) -> Facts:
    """Have AWS interrupt the instance of a running job; the job must run again and end."""
    if not world.choices.fis_role:
        raise Skipped("add --fis-role ARN: a role that Fault Injection Service may assume")
    number = world.schedule("sleep", "240", capacity="spot")
    running = until_running(world, number)
    experiment = _interrupt(world, str(running["instance_id"]))
    job, ends = _settled(world, number, "DONE", 1800)
    first, causes = job["attempts"][0], [each["cause"] for each in job["attempts"]]
    require(
        first["cause"] == "interrupted" and first["interrupted_at"],
        f"the first attempt of job {number} ended as {first['cause']}, not as interrupted",
    )
    require(causes[-1:] == ["done"] and len(causes) > 1, f"the attempts ended as {causes}")
    instances = {each["instance_id"] for each in job["attempts"]}
    require(len(instances) == len(causes), f"two attempts of job {number} ran on one instance")
    return {"job": job, "experiment": experiment, "ends": ends}


def until_running(world: World, number: int) -> Facts:
    """Wait until a job runs; return it. Raises `Differs`."""

    def found() -> Facts | None:
        job = world.job(number)
        if job["status"] in OVER:
            require_status(job, "RUNNING")
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


class _Burst:
    """Many jobs at once, watched until all are over."""

    def __init__(self, world: World, numbers: list[int]) -> None:
        self._world = world
        self.jobs: dict[int, Facts] = {}
        """Those that are over."""
        self.waits: set[str] = set()
        self.launches: dict[str, str] = {}
        """Of each instance, by which call it came."""
        self._silent = dict.fromkeys(numbers, 0.0)

    def look(self) -> dict[int, Facts] | None:
        """Note why jobs wait, and who was launched with whom; return the jobs when all are over."""
        for instance in instances_of(self._world, DEPLOYMENT_TAG):
            self.launches[str(instance["InstanceId"])] = launch_of(instance)
        for number in [each for each in self._silent if each not in self.jobs]:
            job = self._world.job(number)
            if job["status"] in OVER:
                self.jobs[number] = job
            self._note(number, job)
        return self.jobs if len(self.jobs) == len(self._silent) else None

    def _note(self, number: int, job: Facts) -> None:
        why = job["waiting_because"]
        self.waits |= {str(why)} if why else set()
        silent = not why and job["phase"] in NOT_LAUNCHED
        self._silent[number] = self._silent[number] + LOOK_SECONDS if silent else 0.0
        if self._silent[number] > SILENT_SECONDS:
            raise Differs(f"job {number} waits without a reason in waiting_because")


def burst(world: World) -> Facts:
    """Run many jobs at once; a new account's quota makes some of them wait."""
    numbers = [world.schedule("sleep", "20") for _ in range(world.choices.burst)]
    watched = _Burst(world, numbers)
    world.until("all jobs of the burst are over", BURST_SECONDS, watched.look)
    for each in watched.jobs.values():
        require_status(each, "DONE")
    most = max(Counter(watched.launches.values()).values(), default=0)
    # A small quota may let EC2 launch one instance a call, and then some job waits and shows why.
    require(most > 1 or watched.waits, "each instance came by a call of its own, and no job waited")
    costs = [_settled(world, number, "DONE")[0]["cost_usd"] for number in numbers]
    require(None not in costs, f"the cost of a job is not known: {costs}")
    return {
        "jobs": numbers,
        "waits": sorted(watched.waits),
        "instances": len(watched.launches),
        "most_by_one_call": most,
        "cost_usd": costs,
    }


def cancel(world: World) -> Facts:
    """Cancel a job; its instance must be terminated."""
    number = world.schedule("sleep", "3600")
    until_running(world, number)
    world.call("DELETE", f"/jobs/{number}")
    job, ends = _settled(world, number, "CANCELLED", 300)
    return {"job": job, "ends": ends}


def wrong_image(world: World) -> Facts:
    """Run an image that does not exist; the job must fail with the registry's reason."""
    number = world.schedule(image=NO_IMAGE, retries=0)
    job, ends = _settled(world, number, "FAILED", 1800)
    why: Any = job["status_reason"]
    require(
        any(word in str(why).lower() for word in REFUSALS),
        f"status_reason does not have the registry's refusal: {why}",
    )
    return {"job": job, "ends": ends}
