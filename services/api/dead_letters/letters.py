"""Dead letters for users: list, show, and ask their service to redrive or drop them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from services.api.audit import acts
from services.api.audit.acts import Action, Actor
from services.api.audit.store import add_act
from services.api.dead_letters.store import KeptReport, load_reports
from shared.events.events import DeadLetterDropAsked, DeadLetterRedriveAsked
from shared.events.letters import LetterPlace, LetterState, ReportedLetter
from shared.messaging import store as messages
from shared.messaging.dead_letter_report import LETTERS
from shared.postgres.pool import Database
from shared.postgres.wakeups import Wakeups

COMMAND = "python -m operations.deadletters"
IN_COMPOSE = "docker compose run --rm deadletters"

Ask: TypeAlias = type[DeadLetterRedriveAsked | DeadLetterDropAsked]

_ACTIONS: dict[Ask, Action] = {
    DeadLetterRedriveAsked: "deadletter.redrive",
    DeadLetterDropAsked: "deadletter.drop",
}


class NoSuchLetter(Exception):
    """No service has reported a letter with this id."""


class LetterInBroker(Exception):
    """The letter is a message in the broker's dead queue: only the operators' command moves it."""


class ListedLetter(Struct, frozen=True, kw_only=True):
    """A letter in the list."""

    event_id: str
    service: str
    place: LetterPlace
    state: LetterState
    event: str
    job_id: int | None
    tries: int | None
    error: str
    since: datetime | None


class ShownLetter(ListedLetter, frozen=True, kw_only=True):
    """A letter with the beginning of its content; `body_bytes` is the length of all of it."""

    body: str
    body_bytes: int


class LetterList(Struct, frozen=True):
    """The letters, the newest first; `as_of` has the time of each service's last report."""

    as_of: dict[str, datetime]
    total: int
    letters: Sequence[ListedLetter]


class AskedAnswer(Struct, frozen=True):
    """The answer to what is asked of a letter; `service` has several names if several have it."""

    event_id: str
    service: str
    asked_at: datetime


@dataclass(frozen=True)
class LetterService:
    """The letters that the services have reported."""

    db: Database
    wakeups: Wakeups

    async def list_letters(self, service: str | None, event: str | None, limit: int) -> LetterList:
        """List up to *limit* letters of *service* and *event* (None: of all)."""
        reports = await self._reports(service)
        found = [each for each in _newest(reports) if event is None or each[1].event == event]
        # Of one event's letters only those are counted that are reported: the newest.
        total = sum(each.total for each in reports) if event is None else len(found)
        return LetterList(
            {each.service: each.reported_at for each in reports},
            total,
            [ListedLetter(**_fields(*each)) for each in found[:limit]],
        )

    async def show(self, event_id: str, service: str | None) -> ShownLetter:
        """Show the letter, the newest if several services have it. Raises `NoSuchLetter`."""
        name, letter = (await self._find(event_id, service))[0]
        return ShownLetter(**_fields(name, letter), body=letter.body, body_bytes=letter.body_bytes)

    async def ask(self, kind: Ask, event_id: str, service: str | None, by: Actor) -> AskedAnswer:
        """Publish that *by* asks *kind* of the letter, in each service that has it.

        Raises `NoSuchLetter`, `LetterInBroker`.
        """
        found = await self._find(event_id, service)
        names = sorted({name for name, letter in found if letter.place == "parked"})
        if not names:
            raise LetterInBroker(_in_broker(kind, event_id, found[0][0]))
        async with self.db.transaction() as tx:
            asked = [
                kind(
                    service=each,
                    event_id=uuid.UUID(event_id),
                    asked_at=tx.now,
                    asked_by=by.key_name,
                )
                for each in names
            ]
            await messages.publish(tx, asked)
            await add_act(tx, by, _ACTIONS[kind], subject=event_id)
            answer = AskedAnswer(event_id, ", ".join(names), tx.now)
        self.wakeups.wake(*tx.wakes)
        acts.log(by, _ACTIONS[kind], subject=event_id)
        return answer

    async def _reports(self, service: str | None) -> list[KeptReport]:
        async with self.db.connection() as conn:
            reports = await load_reports(conn)
        return [each for each in reports if service in (None, each.service)]

    async def _find(self, event_id: str, service: str | None) -> list[tuple[str, ReportedLetter]]:
        reports = await self._reports(service)
        found = [each for each in _newest(reports) if each[1].event_id == event_id]
        if not found:
            of = "any service" if service is None else service
            raise NoSuchLetter(
                f"{event_id[:80]!r} is no dead letter of {of} (each reports its newest {LETTERS})"
            )
        return found


def _newest(reports: Sequence[KeptReport]) -> list[tuple[str, ReportedLetter]]:
    both = [(each.service, letter) for each in reports for letter in each.letters]
    return sorted(both, key=_since, reverse=True)


def _since(both: tuple[str, ReportedLetter]) -> float:
    since = both[1].since
    return 0 if since is None else since.timestamp()


def _fields(service: str, letter: ReportedLetter) -> dict[str, Any]:
    known = msgspec.structs.asdict(letter) | {"service": service}
    return {name: known[name] for name in ListedLetter.__struct_fields__}


def _in_broker(kind: Ask, event_id: str, service: str) -> str:
    verb = "redrive" if kind is DeadLetterRedriveAsked else "drop"
    return (
        f"{event_id} lies in the broker's {service}.dead: on the machine of docker-job use "
        f"'{COMMAND} {verb} {event_id}' or '{IN_COMPOSE} {verb} {event_id}'"
    )
