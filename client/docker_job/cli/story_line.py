"""One line of a job's story, and the words of its phases. Pure."""

from dataclasses import dataclass
from datetime import datetime

from docker_job.cli.figures import duration, money
from docker_job.cli.status_words import LOOKS, Look
from docker_job.documents import Attempt, Job

WORD, WIDTH = 12, 53
"""The widths of a line's first word, and of the rest up to the end of its seconds."""

FAR_SECONDS = 5.0
"""A start that is farther away than this is announced, also where no line is live."""


@dataclass(frozen=True)
class StoryLine:
    """A line: how it is drawn, its word, what there is to say, how long it took, an aside."""

    look: Look
    word: str
    text: str
    seconds: float | None = None
    aside: str = ""

    def render(self) -> str:
        """Render it in columns."""
        took = "" if self.seconds is None else f" {spent(self.seconds)}"
        text = f"{self.text:<{WIDTH - len(took)}}{took}".rstrip()
        line = f" {self.look.symbol} {self.word:<{WORD - 1}} {text}"
        return f"{line}     {self.aside}" if self.aside else line.rstrip()


def header(job: Job) -> str:
    """Render the job's first line: `job 218 · python:3.13-slim · team=data`."""
    labels = [f"{name}={value}" if value else name for name, value in job.labels.items()]
    named = [job.name] if job.name else []
    return " · ".join([f"job {job.id}", *named, job.docker_image, *labels])


def bought(attempt: Attempt) -> str:
    """Render what an attempt runs on: `c7i.xlarge · eu-west-1b · Spot 0.071 USD/h`."""
    price = attempt.hourly_price_usd
    market = "Spot" if attempt.market == "spot" else attempt.market or ""
    if price:
        market = f"{market} {money(price)} USD/h".strip()
    return " · ".join(filter(None, (attempt.instance_type, attempt.zone, market)))


def spent(seconds: float) -> str:
    """Render a phase's duration: `0.4 s`, `38.2 s`, `4m12s`."""
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


def running(seconds: float) -> StoryLine:
    """Make the line of the running container."""
    whole = int(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    shown = f"{hours}{whole // 60 % 60:02}:{whole % 60:02}"
    return StoryLine(LOOKS["running"], "running", shown)


def ahead_of(job: Job, attempt: Attempt, now: datetime) -> str:
    """Render when an attempt is due: `for 02:00, in 5h`, or which retry it is and why."""
    because = job.waiting_because or ""
    ahead = duration(seconds_ahead(attempt, now))
    if because.startswith("retry"):
        retry, _, reason = because.partition(": ")
        return f"{retry.partition(' at ')[0]} in {ahead}: {first_line(reason)}"
    due = attempt.due_at
    return f"for {_clock(due, now)}, in {ahead}" if due else ""


def was_due(job: Job, attempt: Attempt) -> str:
    """Render what an attempt was scheduled for."""
    if attempt.number > 1:
        return f"attempt {attempt.number}"
    due, created = attempt.due_at, job.created_at
    if due is None or created is None or (due - created).total_seconds() < FAR_SECONDS:
        return "now"
    return f"for {_clock(due, created)}"


def waits_for(job: Job, attempt: Attempt, now: datetime) -> str:
    """Render what an attempt waits for, and when that is checked next."""
    because = attempt.waiting_because or job.waiting_because or ""
    until = job.waiting_until
    seconds = (until - now).total_seconds() if until else 0.0
    return f"{because}; next try in {duration(int(seconds))}" if seconds >= 1 else because


def seconds_ahead(attempt: Attempt, now: datetime) -> float:
    """Return how far ahead an attempt is due; negative if it is due."""
    return (attempt.due_at - now).total_seconds() if attempt.due_at else 0.0


def _clock(at: datetime, now: datetime) -> str:
    local, today = at.astimezone(), now.astimezone()
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%a %d %b %H:%M}"


def on_demand(attempt: Attempt) -> str:
    """Render the on-demand price beside that of Spot."""
    price = attempt.on_demand_hourly_price_usd
    return f"(on demand {money(price)})" if price and attempt.market == "spot" else ""


def first_line(message: str | None) -> str:
    """Return the first line of a message."""
    return next(iter((message or "").strip().splitlines()), "")
