"""Attempts whose instance did not boot: no agent of it has ever claimed the job. Pure.

    launched ─ no claim within the boot time (of which outages count nothing) ─▶ boot failed
            └─ terminated by itself before a claim ────────────────────────────▶ boot failed

What an interruption, an operator, or one of our own limits ends has not failed to boot. The text
that an instance has printed is shown and quoted, but decides nothing: a job can print too.
"""

from datetime import timedelta

from msgspec.structs import replace

from services.api.jobs.model import TERMINAL, Attempt, Job, JobWithAttempts
from shared.console_text import NOTE, OUR_LINES, readable
from shared.events.events import InstanceTerminated

OURS = frozenset({"vanished", "lifetime", "orphan", "stopped", "lost", "cancelled"})
"""Causes for which the reaper ends an instance, or finds it missing."""

NO_FAULT_OF_THE_BOOT = frozenset(
    {"Client.UserInitiatedShutdown", "Server.InsufficientInstanceCapacity"}
)
"""An operator terminated it; or EC2 had no capacity for it after all.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
"""

HINTS = {
    "Client.InternalError": "it could not be started; often its disk is encrypted with a KMS key "
    "that may not be used",
    "Client.VolumeLimitExceeded": "the account's limit of EBS storage is reached",
    "Client.InvalidSnapshot.NotFound": "a snapshot of its image does not exist any more",
}
"""What codes without a console mean.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
"""

LIFETIME_MARGIN = timedelta(seconds=60)
"""Before the end of an instance's lifetime: its own timer counts whole minutes."""

QUOTED = 300
"""The most characters of a console's line in an error message."""

AGENT_LINES = '{"at":'
AGENT_ENDED = f"{OUR_LINES}the agent has ended"
"""User data's last line: the agent's own before it is more precise."""

REFUSED = '"event": "claim refused"'
"""In the agent's line with the API's reason."""

_CONSOLE = "; its console: "


def ended_before_claim(attempt: Attempt, fact: InstanceTerminated) -> bool:
    """Tell if the end of its instance is a failed boot: by itself, and nobody claimed."""
    if attempt.token_hash is not None or attempt.heartbeat_at is not None:
        return False
    if fact.cause in OURS or fact.cause in NO_FAULT_OF_THE_BOOT:
        return False
    dies_by = attempt.dies_by
    return dies_by is None or fact.terminated_at < dies_by - LIFETIME_MARGIN


def end_message(fact: InstanceTerminated, *, boot_failed: bool) -> str:
    """Return the error message of an attempt that ends with its instance."""
    message = f"instance {fact.instance_id} is terminated: {fact.cause}"
    if not boot_failed:
        return message
    hint = f" ({HINTS[fact.cause]})" if fact.cause in HINTS else ""
    message = f"instance {fact.instance_id} ended before it could claim its job: {fact.cause}{hint}"
    return message + _quoted(fact.console_output)


def with_console(job: Job, attempt: Attempt, console: str | None) -> tuple[Job, Attempt]:
    """Add the console's last line to the messages of a failed boot that has ended already.

    In the place of a note that it cannot be read.
    """
    quoted = _quoted(console)
    before = _without_note(attempt.error_message or "")
    if not attempt.boot_failed or not quoted or _CONSOLE in before:
        return job, attempt
    told = replace(attempt, error_message=before + quoted)
    if job.attempt == attempt.number and job.status in TERMINAL and job.error_message:
        job = replace(job, error_message=_without_note(job.error_message) + quoted)
    return job, told


def _without_note(message: str) -> str:
    """Return *message* without a note at its end; what is no note may quote one."""
    return message.partition(_CONSOLE + NOTE)[0]


def failed_in_a_row(whole_job: JobWithAttempts, number: int) -> list[Attempt]:
    """Return the failed boots before attempt *number* since an agent last claimed the job."""
    failed: list[Attempt] = []
    for each in whole_job.attempts:
        if each.number >= number:
            break
        if each.token_hash is not None:
            failed.clear()
        elif each.boot_failed:
            failed.append(each)
    return failed


def gave_up(whole_job: JobWithAttempts, last: Attempt) -> str:
    """Return the error message of a job whose last attempt did not boot."""
    failed = [*failed_in_a_row(whole_job, last.number), last]
    ids = ", ".join(each.instance_id or "unknown" for each in failed)
    return (
        f"gave up after {len(failed)} failed boots in a row (DOCKER_JOB_BOOT_LIMIT), "
        f"of instances {ids}: {last.error_message}"
    )


def last_line(console: str | None) -> str | None:
    """Return the last line of ours on a console, else its last line; None: it has none."""
    text = readable(console or "")
    lines = [stripped for each in text.splitlines() if (stripped := each.strip())]
    ours = [each for each in lines if each.startswith(OUR_LINES)]
    last = next(reversed(ours or lines), None)
    if last is None or not last.startswith(AGENT_ENDED):
        return last
    said = [each for each in lines[: lines.index(last)] if each.startswith(AGENT_LINES)]
    refused = [each for each in said if REFUSED in each]
    return f"{last}, after {(refused or said)[-1]}" if said else last


def _quoted(console: str | None) -> str:
    line = last_line(console)
    if line is None:
        return ""
    return f"{_CONSOLE}{line if len(line) <= QUOTED else line[: QUOTED - 1] + '…'}"
