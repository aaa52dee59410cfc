"""The engine's events about a container. It keeps them in memory: a restart loses them.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/System/operation/SystemEvents
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from .engine_api import EngineAnswer, EngineApi
from .errors import EngineError

EVENTS_SECONDS = 5.0
KEPT_EVENTS = 256  # about all of its containers together (moby: daemon/events/events.go)

State = Mapping[str, Any]
"""The engine's state of a container that has ended."""


def had_oom(name: str, state: State) -> bool:
    """Return whether the engine has recorded a kill for memory in the container *name*.

    Its event may come after that of the exit, and then `State.OOMKilled` is false.
    https://github.com/containerd/containerd/issues/8180
    """
    filters = quote(json.dumps({"container": [name], "event": ["oom"]}))
    since, until = _second(state.get("StartedAt")), _second(state.get("FinishedAt")) + 2
    return bool(_events(since, until, f"&filters={filters}"))


def was_restarted(name: str) -> bool:
    """Return whether the engine began anew since the container *name* was started, and so ended it.

    What it records as exit code then is that of a program which it has stopped, or none at all: 0
    or 255 (https://github.com/moby/moby/pull/45800). Its events tell: a restart loses them,
    and as long as none was dropped, the container's start is among them.
    """
    info: Any = None
    with contextlib.suppress(EngineError), contextlib.closing(EngineApi()) as engine:
        info = engine.request("GET", "/info").body
    if not isinstance(info, dict) or info.get("LiveRestoreEnabled") is True:
        return False
    now = _second(info.get("SystemTime"))  # its own clock: all that it knows is before that
    events = _events(1, now + 1) if now else None
    return events is not None and len(events) < KEPT_EVENTS and not _is_start_in(events, name)


def _is_start_in(events: list[Any], name: str) -> bool:
    for each in events:
        actor = each.get("Actor") or {}
        if each.get("Action") == "start" and (actor.get("Attributes") or {}).get("name") == name:
            return True
    return False


def _events(since: int, until: int, query: str = "") -> list[Any] | None:
    """Return the engine's events between two seconds, None if it tells none."""
    path = f"/events?since={since}&until={until}{query}"
    try:
        with contextlib.closing(EngineApi()) as engine:
            events = list(engine.stream("GET", path, seconds=EVENTS_SECONDS))
    except EngineError:
        return None
    return None if events and isinstance(events[0], EngineAnswer) else events


def _second(at: object) -> int:
    """Return a time of the engine as it takes it: in seconds, and never negative."""
    try:
        whole = re.sub(r"\.[0-9]+", "", str(at)).replace("Z", "+00:00")
        return max(0, int(datetime.fromisoformat(whole).timestamp()))
    except ValueError:
        return 0
