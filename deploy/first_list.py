"""The list of a first run: each step with what it proves, what it costs, what to send.

Costs are estimates in USD for us-east-1, from the list prices in `costs.py` and Spot prices of
about 0.03 an hour for two vCPUs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from deploy.first_doctor import as_each_role, before
from deploy.first_jobs import burst, cancel, interruption, one_job, wrong_image
from deploy.first_steps import bill, budget, deploy, destroy, dry_run, kill
from deploy.first_world import Facts, World

SENT = "the report of this step, and the lines of /docker-job/<stack> of the same minutes"


@dataclass(frozen=True)
class Step:
    """One step of the list; *run* acts on the world, and raises unless the claim holds."""

    key: str
    title: str
    proves: str
    costs: str
    send: str
    run: Callable[[World], Facts]


STEPS = (
    Step(
        "budget",
        "A budget with an alarm",
        "an e-mail comes before the account costs more than you want",
        "0 (two budgets are free)",
        "AWS's message",
        budget,
    ),
    Step(
        "doctor",
        "make doctor",
        "credentials, quotas, network, image and prices are as docker-job needs them",
        "0",
        "its findings",
        before,
    ),
    Step(
        "dry-run",
        "deploy.sh --dry-run",
        "VPC, certificate, settings and quota are accepted, and nothing is made",
        "0",
        "the last lines",
        dry_run,
    ),
    Step(
        "deploy",
        "deploy.sh",
        "the stack comes up, and signals within 30 minutes; the key works, and is kept nowhere",
        "0.03 an hour from here on",
        "the instance's last lines, which deploy.sh prints",
        deploy,
    ),
    Step(
        "roles",
        "make doctor on the deployment, as launcher and as reaper",
        "each role's permissions, its database, broker and queue suffice, before any launch",
        "0",
        "its findings",
        as_each_role,
    ),
    Step(
        "job",
        "One job on Spot",
        "CreateFleet under the launcher's policy, boot, identity by STS, logs, termination, cost",
        "0.01",
        SENT,
        one_job,
    ),
    Step(
        "roles-launched",
        "make doctor again, after the first launch",
        "the permissions that are bound to the launch template and to instances' tags",
        "0",
        "its findings",
        as_each_role,
    ),
    Step(
        "interruption",
        "A job with a Spot interruption (needs --fis-role)",
        "the attempt ends as interrupted, and the job runs again on another instance",
        "0.02, and 0.10 a minute of Fault Injection Service",
        SENT,
        interruption,
    ),
    Step(
        "burst",
        "Twenty jobs at once",
        "one call for many instances, or the quota's words in waiting_because; each cost is known",
        "0.10",
        SENT,
        burst,
    ),
    Step(
        "cancel",
        "A cancelled job",
        "the container is stopped, and the instance is terminated (by whom: in the report)",
        "0.01",
        SENT,
        cancel,
    ),
    Step(
        "wrong-image",
        "An image that does not exist",
        "the registry's refusal is in status_reason, and the instance ends",
        "0.01",
        SENT,
        wrong_image,
    ),
    Step(
        "kill",
        "The services' instance is terminated under a running job",
        "another takes its volume, address and name; the job continues on its own instance",
        "0.02",
        "the instance's last lines in the log group",
        kill,
    ),
    Step(
        "destroy",
        "destroy.sh",
        "the stack, the record, the volume, the snapshots and the secrets are removed",
        "0",
        "what remains",
        destroy,
    ),
    Step(
        "bill",
        "The bill, a day later",
        "the costs that docker-job showed are those of AWS (you compare them)",
        "0.01 (one call of Cost Explorer)",
        "both figures",
        bill,
    ),
)
