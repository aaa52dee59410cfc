"""The route of plans: what a job would get and cost. Nothing is written."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from services.api.http.bodies import Bodies
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.jobs.model import JobRules
from services.api.offers.decisions import decide_plan
from services.api.offers.request import read_plan
from services.api.offers.store import load_offers, load_starts
from services.api.submission.request import Bounds, read_json
from shared.postgres.pool import Database


@dataclass(frozen=True)
class PlanRoutes:
    """One method a route."""

    db: Database
    rules: JobRules
    bounds: Bounds
    bodies: Bodies

    async def plan(self, request: Request) -> Response:
        """Serve `POST /plan`."""
        read_query(request)
        async with self.bodies.read(request) as raw:
            asked = read_plan(read_json(raw), self.db.clock.now(), self.bounds)
        async with self.db.connection() as conn:
            known = await load_offers(conn)
            recent = await load_starts(conn)
        return answer(decide_plan(asked, known, recent, self.rules))
