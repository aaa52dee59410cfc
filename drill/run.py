"""The drill: its outages one after another, on a deployment that is removed at the end.

After an outage that cost anything the next one gets a new deployment, so that each is judged by
itself.
"""

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from drill import broker
from drill.api import Api
from drill.deployment import Deployment, new_name
from drill.docker import CommandFailed
from drill.instances import Trace, Watch, WatchEnded
from drill.observing import count_lost_events, ends_meanwhile, observe
from drill.outages import Outage
from drill.plan import Form
from drill.play import NotPlayed, Play, Stage
from drill.progress import Progress
from drill.table import Row
from drill.verdict import judge

REMOVAL_SECONDS = 60.0
"""How long the reaper may take to remove the containers of ended instances."""


class Drill:
    """One run of the drill, with its results."""

    def __init__(
        self, form: Form, jobs: int, write: Callable[[str], None], *, name: str | None = None
    ) -> None:
        self.rows: list[Row] = []
        self.problems: list[str] = []
        """Deviations that belong to no number of a row."""
        self._form = form
        self._jobs = jobs
        self._name = name or new_name()
        self._progress = Progress(write)
        self._stage: Stage | None = None
        self._logs: Path | None = None

    def run(self, outages: Sequence[Outage], *, short: bool) -> None:
        """Play them; leave no container, volume, network or image behind."""
        try:
            self._play_all(outages, short=short)
            self._await_removal()
        except (CommandFailed, WatchEnded) as error:
            self.problems.append(str(error))
        finally:
            self._remove_stage(images=True)

    def _play_all(self, outages: Sequence[Outage], *, short: bool) -> None:
        for outage in outages:
            stage = self._stage or self._make_stage()
            length = outage.length(short=short)
            play = Play(stage, outage, self._form, self._jobs, length, self._progress)
            try:
                play.start()
                play.strike()
                play.recover()
                good = self._finish(play)
            except (NotPlayed, CommandFailed, WatchEnded) as error:
                self.problems.append(f"{outage.title}: not played: {error}")
                self._progress.report(self.problems[-1])
                self._save_logs_of(play)
                good = False
            if not good:
                self._remove_stage(images=False)

    def _finish(self, play: Play) -> bool:
        """Take the verdict; return whether the deployment is as good as new."""
        play.await_end(lambda: count_lost_events(play.stage))
        seen = observe(play, self._progress)
        figures = judge(seen)
        seconds = play.ended_at - play.began_at
        self.rows.append(Row(play.outage.title, seconds, len(seen.planned), figures))
        self._progress.report(f"{play.outage.title}: {ends_meanwhile(play)}")
        for note in figures.notes:
            self._progress.report(f"{play.outage.title}: {note}")
        if not figures.good:
            self._save_logs_of(play)
        return figures.good

    # --- the deployment -------------------------------------------------------------------------

    def _make_stage(self) -> Stage:
        deployment = Deployment(self._name, dict(self._form.settings))
        watch = Watch(self._name)
        stage = self._stage = Stage(deployment, Api(deployment.address), watch, {})
        self._progress.report(f"starting the deployment {self._name} at {deployment.address}")
        watch.start()
        try:
            deployment.up()
        except CommandFailed:
            self._save_logs("start", deployment, [])
            raise
        stage.readers.update(broker.readers(deployment))
        return stage

    def _await_removal(self) -> None:
        """Wait until the engine has no container of any instance, even of an ended one."""
        stage = self._stage
        if stage is None or not self.rows or not self.rows[-1].figures.good:
            return

        def left() -> int:
            return len(stage.deployment.instances(running=False))

        if not self._progress.until(
            "the containers of ended instances are removed",
            REMOVAL_SECONDS,
            lambda: left() == 0,
            lambda: f"{left()} are left",
        ):
            self.problems.append(f"{left()} containers of ended instances are left on the engine")

    def _remove_stage(self, *, images: bool) -> None:
        stage, self._stage = self._stage, None
        if stage is None:
            return
        self._progress.report(f"removing the deployment {self._name}")
        with _uninterrupted():
            stage.watch.close()
            self.problems += stage.deployment.remove(images=images)

    def _save_logs_of(self, play: Play) -> None:
        traces: list[Trace] = []
        with contextlib.suppress(WatchEnded):
            traces = play.stage.watch.traces(play.ids)
        self._save_logs(play.outage.name, play.stage.deployment, traces)

    def _save_logs(self, name: str, deployment: Deployment, traces: Sequence[Trace]) -> None:
        """Write the logs of the services and of these instances' agents to files."""
        self._logs = self._logs or Path(tempfile.mkdtemp(prefix="docker-job-drill-"))
        agents = [f"job {each.job_id}, attempt {each.attempt}\n{each.log}" for each in traces]
        with contextlib.suppress(CommandFailed, OSError):
            (self._logs / f"{name}.agents.log").write_text("\n".join(agents))
            deployment.save_logs(self._logs / f"{name}.log")
        self._progress.report(f"{name}: logs of services and agents are in {self._logs}")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C for the length of the block, so that what is removed is removed wholly."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, signal.SIG_IGN) for each in signals]
    try:
        yield
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
