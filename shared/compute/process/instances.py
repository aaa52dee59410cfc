"""Describing and terminating the instances of this machine.

TERMINATED promises that neither process *nor* container is left. A cloud's machine ends its
containers when it powers off; here `describe` does it: if it finds a dead agent, it kills what is
left of its session (a `docker` client would start the container it is still pulling), removes its
containers, and returns STOPPING until a later call finds none. That needs no other caller and no
task in the background, and costs one `docker ps` a call, only while there is a new death to
confirm.

Everything here blocks: call it in a thread.
"""

import contextlib
import re
import signal
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from shared.clock import Clock
from shared.compute.port import Instance, InstanceState
from shared.compute.process.directory import Ending, InstanceDir, Launched, Stage
from shared.compute.process.leftovers import ContainerEngine
from shared.compute.process.processes import kill_left_behind, signal_group
from shared.compute.shared_engine import SharedEngine

KILL_MARGIN_SECONDS = 5.0
INSTANCE_ID = re.compile(r"p-[0-9a-f]{17}")


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Price and bounds of local instances; durations in seconds."""

    hourly_price_usd: float = 0.0

    terminate_grace_seconds: float = 10.0
    """The container's time after our SIGTERM. We send SIGKILL 5 s after that."""
    boot_seconds: float = 20.0
    """Time from the start of a process to its pid file; after it the process is ended."""
    retention_seconds: float = 3600.0
    """Time that a terminated instance stays visible, and its token known."""
    retained_count: int = 1000
    """Terminated instances that stay visible, at most."""
    shared_engine: SharedEngine = SharedEngine()
    api_ca: str = ""
    """PEM of the authority by which agents verify the API; empty: their system's."""


class ProcessInstances:
    """The instances of one deployment below one root."""

    def __init__(
        self,
        root: Path,
        deployment: str,
        clock: Clock,
        engine: ContainerEngine,
        settings: ProcessSettings,
    ) -> None:
        self._root = root
        self._deployment = deployment
        self._clock = clock
        self._engine = engine
        self._settings = settings

    def at(self, instance_id: str) -> InstanceDir:
        """Return the directory of an instance, which need not exist."""
        if not INSTANCE_ID.fullmatch(instance_id):
            raise ValueError(instance_id)
        return InstanceDir(self._root / instance_id)

    def terminate(self, instance_ids: Iterable[str]) -> None:
        """Forbid the start of each and signal its agent; SIGKILL after the grace."""
        for home, _ in self._known(instance_ids):
            with contextlib.suppress(FileNotFoundError):  # retention has removed it meanwhile
                self._end(home, "terminated on request")

    def describe(self, instance_ids: Iterable[str]) -> list[Instance]:
        """Return the known ones of these; remove leftovers of dead agents."""
        found: list[tuple[InstanceDir, Launched, Stage]] = []
        for home, launched in self._known(instance_ids):
            with contextlib.suppress(FileNotFoundError):  # retention has removed it meanwhile
                found.append((home, launched, self._stage(home, launched)))
        left = self._remove_leftovers(found)
        return [self._instance(home, launched, stage, left) for home, launched, stage in found]

    def list_all(self) -> list[Instance]:
        """List every instance. Terminated ones that are too old or too many are removed."""
        try:
            seen = self.describe(sorted(each.name for each in self._root.iterdir()))
        except FileNotFoundError:
            return []
        past = self._past_retention(seen)
        self._remove_late_networks(past)
        for instance_id in past:
            home = self.at(instance_id)
            with contextlib.suppress(FileNotFoundError), home.lock():  # another caller was first
                home.remove()
        return [each for each in seen if each.instance_id not in past]

    def _known(self, instance_ids: Iterable[str]) -> Iterable[tuple[InstanceDir, Launched]]:
        for instance_id in instance_ids:
            if INSTANCE_ID.fullmatch(instance_id):
                home = self.at(instance_id)
                launched = home.launched()
                if launched is not None and launched.request.deployment == self._deployment:
                    yield home, launched

    def _end(self, home: InstanceDir, reason: str) -> None:
        now = self._clock.now()
        since = home.write_ending(Ending(at=now, reason=reason)).at
        if home.stage() not in {Stage.BOOTING, Stage.ALIVE}:
            return  # it cannot be started any more, and the next `describe` does the rest
        pid = home.pid()
        if pid is None:
            return  # its starter has not written the id yet; the caller repeats until TERMINATED
        grace = timedelta(seconds=self._settings.terminate_grace_seconds + KILL_MARGIN_SECONDS)
        # A clock that was set back must not keep an instance alive: a time in the future counts
        # as past.
        if since <= now < since + grace:
            signal_group(pid, signal.SIGTERM)
        else:
            signal_group(pid, signal.SIGKILL)
            kill_left_behind({home.path})

    def _stage(self, home: InstanceDir, launched: Launched) -> Stage:
        stage = home.stage()
        if stage is Stage.BOOTING:
            spawned = home.spawned()
            since = launched.launched_at if spawned is None else spawned.at
            bound = self._settings.boot_seconds
            reason = f"its agent did not start within {bound:g} s"
        elif stage is Stage.NEW:
            # Its launch was cut off. It costs nothing and waits for the repeated one, up to its
            # maximum lifetime.
            since, bound = launched.launched_at, launched.request.max_lifetime_seconds
            reason = "its launch was cut off and never repeated"
        else:
            return stage
        if self._clock.now() - since > timedelta(seconds=bound):
            self._end(home, reason)
            return home.stage()
        return stage

    def _remove_leftovers(
        self, found: Sequence[tuple[InstanceDir, Launched, Stage]]
    ) -> dict[str, str]:
        """Remove what dead agents left; return, by instance id, what could not be removed."""
        dead = [(home, launched) for home, launched, stage in found if stage is Stage.DEAD]
        killed = kill_left_behind({home.path for home, _ in dead})
        left = {path.name: "processes of its agent are left" for path in killed}
        dockers = {home.instance_id for home, launched in dead if launched.runtime == "docker"}
        if dockers:
            # A container that was being created while its client was killed may appear later; it
            # never runs.
            late = {home.instance_id for home, _, stage in found if stage is Stage.TERMINATED}
            left |= self._remove_containers(dockers, late)
        return left

    def _remove_containers(self, fresh: set[str], late: set[str]) -> dict[str, str]:
        # After the killing of processes: a client killed before it asked for a start never will.
        containers = self._engine.by_instance()
        stray = [each for key in fresh | late for each in (containers or {}).get(key, ())]
        if stray:
            self._engine.remove(stray)
            containers = self._engine.by_instance()
        self._engine.remove_networks(fresh | late)
        if containers is None:
            return dict.fromkeys(fresh, "the Docker engine does not answer")
        return dict.fromkeys(fresh & containers.keys(), "its container is left")

    def _remove_late_networks(self, past: set[str]) -> None:
        """Remove networks whose creation was under way when their agents were killed."""
        launched = ((each, self.at(each).launched()) for each in past)
        dockers = {each for each, found in launched if found and found.runtime == "docker"}
        if dockers:
            self._engine.remove_networks(dockers)

    def _instance(
        self, home: InstanceDir, launched: Launched, stage: Stage, left: dict[str, str]
    ) -> Instance:
        ending, ended = home.ending(), home.ended()
        reason = ending.reason if ending else ended.reason if ended else ""
        end = home.termination() if stage is Stage.TERMINATED else None
        if stage is Stage.DEAD and home.instance_id not in left:
            at = (ended.time() if ended else None) or self._clock.now()
            why = reason or "its agent ended without a report"
            end = home.write_termination(Ending(at=max(at, launched.launched_at), reason=why))
        request = launched.request
        return Instance(
            instance_id=home.instance_id,
            state=_state(stage, terminated=end is not None, ending=ending is not None),
            launch_token=request.token,
            job_id=request.job_id,
            attempt=request.attempt,
            launched_at=launched.launched_at,
            instance_type="process",
            zone="local",
            market="spot",
            hourly_price_usd=launched.hourly_price_usd,
            spot_instance_request_id=f"local-{home.instance_id}",
            terminated_at=end.at if end else None,
            state_reason=end.reason if end else left.get(home.instance_id, reason),
            spot_interrupted=ended is not None and ended.by_interruption(),
        )

    def _past_retention(self, seen: Sequence[Instance]) -> set[str]:
        ended = [(each.terminated_at, each.instance_id) for each in seen if each.terminated_at]
        ended.sort(reverse=True)
        oldest: datetime = self._clock.now() - timedelta(seconds=self._settings.retention_seconds)
        return {
            instance_id
            for index, (at, instance_id) in enumerate(ended)
            if index >= self._settings.retained_count or at < oldest
        }


def _state(stage: Stage, *, terminated: bool, ending: bool) -> InstanceState:
    if terminated:
        return InstanceState.TERMINATED
    if stage is Stage.DEAD or ending:
        return InstanceState.STOPPING
    return InstanceState.RUNNING if stage is Stage.ALIVE else InstanceState.PENDING
