"""`docker-job context`: the APIs that are known by name."""

from typing import Any

import click

from docker_job.cli.app import App, subcommand
from docker_job.config import Context, config_path, load, save
from docker_job.keyring_store import delete_key


@click.group("context")
def context() -> None:
    """List, choose and remove the APIs that login has stored."""


@subcommand(context, "ls")
def ls(app: App) -> None:
    """List the contexts; an asterisk marks the one in use."""
    config = load(config_path())
    rows = [_row(name, each, config.current) for name, each in sorted(config.contexts.items())]
    if app.json:
        app.print_json(rows)
        return
    if not rows:
        click.echo("No contexts yet: docker-job login URL makes one.", err=True)
        return
    width = max(4, *(len(row["name"]) for row in rows))
    reach = max(3, *(len(row["url"]) for row in rows))
    click.echo(f"  {'NAME':{width}}  {'URL':{reach}}  KEY")
    for row in rows:
        mark = "*" if row["current"] else " "
        click.echo(f"{mark} {row['name']:{width}}  {row['url']:{reach}}  {row['key'] or 'none'}")


def _row(name: str, stored: Context, current: str | None) -> dict[str, Any]:
    key = "in the keyring" if stored.key_in_keyring else "stored" if stored.key else None
    return {"name": name, "url": stored.url, "key": key, "current": name == current}


@subcommand(context, "use")
@click.argument("name")
def use(app: App, name: str) -> None:
    """Use a context from now on."""
    path = config_path()
    config = load(path)
    chosen = config.get(name)
    save(path, config.put(name, chosen))
    if app.json:
        app.print_json(_row(name, chosen, name))
    else:
        click.echo(f"Using {chosen.url} as context {name}.")


@subcommand(context, "rm")
@click.argument("names", nargs=-1, required=True)
def rm(app: App, names: tuple[str, ...]) -> None:
    """Remove contexts, with their keys."""
    path = config_path()
    config = load(path)
    for name in names:
        if config.get(name).key_in_keyring:
            delete_key(name)
        config = config.without(name)
    save(path, config)
    if app.json:
        app.print_json({"removed": list(names)})
    else:
        click.echo("\n".join(names))


@subcommand(context, "show")
def show(app: App) -> None:
    """Show which API a command would talk to, and where its key comes from."""
    target = app.target
    if app.json:
        app.print_json({"context": target.context, "url": target.url, "key_from": target.key_from})
        return
    click.echo(f"URL:     {target.url}")
    click.echo(f"Context: {target.context or 'none'}")
    click.echo(f"Key:     {f'from {target.key_from}' if target.key else 'none'}")
