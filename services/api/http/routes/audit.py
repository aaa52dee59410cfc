"""`GET /audit`: who did what, from where and when."""

import re
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from services.api.audit.acts import ACTIONS
from services.api.audit.store import AuditFilter, find_entries
from services.api.http.parameters import read_query
from services.api.http.responses import answer
from services.api.http.times import read_time
from services.api.submission.request import BadRequest
from shared.postgres.pool import Database

MOST_ENTRIES = 1000
DEFAULT_ENTRIES = 100
LARGEST_ID = 2**63 - 1
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True)
class AuditRoute:
    """The one route."""

    db: Database

    async def audit(self, request: Request) -> Response:
        """Serve it: the newest first."""
        query = read_query(
            request,
            *("action", "key", "project", "job", "since", "until"),
            *("limit", "cursor"),
        )
        now = self.db.clock.now()
        wanted = AuditFilter(
            action=_action(query),
            key=_name(query, "key"),
            project=_name(query, "project"),
            job_id=_whole(query, "job", LARGEST_ID),
            since=read_time(query, "since", now),
            until=read_time(query, "until", now),
            before=_whole(query, "cursor", LARGEST_ID),
        )
        limit = _whole(query, "limit", MOST_ENTRIES) or DEFAULT_ENTRIES
        async with self.db.connection() as conn:
            entries = await find_entries(conn, wanted, limit)
        headers = {}
        if len(entries) == limit:
            following = [(k, v) for k, v in query.multi_items() if k != "cursor"]
            following.append(("cursor", str(entries[-1].id)))
            headers["Link"] = f'</audit?{urlencode(following)}>; rel="next"'
        return answer(entries, headers=headers)


def _action(query: QueryParams) -> str | None:
    action = query.get("action")
    if action is not None and action not in ACTIONS:
        raise BadRequest(f"action must be one of {', '.join(ACTIONS)}")
    return action


def _name(query: QueryParams, name: str) -> str | None:
    value = query.get(name)
    if value is not None and (not value or "\0" in value):
        raise BadRequest(f"{name} must not be empty nor hold a NUL character")
    return value


def _whole(query: QueryParams, name: str, most: int) -> int | None:
    raw = query.get(name)
    if raw is None:
        return None
    if not _WHOLE.fullmatch(raw) or not 1 <= int(raw) <= most:
        raise BadRequest(f"{name} must be a whole number from 1 to {most}")
    return int(raw)
