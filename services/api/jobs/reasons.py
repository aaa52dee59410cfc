"""The reason why a job is where it is, in one sentence for users. Pure.

A job that waits says what for (`waiting.py`), any other what it does or how it ended.
"""

from datetime import datetime

from services.api.jobs.listed import ListedJob
from services.api.jobs.model import LIFETIME_PASSED, TERMINAL, Attempt, Job
from services.api.jobs.retry_limits import KINDS, REASON_CHARACTERS
from services.api.jobs.waiting import to_the_second, waiting


def status_reason(
    job: Job | ListedJob, attempt: Attempt | ListedJob, now: datetime, trouble: str | None = None
) -> str:
    """Return why *job*, whose current attempt is *attempt*, is where it is.

    *trouble* is why no due job can be launched now (`launch_path`).
    """
    return reason_beside(job, attempt, waiting(job, attempt, now, trouble)[0])


def reason_beside(job: Job | ListedJob, attempt: Attempt | ListedJob, because: str | None) -> str:
    """Return the same if the reason why it waits, *because*, is known already."""
    if job.status in TERMINAL:
        return _end(job, attempt)
    if because is not None:
        return because
    doing = _activity(attempt)
    return doing if attempt.retry_because is None else f"{doing}; {attempt.retry_because}"


def _activity(attempt: Attempt | ListedJob) -> str:
    where = attempt.instance_id
    if attempt.state == "running":
        since = "" if attempt.running_at is None else f" since {to_the_second(attempt.running_at)}"
        return f"running on {where}{since}"
    return _ACTIVITIES.get(attempt.state, "it waits").format(where)


_ACTIVITIES = {
    "booting": "instance {} has booted",
    "pulling": "pulling the image on {}",
    "stopping": "stopping on {}",
}


def _end(job: Job | ListedJob, attempt: Attempt | ListedJob) -> str:
    if job.status == "DONE":
        return "exited 0"
    if job.status == "CANCELLED":
        return "cancelled"
    message = _first_line(job.error_message)
    if attempt.cause == "timed_out" and job.timeout_seconds and message != LIFETIME_PASSED:
        return f"timed out after {job.timeout_seconds} s"
    if attempt.cause == "failed" and job.exit_code is not None:
        silent = f"exited with code {job.exit_code}"  # the agent's message of such a container
        return _joined(f"exited {job.exit_code}", message if message != silent else "")
    kind = _KINDS.get(attempt.cause or "")
    if kind is None:
        return message or "failed"
    return _joined(kind, message)


_KINDS: dict[str, str] = {
    "pull_failed": KINDS["pull_failed"],
    "refused": "the launch was refused",
    "timed_out": "timed out",
}
"""What the message alone does not say."""


def _joined(kind: str, message: str) -> str:
    return f"{kind}: {message}" if message else kind


def _first_line(message: str | None) -> str:
    lines = (message or "").strip().splitlines() or [""]
    line = lines[0].strip()
    return line if len(line) <= REASON_CHARACTERS else f"{line[: REASON_CHARACTERS - 1]}…"
