"""Reading what became of an outage's jobs: from the API, the engine and the tables."""

from drill import database
from drill.api import Job, NoAnswer, Refused
from drill.docker import CommandFailed
from drill.play import UNCOUNTED, Play, Stage
from drill.progress import Progress
from drill.verdict import Observation, Run

READ_SECONDS = 60.0
"""The longest time in which the API must answer what became of the jobs."""


def observe(play: Play, progress: Progress) -> Observation:
    """Collect all that is known of its jobs. Raises `WatchEnded`."""
    jobs, logs = _read_jobs(play, progress)
    return Observation(
        planned=play.wave.every,
        accepted=play.accepted,
        refusals=play.refusals,
        jobs=jobs,
        logs=logs,
        runs=[
            Run(each.job_id, each.attempt, len(each.runs), unread=each.unread)
            for each in play.stage.watch.traces(jobs.keys() | play.ids)
        ],
        living=play.living(),
        lost_events=play.lost_events,
        recovery_seconds=play.recovery_seconds,
    )


def count_lost_events(stage: Stage) -> int:
    """Count the events without effect; `UNCOUNTED` if the database does not answer."""
    try:
        return database.lost_events(stage.deployment, stage.readers)
    except CommandFailed:
        return UNCOUNTED


def ends_meanwhile(play: Play) -> str:
    """Describe how many containers really ended during the outage. Raises `WatchEnded`."""
    planned = {play.accepted.get(job.key): job for job in play.wave.before}
    counts = {"ends": 0, "fails": 0, "lasts": 0}
    for trace in play.stage.watch.traces(play.ids):
        job = planned.get(trace.job_id)
        if job is None or not trace.runs:
            continue
        end = trace.runs[0] + job.seconds
        inside = play.began_at <= end <= play.ended_at
        counts[job.kind] += end > play.ended_at if job.kind == "lasts" else inside
    return (
        f"{counts['ends']} containers ended with 0 and {counts['fails']} with 3 during it, "
        f"{counts['lasts']} after it; {play.repeats} posts had no answer and were repeated"
    )


def _read_jobs(play: Play, progress: Progress) -> tuple[dict[int, Job], dict[int, str]]:
    jobs: dict[int, Job] = {}
    logs: dict[int, str] = {}
    api = play.stage.api

    def read() -> bool:
        try:
            for each in api.jobs(play.outage.name):
                job_id = int(each["id"])
                if job_id not in logs:
                    jobs[job_id] = api.job(job_id)
                    logs[job_id] = api.log(job_id)
        except (NoAnswer, Refused):
            return False
        return True

    what = f"{play.outage.title}: every job is read"
    progress.until(what, READ_SECONDS, read, lambda: f"{len(logs)} are")
    return jobs, logs
