"""The engine's memory of a container: its events, which end with the engine.

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
KEPT_EVENTS = 256  # in the engine's memory (moby: daemon/events/events.go)

State = Mapping[str, Any]
"""The engine's state of a container that has ended."""


def had_oom(name: str, state: State) -> bool:
    """Return whether the engine has recorded a kill for memory in the container *name*.

    Its event may come after that of the exit, and then `State.OOMKilled` is false.
    https://github.com/containerd/containerd/issues/8180
    """
    filters = quote(json.dumps({"container": [name], "event": ["oom"]}))
    return bool(_events(state, f"&filters={filters}"))


def was_restarted(name: str, state: State) -> bool:
    """Return whether the engine began anew while the container *name* ran, and so ended it.

    What it records as exit code then is that of a program which it has stopped, or none at all: 0
    or 255 (https://github.com/moby/moby/pull/45800). Its events tell, for they do not outlive it:
    if it has not forgotten any since the container's start, that start is among them.
    """
    events = _events(state)
    if events is None or len(events) >= KEPT_EVENTS or _is_start_in(events, name):
        return False
    with contextlib.suppress(EngineError), contextlib.closing(EngineApi()) as engine:
        info = engine.request("GET", "/info").body
        return isinstance(info, dict) and info.get("LiveRestoreEnabled") is not True
    return False


def _is_start_in(events: list[Any], name: str) -> bool:
    for each in events:
        actor = each.get("Actor") or {}
        if each.get("Action") == "start" and (actor.get("Attributes") or {}).get("name") == name:
            return True
    return False


def _events(state: State, query: str = "") -> list[Any] | None:
    """Return the engine's events of the time in which a container ran, None if it tells none."""
    since, until = _second(state.get("StartedAt")), _second(state.get("FinishedAt")) + 2
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
