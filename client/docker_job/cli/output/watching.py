"""`ps --watch`: a table of jobs that is drawn again at each change, until Ctrl-C."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from docker_job.cli.output.job_table import job_columns
from docker_job.cli.output.render import Row, lines_of
from docker_job.cli.terminal import safe, unprotected
from docker_job.errors import ApiError, DockerJobError, Unreachable
from docker_job.queries import ChangeFilters

if TYPE_CHECKING:
    from rich.console import Console

    from docker_job import Client

DRAW_SECONDS, PACE_SECONDS, RELOAD_SECONDS = 1.0, 0.5, 10.0
"""Durations count on each second; the list is loaded at a change, at this pace, or now and then."""
POLL_SECONDS = 2.0


def watch(
    console: "Console", load: Callable[[], list[Row]], changed: threading.Event, *, is_cut: bool
) -> None:
    """Draw what *load* returns again and again, at once when *changed* is set. Ctrl-C ends it."""
    rows: list[Row] = []
    trouble: str | None = None
    loaded_at = float("-inf")
    console.file = unprotected(console.file)  # every text in the drawing is safe
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        try:
            while True:
                if changed.is_set() or time.monotonic() - loaded_at > RELOAD_SECONDS:
                    changed.clear()
                    rows, trouble = _loaded(load, rows)
                    loaded_at = time.monotonic()
                live.update(_drawing(console, rows, trouble, is_cut=is_cut), refresh=True)
                if changed.wait(DRAW_SECONDS):
                    time.sleep(PACE_SECONDS)  # changes come in bursts
        except KeyboardInterrupt:
            return


def listen(client: "Client", filters: ChangeFilters) -> threading.Event:
    """Return what is set at each change of a job that matches; a thread waits for them."""
    changed = threading.Event()
    changed.set()
    # A job that leaves the chosen statuses must vanish: its change has another status.
    wanted: ChangeFilters = {**filters}
    wanted.pop("status", None)
    threading.Thread(target=_listen, args=(client, wanted, changed), daemon=True).start()
    return changed


def _listen(client: "Client", filters: ChangeFilters, changed: threading.Event) -> None:
    try:
        for _ in client.events(**filters):
            changed.set()
    except DockerJobError:
        # An API of an earlier release has no such stream.
        while True:
            time.sleep(POLL_SECONDS)
            changed.set()


def _loaded(load: Callable[[], list[Row]], before: list[Row]) -> tuple[list[Row], str | None]:
    """Load the rows; while the API is away keep those from before, and say so."""
    try:
        return load(), None
    except Unreachable as error:
        return before, error.what
    except ApiError as error:
        if error.status < 500 and error.status != 429:
            raise
        return before, error.what


def _drawing(console: "Console", rows: list[Row], trouble: str | None, *, is_cut: bool) -> Group:
    now = datetime.now(UTC)
    count = "1 job" if len(rows) == 1 else f"{len(rows)} jobs"
    if len(rows) >= console.height:
        count = f"the newest {count}"  # more would not fit
    title = Text(f"{now.astimezone():%H:%M:%S}  {count}  Ctrl-C ends this", "dim")
    if trouble:
        title = Text(safe(f"{trouble} Trying again …"), "yellow")
    return Group(title, *lines_of(rows, job_columns(now), console, is_cut=is_cut))
