"""The plan of one outage: its lengths, and the jobs that live through it. Pure."""

from dataclasses import dataclass, replace

FAILING_CODE = 3
POSTED_SHARE = 10
"""One job in so many is due during the outage, and as many are posted during it."""

LAUNCH_SECONDS = 0.5
"""The time for which a launch keeps an engine of two cores busy, beside the other work."""
GATHER_SECONDS = 6.0
"""How long services are down before the outage, so that events wait for them."""
PAST_SECONDS = 5.0
"""How far past the outage the lasting jobs go on."""


@dataclass(frozen=True)
class Form:
    """A form of the drill: the long one with the settings' defaults, or the short one."""

    jobs: int
    settings: dict[str, str]
    """DOCKER_JOB_… without the prefix."""
    terminal_seconds: float
    """How long after the outage each job must be terminal, beyond its container's run time."""
    settle_seconds: float
    """How long instances and events may take after the last job is terminal."""


LONG = Form(jobs=50, settings={}, terminal_seconds=300, settle_seconds=180)
SHORT = Form(
    jobs=20,
    # Still longer than the silence: an outage is one only if it is longer than what it delays.
    settings={
        "HEARTBEAT_SECONDS": "1",
        "SILENCE_SECONDS": "12",
        "LAUNCH_CALL_SECONDS": "15",
        "REAP_CALL_SECONDS": "5",
        "REAP_WATCH_SECONDS": "2",
        "LAUNCH_RETRY_SECONDS": "1",
        "RETRY_FIRST_SECONDS": "1",
    },
    terminal_seconds=90,
    settle_seconds=60,
)


@dataclass(frozen=True)
class PlannedJob:
    """One job of the drill, and how it must end."""

    key: str
    """Names the job in this drill; its Idempotency-Key too."""
    kind: str
    seconds: float
    exit_code: int = 0
    due_in_seconds: float = 0.0

    @property
    def line(self) -> str:
        """Return the line that its container prints at its end."""
        return f"result of {self.key}"

    @property
    def status(self) -> str:
        """Return the status in which it must end."""
        return "FAILED" if self.exit_code else "DONE"

    def request(self, wave: str) -> dict[str, object]:
        """Return the body of `POST /schedule`; *wave* labels all jobs of one outage."""
        due = f"+{max(1, round(self.due_in_seconds))}s" if self.due_in_seconds else "now"
        return {
            "docker_image": "drill",
            "name": self.key,
            "scheduled_for": due,
            "labels": {"drill": wave, "kind": self.kind},
            "env_vars": {
                "SIMULATE_SECONDS": f"{self.seconds:.1f}",
                "SIMULATE_EXIT_CODE": str(self.exit_code),
                "SIMULATE_OUTPUT": self.line,
            },
        }


@dataclass(frozen=True)
class Wave:
    """The jobs of one outage, by when they are posted."""

    lasting: tuple[PlannedJob, ...]
    """They run before the outage, and go on past it."""
    ending: tuple[PlannedJob, ...]
    """They run before the outage, and end in the middle of it: with 0, or with 3."""
    due: tuple[PlannedJob, ...]
    """They are posted before the outage, and due in the middle of it."""
    queued: tuple[PlannedJob, ...]
    """They are posted while services are down, so that their events wait on the broker."""
    posted: tuple[PlannedJob, ...]
    """They are posted during the outage, until they are accepted."""
    canary: PlannedJob
    """It is posted when the outage is over, until it is accepted."""

    @property
    def before(self) -> tuple[PlannedJob, ...]:
        """Return the jobs that run when the outage begins."""
        return self.lasting + self.ending

    @property
    def every(self) -> tuple[PlannedJob, ...]:
        """Return all of its jobs."""
        return (*self.before, *self.due, *self.queued, *self.posted, self.canary)

    def with_launches(self, lasting_seconds: float) -> "Wave":
        """Return it for a busy engine, on which launching the lasting ones took that long."""
        usual = launch_seconds(len(self.ending))
        expected = 1.2 * lasting_seconds * len(self.ending) / len(self.lasting)
        later = max(0.0, expected - usual) / 2
        ending = tuple(replace(job, seconds=job.seconds + later) for job in self.ending)
        return replace(self, ending=ending)


def launch_seconds(jobs: int) -> float:
    """Return how long launching so many jobs usually takes."""
    return 3.0 + LAUNCH_SECONDS * jobs


def plan_wave(
    name: str, jobs: int, outage_seconds: float, repair_seconds: float, *, queued: bool = False
) -> Wave:
    """Plan an outage of that length with so many running jobs, a third of each kind.

    *queued*: some more are posted while services are down.
    """
    third = max(1, jobs // 3)
    launches = launch_seconds(2 * third)
    gather = GATHER_SECONDS * queued
    # It begins when the last of them runs: so half of their launches after its middle.
    middle = gather + (outage_seconds + launches) / 2 + repair_seconds / 4
    lasting = launches + gather + outage_seconds + repair_seconds + PAST_SECONDS
    extra = max(2, jobs // POSTED_SHARE)

    def planned(kind: str, count: int, seconds: float, **fields: float) -> tuple[PlannedJob, ...]:
        code = FAILING_CODE if kind == "fails" else 0
        due_in = fields.get("due_in_seconds", 0.0)
        return tuple(
            PlannedJob(f"{name}-{kind}-{number}", kind, seconds, code, due_in)
            for number in range(1, count + 1)
        )

    ends, fails = planned("ends", third, middle), planned("fails", third, middle)
    return Wave(
        lasting=planned("lasts", max(1, jobs - 2 * third), lasting),
        # Mixed, so that the two kinds end at the same times.
        ending=tuple(job for pair in zip(ends, fails, strict=True) for job in pair),
        due=planned("due", extra, 2.0, due_in_seconds=gather + outage_seconds / 2),
        queued=planned("queued", extra * queued, 1.0, due_in_seconds=1.0),
        posted=planned("posted", extra, 2.0),
        canary=PlannedJob(f"{name}-canary", "canary", 0.0),
    )
