"""`docker-job doctor`: checks what a command needs, and says what to do about what is wrong."""

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import click

from docker_job import __version__
from docker_job.cli.app import App, command
from docker_job.cli.commands.plugin import is_ours, plugin_path
from docker_job.config import config_path, exposure, load
from docker_job.documents import About
from docker_job.errors import DockerJobError, NotFound

CLOCK_SECONDS = 5.0
"""A larger difference makes `--at 10:00` and ages mean another time than one thinks."""


MARKS = {True: "✓", False: "✗", None: "\N{EN DASH}"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. *ok*: None if it is neither right nor wrong."""

    name: str
    ok: bool | None
    found: str
    hint: str = ""


def _wrong(name: str, found: str, hint: str) -> Check:
    return Check(name, ok=False, found=found, hint=hint)


@command("doctor")
def doctor(app: App) -> int:
    """Check the client, the way to the API, the key, the clock, the API's broker and the plugin."""
    checks = [_client(), _config(), *_api(app), _plugin()]
    wrong = any(each.ok is False for each in checks)
    if app.json:
        app.print_json({"ok": not wrong, "checks": [asdict(each) for each in checks]})
        return int(wrong)
    width = max(len(each.name) for each in checks)
    for each in checks:
        mark = MARKS[each.ok]
        click.echo(f"{mark} {each.name:{width}}  {each.found}")
        if each.hint and each.ok is not True:
            click.echo(f"  {'':{width}}  {each.hint}")
    return int(wrong)


def _client() -> Check:
    python = ".".join(str(each) for each in sys.version_info[:3])
    return Check("client", ok=True, found=f"version {__version__} on Python {python}")


def _config() -> Check:
    path = config_path()
    try:
        names = sorted(load(path).contexts)
    except DockerJobError as error:
        return _wrong("configuration", error.what, error.hint)
    if exposed := exposure(path):
        return _wrong("configuration", f"{path}: {exposed}", f"chmod 600 {path}")
    if not names:
        return Check(
            "configuration", None, f"{path}: no contexts", "docker-job login URL makes one"
        )
    return Check("configuration", ok=True, found=f"{path}: {', '.join(names)}")


def _api(app: App) -> Iterator[Check]:
    """Check one thing after the other; what needs an answer is left out if there is none."""
    try:
        ready = app.client.ready()
    except DockerJobError as error:
        yield _wrong("API", error.what, error.hint)
        return
    yield Check("API", ok=True, found=_address(app))
    yield _readiness(dict(ready))
    try:
        started, now = time.monotonic(), datetime.now(UTC)
        about = app.client.about()
        yield _version(about)
        yield _key(app, about)
        yield _clock(about, now, time.monotonic() - started)
    except NotFound:
        yield Check("version", None, "the API does not say", "It is older than this client.")
        yield _old_key(app)
    except DockerJobError as error:
        yield _wrong("key", error.what, error.hint)


def _address(app: App) -> str:
    target = app.target
    return f"{target.url} (context {target.context})" if target.context else target.url


def _readiness(ready: dict[str, object]) -> Check:
    """Read `/readyz`: the database, the broker and its queues."""
    message = str(ready.get("message") or "")
    if ready.get("status") != "ready":
        return _wrong("readiness", message or "not ready", "An operator looks: make doctor")
    if ready.get("degraded"):
        return _wrong("readiness", message, "Jobs are accepted and wait: make doctor")
    return Check("readiness", ok=True, found="database, broker and queues work")


def _version(about: About) -> Check:
    if about.version.split(".")[:2] == __version__.split(".")[:2]:
        return Check("version", ok=True, found=f"the API is version {about.version}")
    found = f"the API is version {about.version}, this client {__version__}"
    return Check("version", None, found, "Calls that only one of them knows do not work.")


def _key(app: App, about: About) -> Check:
    if about.key:
        found = f"{about.key.get('name')!r}, scope {about.key.get('scope')}"
        return Check("key", ok=True, found=f"{found}, from {app.target.key_from}")
    if app.target.key:
        return Check("key", None, "the API does not ask for a key yet", "No key was made there.")
    return Check(
        "key", None, "none, and the API serves without", "An operator makes the first one."
    )


def _old_key(app: App) -> Check:
    try:
        app.client.page(limit=1)
    except DockerJobError as error:
        return _wrong("key", error.what, error.hint)
    return Check("key", ok=True, found="accepted")


def _clock(about: About, sent_at: datetime, seconds: float) -> Check:
    """Compare the clocks. The API's time is from between the request and its answer."""
    if about.now is None:
        return Check("clock", None, "the API does not say its time")
    behind = (about.now - sent_at).total_seconds()
    off = behind if behind < 0 else max(0.0, behind - seconds)
    if abs(off) <= CLOCK_SECONDS:
        return Check("clock", ok=True, found="agrees with the API's")
    side = "behind" if off > 0 else "ahead of"
    found = f"this clock is {abs(off):.0f} s {side} the API's"
    return _wrong("clock", found, "Set it by NTP: timedatectl set-ntp true")


def _plugin() -> Check:
    path = plugin_path()
    if is_ours(path):
        return Check("docker job", ok=True, found=f"installed as {path}")
    if shutil.which("docker") is None:
        return Check("docker job", None, "no docker client here", "Use docker-job in its place.")
    return Check(
        "docker job", None, "not installed", "docker-job install-plugin makes it docker job"
    )
