"""`docker-job deadletters`: events whose handlers failed; inspect, redrive and drop them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from docker_job.cli.app import App, subcommand
from docker_job.cli.choosing.asking import confirmed
from docker_job.cli.choosing.repeating import of_each
from docker_job.cli.output.figures import NOTHING, age, count
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, first_line, show, write
from docker_job.cli.terminal import escaped_json, safe

STYLES = {"waiting": "yellow", "dead": "red"}
SERVICES = ("api", "scheduler", "launcher", "reaper")


@click.group(short_help="Inspect, redrive and drop dead letters.")
def deadletters() -> None:
    """List, show, redrive or drop events whose handlers failed (keys of scope admin)."""


@subcommand(deadletters, "ls", epilog="Example: docker-job deadletters ls --service launcher")
@click.option("--service", type=click.Choice(SERVICES), help="Only of this service.")
@click.option("--event", metavar="NAME", help="Only events of this name, as JobScheduled.")
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="At most N.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print event ids alone.")
@format_option
def ls(
    app: App,
    /,
    service: str | None,
    event: str | None,
    last: int | None,
    given_format: str | None,
    *,
    is_quiet: bool,
) -> None:
    """List dead letters. `waiting` events are still retried; `dead` ones are not."""
    form = Format.chosen(given_format, is_json=app.json, ids=is_quiet)
    answer = app.client.deadletters(service=service, event=event, limit=last)
    if form.kind == "json":
        app.print_json(answer.raw)
        return
    now = datetime.now(UTC)
    show([each.raw for each in answer.letters], _columns(now), form, app.out, key="event_id")
    if form.kind != "table" or not app.err.is_terminal:
        return
    if not answer.letters:
        app.err.print("No dead letters: every event was handled.", style="dim")
    elif answer.total > len(answer.letters):
        app.err.print(f"{len(answer.letters):,} of {answer.total:,}. More: --last N", style="dim")


@subcommand(deadletters, "show", epilog="Example: docker-job deadletters show 0197…")
@click.argument("event_ids", nargs=-1, required=True, metavar="EVENT_ID...")
def show_letters(app: App, /, event_ids: tuple[str, ...]) -> int:
    """Show everything about dead letters, their bodies too, as one JSON array."""
    found, code = of_each(event_ids, lambda each: app.client.deadletter(each).raw)
    write(app.out, escaped_json(json.dumps(found, indent=4, ensure_ascii=False)) + "\n")
    return code


@subcommand(deadletters, "redrive", epilog="Example: docker-job deadletters redrive 0197…")
@click.argument("event_ids", nargs=-1, required=True, metavar="EVENT_ID...")
def redrive(app: App, /, event_ids: tuple[str, ...]) -> int:
    """Hand dead letters to their handlers again. To redrive one twice does no harm."""
    asked, code = of_each(event_ids, app.client.redrive)
    _say(app, asked, "is asked to handle")
    return code


@subcommand(deadletters, "drop", epilog="Example: docker-job deadletters drop -y 0197…")
@click.argument("event_ids", nargs=-1, required=True, metavar="EVENT_ID...")
@click.option("-y", "--yes", "is_sure", is_flag=True, help="Do not ask.")
def drop(app: App, /, event_ids: tuple[str, ...], *, is_sure: bool) -> int:
    """Delete dead letters for good: what their events would have done is never done."""
    if not is_sure:
        letters, code = of_each(event_ids, app.client.deadletter)
        if code:
            return code  # nothing is dropped where an id is wrong
        for letter in letters:
            job = f" of job {letter.job_id}" if letter.job_id is not None else ""
            app.err.print(safe(f"{letter.event}{job}, {letter.service}: {letter.error or ''}"))
        confirmed(app, f"Drop {'it' if len(letters) == 1 else f'these {len(letters)}'} for good?")
    asked, code = of_each(event_ids, app.client.drop)
    _say(app, asked, "is asked to drop")
    return code


def _say(app: App, asked: Sequence[Mapping[str, Any]], does: str) -> None:
    if app.json:
        app.print_json(list(asked))
        return
    for each in asked:
        click.echo(safe(f"{each['event_id']}: the {each['service']} {does} it"))


def _columns(now: datetime) -> Sequence[Column]:
    return (
        Column("EVENT ID", lambda each: str(each["event_id"]), name="EventID"),
        Column("SERVICE", lambda each: str(each.get("service") or NOTHING)),
        Column("EVENT", lambda each: str(each.get("event") or NOTHING)),
        Column("JOB", lambda each: str(each.get("job_id") or NOTHING)),
        Column("STATE", _state, style=lambda each: STYLES.get(str(each.get("state")), "")),
        Column("TRIES", lambda each: count(each.get("tries"))),
        Column("SINCE", lambda each: age(each.get("since"), now)),
        Column("ERROR", lambda each: first_line(each.get("error")), narrowest=12),
    )


def _state(letter: Row) -> str:
    place = " (broker)" if letter.get("place") == "broker" else ""
    return f"{letter.get('state') or NOTHING}{place}"
