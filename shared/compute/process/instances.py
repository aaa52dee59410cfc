"""Looking at the instances of this machine, and ending them.

TERMINATED promises that process *and* containers are gone. A cloud's machine takes its containers
along when it powers off, asked or not; here the looker has to do it: whoever finds a dead agent
kills what is left of its session (a `docker` client would start the container it is still pulling),
removes its containers, and says STOPPING until a later look finds none. Doing it while looking
needs no other caller, no task in the background, and costs one `docker ps` a call, only while there
is a fresh death to confirm.

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

KILL_MARGIN_SECONDS = 5.0
INSTANCE_ID = re.compile(r"p-[0-9a-f]{17}")


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of local instances, in seconds save where said, and what they are said to cost."""

    hourly_price_usd: float = 0.0

    terminate_grace_seconds: float = 10.0
    """What the agent gives its container after our SIGTERM. We SIGKILL 5 s after that."""
    boot_seconds: float = 20.0
    """A process that has not spoken for so long is ended."""
    retention_seconds: float = 3600.0
    """How long a terminated instance stays visible, and its token remembered."""
    retained_count: int = 1000
    """How many terminated instances stay visible at most."""


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
        """The directory of an instance, whether or not there is one."""
        if not INSTANCE_ID.fullmatch(instance_id):
            raise ValueError(instance_id)
        return InstanceDir(self._root / instance_id)

    def terminate(self, instance_ids: Iterable[str]) -> None:
        """Forbid the start of each and signal its agent; SIGKILL, once it has had its time."""
        for home, _ in self._known(instance_ids):
            with contextlib.suppress(FileNotFoundError):  # retention has removed it meanwhile
                self._end(home, "terminated on request")

    def look(self, instance_ids: Iterable[str]) -> list[Instance]:
        """What is known of these; the unknown are left out."""
        sightings: list[tuple[InstanceDir, Launched, Stage]] = []
        for home, launched in self._known(instance_ids):
            with contextlib.suppress(FileNotFoundError):  # retention has removed it meanwhile
                sightings.append((home, launched, self._stage(home, launched)))
        left = self._clear_away(sightings)
        return [self._instance(home, launched, stage, left) for home, launched, stage in sightings]

    def look_at_all(self) -> list[Instance]:
        """Every instance. Terminated ones that are too old or too many are removed for good."""
        try:
            seen = self.look(sorted(each.name for each in self._root.iterdir()))
        except FileNotFoundError:
            return []
        past = self._past_retention(seen)
        for instance_id in past:
            home = self.at(instance_id)
            with contextlib.suppress(FileNotFoundError), home.lock():  # another looker was first
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
            return  # it cannot be started any more, and the next look settles the rest
        pid = home.pid()
        if pid is None:
            return  # its starter has not written the id yet; the caller repeats until TERMINATED
        grace = timedelta(seconds=self._settings.terminate_grace_seconds + KILL_MARGIN_SECONDS)
        # A clock that was set back must not keep an instance alive: a moment in the future has
        # passed.
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
            reason = f"its agent did not speak within {bound:g} s"
        elif stage is Stage.NEW:
            # Its launch was cut off. It costs nothing and waits for the repeated one, but not for
            # ever.
            since, bound = launched.launched_at, launched.request.max_lifetime_seconds
            reason = "its launch was cut off and never repeated"
        else:
            return stage
        if self._clock.now() - since > timedelta(seconds=bound):
            self._end(home, reason)
            return home.stage()
        return stage

    def _clear_away(
        self, sightings: Sequence[tuple[InstanceDir, Launched, Stage]]
    ) -> dict[str, str]:
        """Remove what dead agents left; by instance id, why one is not known to be gone yet."""
        dead = [(home, launched) for home, launched, stage in sightings if stage is Stage.DEAD]
        killed = kill_left_behind({home.path for home, _ in dead})
        left = {path.name: "processes of its agent are left" for path in killed}
        dockers = {home.instance_id for home, launched in dead if launched.runtime == "docker"}
        if dockers:
            # One that was being created while its client was killed may turn up late, and never
            # runs.
            late = {home.instance_id for home, _, stage in sightings if stage is Stage.GONE}
            left |= self._remove_containers(dockers, late)
        return left

    def _remove_containers(self, fresh: set[str], late: set[str]) -> dict[str, str]:
        # After the killing of processes: a client killed before it asked for a start never will.
        containers = self._engine.by_instance()
        stray = [each for key in fresh | late for each in (containers or {}).get(key, ())]
        if stray:
            self._engine.remove(stray)
            containers = self._engine.by_instance()
        if containers is None:
            return dict.fromkeys(fresh, "the Docker engine does not answer")
        return dict.fromkeys(fresh & containers.keys(), "its container is left")

    def _instance(
        self, home: InstanceDir, launched: Launched, stage: Stage, left: dict[str, str]
    ) -> Instance:
        ending, ended = home.ending(), home.ended()
        wanted = ending.reason if ending else ended.reason if ended else ""
        gone = home.gone() if stage is Stage.GONE else None
        if stage is Stage.DEAD and home.instance_id not in left:
            at = (ended.moment() if ended else None) or self._clock.now()
            reason = wanted or "its agent died without a word"
            gone = home.write_gone(Ending(at=max(at, launched.launched_at), reason=reason))
        request = launched.request
        return Instance(
            instance_id=home.instance_id,
            state=_state(stage, gone=gone is not None, ending=ending is not None),
            launch_token=request.token,
            job_id=request.job_id,
            attempt=request.attempt,
            launched_at=launched.launched_at,
            instance_type="process",
            zone="local",
            market="spot",
            hourly_price_usd=launched.hourly_price_usd,
            spot_instance_request_id=f"local-{home.instance_id}",
            terminated_at=gone.at if gone else None,
            state_reason=gone.reason if gone else left.get(home.instance_id, wanted),
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


def _state(stage: Stage, *, gone: bool, ending: bool) -> InstanceState:
    if gone:
        return InstanceState.TERMINATED
    if stage is Stage.DEAD or ending:
        return InstanceState.STOPPING
    return InstanceState.RUNNING if stage is Stage.ALIVE else InstanceState.PENDING
