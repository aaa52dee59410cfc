"""Counts which calls of agents are answered, and which fail for a fault of ours."""

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.api.agents.refusals import Refused
from services.api.http.responses import is_our_fault
from services.api.jobs.reception import Counter
from services.api.keys.rates import TooMany

Serve = Callable[[Request], Awaitable[Response]]


def counted(serve: Serve, calls: Counter) -> Serve:
    """Return *serve*, whose calls are counted in *calls*.

    A caller who is refused as unknown (401, 403) or for its rate shows nothing: it may be no agent
    of ours.
    """

    async def count(request: Request) -> Response:
        try:
            response = await serve(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            unknown = isinstance(error, Refused) and error.status in (401, 403)
            if not (unknown or isinstance(error, TooMany)):
                calls.count(failed=is_our_fault(error))
            raise
        calls.count(failed=False)
        return response

    return count
