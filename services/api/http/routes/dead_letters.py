"""The routes about dead letters: list, show, redrive, drop."""

from dataclasses import dataclass

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.api.dead_letters.letters import Ask, LetterService
from services.api.http.gate import caller_of
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.submission.request import BadRequest
from shared.events.events import DeadLetterDropAsked, DeadLetterRedriveAsked
from shared.events.readers import EVERY_SERVICE
from shared.messaging.dead_letter_report import LETTERS

MOST_LETTERS = LETTERS * len(EVERY_SERVICE)
DEFAULT_LETTERS = 100


@dataclass(frozen=True)
class DeadLetterRoutes:
    """One method a route."""

    letters: LetterService

    async def list_letters(self, request: Request) -> Response:
        """Serve `GET /deadletters`."""
        query = read_query(request, "service", "event", "limit")
        service, event = _service(query), query.get("event")
        return answer(await self.letters.list_letters(service, event, _limit(query)))

    async def show(self, request: Request) -> Response:
        """Serve `GET /deadletters/{event_id}`."""
        service = _service(read_query(request, "service"))
        return answer(await self.letters.show(request.path_params["event_id"], service))

    async def redrive(self, request: Request) -> Response:
        """Serve `POST /deadletters/{event_id}/redrive`."""
        return await self._ask(request, DeadLetterRedriveAsked)

    async def drop(self, request: Request) -> Response:
        """Serve `DELETE /deadletters/{event_id}`."""
        return await self._ask(request, DeadLetterDropAsked)

    async def _ask(self, request: Request, kind: Ask) -> Response:
        service = _service(read_query(request, "service"))
        event_id = request.path_params["event_id"]
        return answer(
            await self.letters.ask(kind, event_id, service, caller_of(request).actor), 202
        )


def _service(query: QueryParams) -> str | None:
    service = query.get("service")
    if service is not None and service not in EVERY_SERVICE:
        raise BadRequest(f"service must be one of {', '.join(EVERY_SERVICE)}")
    return service


def _limit(query: QueryParams) -> int:
    raw = query.get("limit", str(DEFAULT_LETTERS))
    if raw.isascii() and raw.isdecimal() and len(raw) < 9 and 1 <= int(raw) <= MOST_LETTERS:
        return int(raw)
    raise BadRequest(f"limit must be a whole number from 1 to {MOST_LETTERS}")
