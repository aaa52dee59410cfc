"""Attempts whose instance did not boot: no agent of it has ever claimed the job. Pure.

    launched ─ no claim within the boot time (of which outages count nothing) ─▶ boot failed
            └─ terminated by itself before a claim ────────────────────────────▶ boot failed

What an interruption, an operator, or one of our own limits ends has not failed to boot. The text
that an instance has printed is shown and quoted, but decides nothing: a job can print too.

A failed boot is *excused* (it counts against no limit of its job) where EC2 itself names a fault
of the account, a setting or AWS, and where other jobs' instances do not boot either.
"""

from datetime import timedelta

from msgspec.structs import replace

from services.api.jobs.launch_ends import ACCOUNT, OPERATORS, code_of, fault_of
from services.api.jobs.model import TERMINAL, Attempt, AttemptEnding, Job, JobWithAttempts
from shared.console_text import NOTE, OUR_LINES, readable
from shared.events.events import InstanceTerminated

OURS = frozenset({"vanished", "lifetime", "orphan", "stopped", "lost", "cancelled"})
"""Causes for which the reaper ends an instance, or finds it missing."""

CHECK = (
    "check the route from DOCKER_JOB_EC2_SUBNETS and the security groups to DOCKER_JOB_API_URL, "
    "and the image: `make doctor`"
)
"""What an operator can change if instances do not boot, or do not reach the API."""

LIFETIME_MARGIN = timedelta(seconds=60)
"""Before the end of an instance's lifetime: its own timer counts whole minutes."""

QUOTED = 300
"""The most characters of a console's line in an error message."""

AGENT_LINES = '{"at":'
AGENT_ENDED = f"{OUR_LINES}the agent has ended"
"""User data's last line: the agent's own before it is more precise."""

REFUSED = '"event": "claim refused"'
"""In the agent's line with the API's reason."""

CONSOLE = "; its console: "


def ended_before_claim(attempt: Attempt, fact: InstanceTerminated) -> bool:
    """Return whether its instance ended by itself, and nobody had claimed."""
    if attempt.token_hash is not None or attempt.heartbeat_at is not None:
        return False
    fault = fault_of(attempt, fact)
    if fact.cause in OURS or code_of(fact) in OPERATORS or (fault and fault.kind == "capacity"):
        return False
    dies_by = attempt.dies_by
    return dies_by is None or fact.terminated_at < dies_by - LIFETIME_MARGIN


def ending_with(attempt: Attempt, fact: InstanceTerminated, *, shared: bool) -> AttemptEnding:
    """Return the end of an attempt that ends with its instance.

    *shared*: instances of other jobs do not boot either (`breaker.is_shared`).
    """
    if fact.spot_interrupted or attempt.interrupted_at:
        message = f"instance {fact.instance_id} is terminated: {fact.cause}"
        return AttemptEnding(cause="interrupted", message=message, container_stopped=True)
    fault = fault_of(attempt, fact)
    failed = ended_before_claim(attempt, fact)
    change = fault.change if fault else CHECK
    return AttemptEnding(
        cause="lost",
        message=end_message(attempt, fact, boot_failed=failed),
        container_stopped=True,
        boot_failed=failed,
        excused=failed and (fault is not None or shared),
        to_change=change if failed else None,
        account_fault=failed and fault is not None and fault.kind in ACCOUNT,
    )


def ending_without_claim(attempt: Attempt, boot_seconds: int, *, shared: bool) -> AttemptEnding:
    """Return the end of an attempt whose instance has run for so long without a claim."""
    where = place(attempt)
    message = f"no claim by its instance within {boot_seconds} s of its launch{where}"
    failed = attempt.interrupted_at is None
    return AttemptEnding(
        cause="lost" if failed else "interrupted",
        message=message,
        container_stopped=False,
        boot_failed=failed,
        excused=failed and shared,
        to_change=CHECK if failed else None,
    )


def place(attempt: Attempt) -> str:
    """Return type and zone of its instance in brackets, as far as they are known."""
    if attempt.instance_type is None or attempt.zone is None:
        return ""
    return f" ({attempt.instance_type} in {attempt.zone})"


def end_message(attempt: Attempt, fact: InstanceTerminated, *, boot_failed: bool) -> str:
    """Return the error message of an attempt that ends with its instance."""
    fault = fault_of(attempt, fact)
    if not boot_failed and fault is None:
        return f"instance {fact.instance_id} is terminated: {fact.cause}"
    who = f"instance {fact.instance_id}{place(attempt)}"
    message = f"{who} ended before it could claim its job: {fact.cause}"
    if fault is None:
        return message + _quoted(fact.console_output)
    change = f"; {fault.change}" if fault.change else ""
    return f"{message} ({fault.because}{change})"


def with_console(job: Job, attempt: Attempt, console: str | None) -> tuple[Job, Attempt]:
    """Add the console's last line to the messages of a failed boot that has ended already.

    In the place of a note that it cannot be read; and if the line is ours, of another one, which
    may be of a console that was read too early.
    """
    quoted = _quoted(console)
    before, _, old = (attempt.error_message or "").partition(CONSOLE)
    if not attempt.boot_failed or not quoted or _worth(quoted.removeprefix(CONSOLE)) <= _worth(old):
        return job, attempt
    told = replace(attempt, error_message=before + quoted)
    if job.attempt == attempt.number and job.status in TERMINAL and job.error_message:
        job = replace(job, error_message=job.error_message.partition(CONSOLE)[0] + quoted)
    return job, told


def _worth(line: str) -> int:
    """Return how much a quoted line explains: nothing, a note, any program's, or our own."""
    if not line:
        return 0
    if line.startswith(NOTE):
        return 1
    return 3 if line.startswith(OUR_LINES) else 2


def failed_in_a_row(whole_job: JobWithAttempts, number: int) -> list[Attempt]:
    """Return the failed boots that count before attempt *number*, since a job's last claim."""
    failed: list[Attempt] = []
    for each in whole_job.attempts:
        if each.number >= number:
            break
        if each.token_hash is not None:
            failed.clear()
        elif each.boot_failed and not each.excused:
            failed.append(each)
    return failed


def excused_in_a_row(whole_job: JobWithAttempts, number: int) -> int:
    """Count the excused ends before attempt *number* since an agent last claimed the job."""
    excused = 0
    for each in whole_job.attempts:
        if each.number >= number:
            break
        excused = 0 if each.token_hash is not None else excused + bool(each.excused)
    return excused


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
    return f"{CONSOLE}{line if len(line) <= QUOTED else line[: QUOTED - 1] + '…'}"
