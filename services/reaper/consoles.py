"""Reads the consoles of instances that did not boot, or ended by themselves: they show why.

In no transaction, for some seconds at most, and a failure is only a note: no end waits for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.reaper.model import Recorded, Terminated
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
        found = await self.texts_of(instance_ids[:MOST_AT_ONCE])
        if found:
            async with self.db.transaction() as tx:
                await consoles.keep_consoles(tx, found)

    async def texts_of(self, instance_ids: Sequence[str]) -> dict[str, str]:
        """Read these, and return what is to be kept: of those that have something, or a note."""
        if not isinstance(self.compute, HasConsoles):
            return {}
        found = await asyncio.gather(*(self._read(self.compute, each) for each in instance_ids))
        return {each: text for each, text in zip(instance_ids, found, strict=True) if text}

    async def read_ended(self, listing: Sequence[Instance]) -> None:
        """Read those of instances that have ended by themselves, before that is recorded.

        While one shuts down already: it may have the latest output then, and none for minutes once
        it is terminated.
        """
        over = [
            each.instance_id
            for each in listing
            if each.state in (InstanceState.STOPPING, InstanceState.TERMINATED)
            and not each.spot_interrupted
            and each.state_reason not in EXPLAINED
        ]
        if isinstance(self.compute, HasConsoles) and over:
            async with self.db.connection() as conn:
                unread = await consoles.find_unread(conn, over)
            await self.read(unread)

    async def _read(self, compute: HasConsoles, instance_id: str) -> str:
        try:
            text = await answer_within(READ_SECONDS, compute.console_output(instance_id))
        except ComputeError as error:
            _logger.warning("cannot read a console", instance=instance_id, error=str(error))
            return decide_note(str(error))
        except Exception:
            _logger.exception("cannot read a console", instance=instance_id)
            return decide_note("the adapter failed")
        return decide_excerpt(text or "")


def decide_read_again(
    terminated: Sequence[Terminated], recorded: Mapping[str, Recorded], kept: Mapping[str, str]
) -> list[str]:
    """Return those whose console is missing now that their end is *recorded*.

    They did not boot, or ended by themselves.
    """
    return [
        each.watched.instance_id
        for each in terminated
        if (known := recorded.get(each.watched.instance_id)) is not None
        and (known.boot_failed or _by_itself(each))
        and not is_console(kept.get(each.watched.instance_id))
    ]


def _by_itself(end: Terminated) -> bool:
    row = end.watched
    if row.job_id is None or row.end_cause is not None or end.spot_interrupted:
        return False
    return end.cause not in EXPLAINED and end.cause != "vanished"


def decide_note(error: str) -> str:
    """Return what is kept instead of a console that cannot be read."""
    shown = " ".join(readable(error).split())
    return f"{NOTE}{shown[:NOTE_CHARACTERS]}]"


def decide_excerpt(text: str, most: int = CHARACTERS) -> str:
    """Return the end of a console in *most* characters, empty if it has nothing.

    Our own last lines are kept before it if they would be cut off: they name the step that failed.
    """
    lines = [line.rstrip() for line in readable(text.replace("\r", "\n")).splitlines()]
    shown = "\n".join(line for line in lines if line)
    if len(shown) <= most:
        return shown
    tail = shown[-most:]
    before = shown[: len(shown) - most].split("\n")
    ours = [line[:200] for line in before if line.startswith(OUR_LINES)][-5:]
    if not ours:
        return tail
    head = "\n".join((*ours, "[…]", ""))
    return head + shown[len(head) - most :]
