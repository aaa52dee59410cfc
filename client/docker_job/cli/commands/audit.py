"""`docker-job audit`: who did what, from where and when."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from docker_job.cli.app import App, command
from docker_job.cli.output.figures import NOTHING, age
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, show

DEFAULT_ENTRIES = 50


@command(
    "audit",
    short_help="List who did what, from where and when.",
    epilog="Example: docker-job audit --job 217",
)
@click.option("--job", type=click.IntRange(1), metavar="ID", help="Done to this job.")
@click.option("--key", metavar="PREFIX", help="Done with this API key: see key ls.")
@click.option("--project", metavar="NAME", help="Done with a key of this project.")
@click.option("--action", metavar="NAME", help="Of this kind, as job.cancel or key.create.")
@click.option("--since", metavar="TIME", help="From this time on, or of the last 24h, 7d.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(1),
    default=DEFAULT_ENTRIES,
    show_default=True,
    metavar="N",
    help="At most N.",
)
@format_option
def audit(app: App, /, last: int, given_format: str | None, **filters: Any) -> None:
    """List who did what to which job or key, newest first (keys of scope admin)."""
    form = Format.chosen(given_format, is_json=app.json)
    entries = app.client.audit(limit=last, **filters)
    rows = [each.raw for each in entries]
    if form.kind == "json" and app.json:
        app.print_json(rows)
        return
    show(rows, _columns(datetime.now(UTC)), form, app.out, key="id")
    if form.kind != "table" or not app.err.is_terminal:
        return
    if not rows:
        app.err.print("Nothing was done that matches.", style="dim")
    elif len(rows) == last:
        app.err.print(f"The newest {last:,}. More: --last N", style="dim")


def _columns(now: datetime) -> Sequence[Column]:
    return (
        Column("WHEN", lambda each: age(each.get("at"), now)),
        Column("ACTION", lambda each: str(each.get("action") or NOTHING)),
        Column("JOB", lambda each: str(each.get("job_id") or NOTHING)),
        Column("SUBJECT", lambda each: str(each.get("subject") or NOTHING), narrowest=8),
        Column("KEY", lambda each: str(each.get("key") or NOTHING)),
        Column("NAME", _name, narrowest=8),
        Column("PROJECT", lambda each: str(each.get("project") or NOTHING)),
        Column("FROM", lambda each: str(each.get("address") or NOTHING), name="Address"),
    )


def _name(each: Row) -> str:
    return str(each.get("key_name") or NOTHING)
