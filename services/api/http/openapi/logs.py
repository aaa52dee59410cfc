"""The parameters and answers of the route that shows a job's log."""

from typing import Any

from services.api.agents.log_lines import STREAMS
from services.api.http.log_query import EVENT_ID, MAX_TAIL
from services.api.http.openapi.shapes import Schema, one_of, whole
from services.api.logs.store import LAST_ATTEMPT

_FLAG: Schema = {"anyOf": [whole(0, 1), {"type": "boolean"}], "default": 0}


def parameters() -> list[Schema]:
    """Return the parameters of the route but for the job's number."""
    tail = {"anyOf": [whole(0, MAX_TAIL), {"const": "all"}], "default": "all"}
    return [
        _in_query("follow", "Stream until the job, or the attempt, is over.", _FLAG),
        _in_query("attempt", "The one attempt to show.", whole(1, LAST_ATTEMPT)),
        _in_query(
            "tail",
            "So many last lines; with `follow` these and all that come. Lines about the log do not "
            "count.",
            tail,
        ),
        _in_query("timestamps", "As text: put its time (RFC 3339, UTC) before each line.", _FLAG),
        _in_query("streams", "As text: put the name of its stream before each line.", _FLAG),
        _in_query("stream", "The one stream to show.", one_of(STREAMS)),
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "With `follow`: continue after this event; `tail` has no effect then.",
            "schema": {"type": "string", "pattern": EVENT_ID},
        },
    ]


def answers() -> dict[str, Any]:
    """Return the answers of the route that are no errors."""
    lines = {
        "description": "As text: the lines as printed, and `--- attempt 2 ---` where a further "
        "attempt begins; each piece but the last of a line that was split ends with ` [line "
        "continues]`. With `follow` server-sent events: `data` is a `LogLine` in JSON, with its "
        "`attempt`, `id` the position to continue after; the last event, `end`, has `status` and "
        "`exit_code`; of one attempt also `attempt` and `cause`, and its exit code.",
        "content": {
            "text/plain; charset=utf-8": {"schema": {"type": "string"}},
            "text/event-stream; charset=utf-8": {},  # 3.1 cannot describe an event
        },
    }
    over = "With `follow`: the client has the end already, by its `Last-Event-ID`; ask no more."
    return {"200": lines, "204": {"description": over}}


def _in_query(name: str, about: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": about, "schema": schema}
