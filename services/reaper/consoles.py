"""Reads the consoles of instances that did not boot, or ended by themselves: they show why.

In no transaction, for some seconds at most, and a failure is only a note: no end waits for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.reaper.model import KeptConsole, Recorded, Terminated
from services.reaper.store import consoles
from shared.compute.port import Compute, ComputeError, HasConsoles, Instance, InstanceState
from shared.compute.timeouts import answer_within
from shared.console_text import NOTE, OUR_LINES, is_console, readable
from shared.log import get_logger
from shared.postgres.pool import Database

_logger = get_logger(service="reaper", part="consoles")

READ_SECONDS = 6.0
"""For all consoles of a pass; the lease of an end covers it."""

MOST_AT_ONCE = 20
"""Consoles read in one pass, at most: many that fail together fail for one reason."""

CHARACTERS = 4000
"""The most of a console that is kept and published."""

EARLY_CHARACTERS = 3800
"""The most of an early one: so the one that takes its place is longer also where both are cut, by
which the API knows it in any order."""

NOTE_CHARACTERS = 300

EXPLAINED = frozenset({"Client.UserInitiatedShutdown"})
"""Ends whose reason no console has: an operator's."""


@dataclass(frozen=True)
class ConsoleReader:
    """Reads consoles, if the cloud has any."""

    db: Database
    compute: Compute

    async def read(self, instance_ids: Sequence[str]) -> None:
        """Read and keep the consoles of these: of the first ones, if they are many."""
        await self._keep(await self.texts_of(instance_ids[:MOST_AT_ONCE]))

    async def texts_of(self, instance_ids: Sequence[str]) -> dict[str, KeptConsole]:
        """Read these, and return what is to be kept: of those that have something, or a note."""
        found = await self._read_all(instance_ids, early=False)
        return {each: console for each, console in found.items() if console.output}

    async def _read_all(
        self, instance_ids: Sequence[str], *, early: bool
    ) -> dict[str, KeptConsole]:
        if not isinstance(self.compute, HasConsoles):
            return {}
        found = await asyncio.gather(
            *(self._read(self.compute, each, early=early) for each in instance_ids)
        )
        return dict(zip(instance_ids, found, strict=True))

    async def _keep(self, found: Mapping[str, KeptConsole]) -> None:
        if found:
            async with self.db.transaction() as tx:
                await consoles.keep_consoles(tx, found)

    async def read_ended(self, listing: Sequence[Instance]) -> None:
        """Read those of instances that have ended by themselves, before that is recorded.

        Once while one shuts down: it may have the latest output then, and none for minutes once it
        is terminated. What was read is kept as early, also if it is nothing: EC2 may have answered
        with what it posted long before.
        """
        over = {
            each.instance_id: each.state
            for each in listing
            if each.state in (InstanceState.STOPPING, InstanceState.TERMINATED)
            and not each.spot_interrupted
            and each.state_reason not in EXPLAINED
        }
        if not isinstance(self.compute, HasConsoles) or not over:
            return
        terminated = {each for each, state in over.items() if state is InstanceState.TERMINATED}
        stopping = [each for each in over if each not in terminated]
        async with self.db.connection() as conn:
            unread = await consoles.find_unread(conn, stopping, terminated)
        await self._keep(await self._read_all(unread[:MOST_AT_ONCE], early=True))

    async def _read(self, compute: HasConsoles, instance_id: str, *, early: bool) -> KeptConsole:
        """Return what is to be kept of a console now; empty: it has nothing yet."""
        try:
            text = await answer_within(READ_SECONDS, compute.console_output(instance_id))
        except ComputeError as error:
            _logger.warning("cannot read a console", instance=instance_id, error=str(error))
            return KeptConsole(output=decide_note(str(error)), early=early)
        except Exception:
            _logger.exception("cannot read a console", instance=instance_id)
            return KeptConsole(output=decide_note("the adapter failed"), early=early)
        return decide_kept(text or "", early=early)


def shown_of(instance_id: str, kept: Mapping[str, KeptConsole]) -> str | None:
    """Return what the end of an instance shows of its console; None: nothing."""
    console = kept.get(instance_id)
    return (console.output or None) if console else None


def decide_read_again(
    terminated: Sequence[Terminated],
    recorded: Mapping[str, Recorded],
    kept: Mapping[str, KeptConsole],
) -> list[str]:
    """Return those whose console is missing, or early, now that their end is *recorded*.

    They did not boot, or ended by themselves.
    """
    return [
        each.watched.instance_id
        for each in terminated
        if (known := recorded.get(each.watched.instance_id)) is not None
        and (known.boot_failed or _by_itself(each))
        and not _is_whole(kept.get(each.watched.instance_id))
    ]


def _is_whole(console: KeptConsole | None) -> bool:
    return console is not None and is_console(console.output) and not console.early


def _by_itself(end: Terminated) -> bool:
    row = end.watched
    if row.job_id is None or row.end_cause is not None or end.spot_interrupted:
        return False
    return end.cause not in EXPLAINED and end.cause != "vanished"


def decide_note(error: str) -> str:
    """Return what is kept instead of a console that cannot be read."""
    shown = " ".join(readable(error).split())
    return f"{NOTE}{shown[:NOTE_CHARACTERS]}]"


def decide_kept(text: str, *, early: bool) -> KeptConsole:
    """Return what is kept of a console that is *text* now."""
    shown = _shown(text)
    excerpt = decide_excerpt(text, EARLY_CHARACTERS if early else CHARACTERS)
    return KeptConsole(output=excerpt, characters=len(shown), early=early)


def _shown(text: str) -> str:
    lines = [line.rstrip() for line in readable(text.replace("\r", "\n")).splitlines()]
    return "\n".join(line for line in lines if line)


def decide_excerpt(text: str, most: int = CHARACTERS) -> str:
    """Return the end of a console in *most* characters, empty if it has nothing.

    Our own last lines are kept before it if they would be cut off: they name the step that failed.
    """
    shown = _shown(text)
    if len(shown) <= most:
        return shown
    tail = shown[-most:]
    before = shown[: len(shown) - most].split("\n")
    ours = [line[:200] for line in before if line.startswith(OUR_LINES)][-5:]
    if not ours:
        return tail
    head = "\n".join((*ours, "[…]", ""))
    return head + shown[len(head) - most :]
