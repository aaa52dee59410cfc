"""`docker-job login` and `logout`: an API and its key, stored as a context."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import click

from docker_job import __version__
from docker_job.cli.app import App, command
from docker_job.config import Config, Context, config_path, load, save
from docker_job.documents import About
from docker_job.errors import NotFound, Unauthorized
from docker_job.keyring_store import delete_key, store_key
from docker_job.target import (
    Target,
    check_cacert,
    check_confidential,
    check_key,
    check_url,
    read_key,
)

GRANTS = {
    "read": "it may read",
    "submit": "it may read, schedule and cancel",
    "admin": "it may do everything",
}


@command("login")
@click.argument("url", required=False)
@click.option("--name", metavar="NAME", help="The context's name, if not the host's.")
@click.option("--key-stdin", is_flag=True, help="Read the key from standard input.")
@click.option("--insecure", is_flag=True, help="Send the key over plain HTTP to another machine.")
@click.option("--cacert", metavar="FILE", help="The authority of the API's certificate, in PEM.")
def login(
    app: App,
    url: str | None,
    name: str | None,
    cacert: str | None,
    *,
    key_stdin: bool,
    insecure: bool,
) -> None:
    """Store an API and its key as a context, and use it from now on.

    The key is checked first. It is kept in the system's keyring if there is one, else in the
    configuration file, which is readable by you alone.
    """
    app.url = check_url(url or app.target.url)
    insecure = insecure or app.insecure
    app.cacert = check_cacert(cacert or app.cacert or os.environ.get("DOCKER_JOB_CACERT"))
    key = _given_key(app, key_stdin=key_stdin)
    if key is None and not _is_open(app):
        key = _ask(app)
    if key is not None and not insecure:
        check_confidential(app.url)
    about = _check(Target(app.url, key, cacert=app.cacert))
    path = config_path()
    config = load(path)
    name = name or _name_for(config, app.url)
    in_keyring = key is not None and store_key(name, key)
    stored = Context(app.url, None if in_keyring else key, in_keyring, insecure, app.cacert)
    save(path, config.put(name, stored))
    _say(app, name, stored, about, path)


def _given_key(app: App, *, key_stdin: bool) -> str | None:
    if key_stdin:
        return check_key(sys.stdin.readline())
    return read_key(Path(app.key_file)) if app.key_file else None


def _is_open(app: App) -> bool:
    """Return whether the API serves without a key."""
    try:
        _check(Target(app.url or "", None, cacert=app.cacert))
    except Unauthorized:
        return False
    return True


def _ask(app: App) -> str:
    if not sys.stdin.isatty():
        app.fail(
            f"{app.url} needs an API key.",
            "Give it on standard input: docker-job login --key-stdin URL < FILE",
        )
    return check_key(click.prompt("API key", hide_input=True, err=True))


def _check(target: Target) -> About | None:
    """Call the API with the key; return what it says of itself, None if it is too old for that."""
    from docker_job import Client  # noqa: PLC0415 - httpx takes a while

    with Client(target=target) as client:
        try:
            return client.about()
        except NotFound:
            client.page(limit=1)
            return None


def _name_for(config: Config, url: str) -> str:
    """Return the name of the context that has this URL; else make one of its host."""
    for name, context in config.contexts.items():
        if context.url == url:
            return name
    return urlsplit(url).netloc


def _say(app: App, name: str, stored: Context, about: About | None, path: Path) -> None:
    key = about.key if about else None
    place = "the keyring" if stored.key_in_keyring else str(path) if stored.key else None
    if app.json:
        app.print_json({"context": name, "url": stored.url, "key": key, "key_in": place})
        return
    click.echo(f"Using {stored.url} as context {name}.")
    if key:
        grants = GRANTS.get(key.get("scope", ""), "its scope is unknown to this client")
        click.echo(f"The key is {key.get('name')!r}, scope {key.get('scope')}: {grants}.")
    if place:
        click.echo(f"The key is kept in {place}.")
    else:
        click.echo("This API needs no key yet.")
    if about and about.version and about.version != __version__:
        click.echo(f"The API is version {about.version}, this client {__version__}.")


@command("logout")
@click.argument("name", required=False)
def logout(app: App, name: str | None) -> None:
    """Forget the key of a context, by default the one in use."""
    path = config_path()
    config = load(path)
    chosen = name or app.context or config.current
    if chosen is None:
        app.fail("There is no context in use.", "docker-job context ls shows those that exist.")
    context = config.get(chosen)
    if context.key_in_keyring:
        delete_key(chosen)
    kept = replace(context, key=None, key_in_keyring=False)
    save(path, replace(config, contexts={**config.contexts, chosen: kept}))
    if app.json:
        app.print_json({"context": chosen, "url": context.url})
    elif context.key or context.key_in_keyring:
        click.echo(f"Forgot the key of context {chosen}. It stays valid: an admin revokes it.")
    else:
        click.echo(f"Context {chosen} has no key.")
