"""`docker-job key`: make, list and revoke API keys."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from docker_job.cli.app import App, subcommand
from docker_job.cli.choosing.asking import confirmed
from docker_job.cli.choosing.repeating import of_each
from docker_job.cli.output.figures import NOTHING, age
from docker_job.cli.output.options import format_option
from docker_job.cli.output.render import Column, Format, Row, show
from docker_job.cli.terminal import safe

SCOPES = ("read", "submit", "admin")
STYLES = {"revoked": "bright_black"}


@click.group(short_help="Make, list and revoke API keys.")
def key() -> None:
    """Make, list and revoke API keys (with a key of scope admin, or while there is none)."""


@subcommand(key, "create", epilog="Example: docker-job key create ci --project data")
@click.argument("name")
@click.option(
    "--scope", type=click.Choice(SCOPES), default="submit", show_default=True, help="Its rights."
)
@click.option(
    "--project",
    metavar="NAME",
    default="default",
    show_default=True,
    help="Whose jobs it sees; admin sees all.",
)
def create(app: App, /, name: str, scope: str, project: str) -> None:
    """Make an API key and print it, this one time. NAME is its owner or purpose.

    `read` reads, `submit` also schedules and cancels, `admin` does everything in all projects.
    The first key closes the API, which is open until then, and must have the scope admin.
    """
    made = app.client.create_key(name, scope=scope, project=project)
    if app.json:
        app.print_json(made.raw)
        return
    click.echo(made.key)
    if app.err.is_terminal:
        app.err.print(
            safe(f"Shown once. Revoke it with: docker-job key revoke {made.prefix}"), style="dim"
        )


@subcommand(key, "ls", epilog="Example: docker-job key ls")
@click.option("-a", "--all", "has_revoked", is_flag=True, help="Revoked ones too.")
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print prefixes alone.")
@format_option
def ls(app: App, /, given_format: str | None, *, has_revoked: bool, is_quiet: bool) -> None:
    """List API keys without their secrets, the oldest first."""
    form = Format.chosen(given_format, is_json=app.json, ids=is_quiet)
    rows = [each.raw for each in app.client.list_keys() if has_revoked or each.revoked_at is None]
    if form.kind == "json" and app.json:
        app.print_json(rows)
        return
    show(rows, _columns(datetime.now(UTC)), form, app.out, key="prefix")
    if form.kind == "table" and not rows and app.err.is_terminal:
        app.err.print("No API key: the API serves this machine alone.", style="dim")


@subcommand(key, "revoke", epilog="Example: docker-job key revoke -y 1f2e3d4c")
@click.argument("prefixes", nargs=-1, required=True, metavar="PREFIX...")
@click.option("-y", "--yes", "is_sure", is_flag=True, help="Do not ask.")
def revoke(app: App, /, prefixes: tuple[str, ...], *, is_sure: bool) -> int:
    """Revoke API keys for good, by the prefixes that `key ls` shows."""
    if not is_sure:
        confirmed(app, f"Revoke {', '.join(safe(each) for each in prefixes)} for good?")

    def revoked(prefix: str) -> str:
        app.client.revoke_key(prefix)
        return prefix

    done, code = of_each(prefixes, revoked)
    if app.json:
        app.print_json(done)
        return code
    for prefix in done:
        click.echo(safe(f"revoked {prefix}"))
    return code


def _columns(now: datetime) -> Sequence[Column]:
    return (
        Column("PREFIX", lambda each: str(each["prefix"])),
        Column("NAME", lambda each: str(each.get("name") or NOTHING), narrowest=8),
        Column("SCOPE", lambda each: str(each.get("scope") or NOTHING)),
        Column("PROJECT", lambda each: str(each.get("project") or NOTHING)),
        Column("CREATED", lambda each: age(each.get("created_at"), now)),
        Column("LAST USED", lambda each: age(each.get("last_used_at"), now), name="LastUsed"),
        Column("STATE", _state, style=lambda each: STYLES.get(_state(each), "")),
    )


def _state(each: Row) -> str:
    return "valid" if each.get("revoked_at") is None else "revoked"
