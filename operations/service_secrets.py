"""The services' secrets in containers: made once, each in a directory of its own.

The directory of a service is a volume that only the one-shots (`make_secrets`, `migrate`) and that
service (reading) mount, so a service sees its own secrets alone. An existing one is kept; one that
the environment gives (`DOCKER_JOB_<SERVICE>_DATABASE_PASSWORD` and so on, or `…_FILE`) wins.

Files are 0400, directories 0700, of the image's user. Where the reader has another user (Postgres,
RabbitMQ, and launcher and reaper, which start as root without rights), they are 0440 and 0750: in
compose.yaml these containers have the group (`group_add`), whatever user their images have.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from shared.files import write_whole
from shared.settings import Settings

TOKEN_KEY_READERS = ("api", "launcher")
"""The services that derive and check bootstrap tokens."""

OWNER = 10001
"""The user and the group of the Dockerfile."""

READ_BY_GROUP = ("postgres", "rabbitmq", "launcher", "reaper")


def service_secret(settings: Settings, directory: Path | None, service: str, name: str) -> str:
    """Return the secret *name* (like "database_password") of *service*: given, kept or new."""
    value = known_secret(settings, directory, service, name) or secrets.token_hex(24)
    if directory is not None and value != _read(directory, service, name):
        _write(directory / service / name, value)
    return value


def known_secret(settings: Settings, directory: Path | None, service: str, name: str) -> str | None:
    """Return the secret *name* of *service* if it is given or was made; make nothing."""
    given = settings.text(f"{service.upper()}_{name.upper()}")
    return given or _read(directory, service, name)


def share_token_key(settings: Settings, directory: Path | None) -> None:
    """Write the one key that two services share: the first known one, or a new one."""
    if directory is None:
        return
    kept = [_read(directory, service, "token_key") for service in TOKEN_KEY_READERS]
    key = settings.text("TOKEN_KEY") or next(filter(None, kept), None) or secrets.token_hex(32)
    for service, known in zip(TOKEN_KEY_READERS, kept, strict=True):
        if known != key:
            _write(directory / service / "token_key", key)


def make_secrets_key(settings: Settings, directory: Path | None) -> None:
    """Write the API's key for secrets at rest: given ones (new before old), kept or new."""
    if directory is None:
        return
    kept = _read(directory, "api", "secrets_key")
    key = settings.text("SECRETS_KEY") or kept or secrets.token_hex(32)
    if key != kept:
        _write(directory / "api" / "secrets_key", key)


def passwords(
    settings: Settings, directory: Path | None, services: Sequence[str], name: str
) -> dict[str, str]:
    """Return the secret *name* of each of *services*."""
    return {each: service_secret(settings, directory, each, name) for each in services}


def give_file(directory: Path, service: str, name: str, content: str) -> None:
    """Write *content* for *service*, replacing the former content."""
    if content != _read(directory, service, name):
        _write(directory / service / name, content)


def _read(directory: Path | None, service: str, name: str) -> str | None:
    path = None if directory is None else directory / service / name
    return path.read_text(encoding="utf-8") if path is not None and path.exists() else None


def tighten(directory: Path) -> list[Path]:
    """Close every secret to all but its reader; return the files that were open to others.

    Releases before wrote them for every user. Only root may give files to another user.
    """
    opened = []
    for place in sorted(each for each in directory.iterdir() if each.is_dir()):
        files = sorted(place.iterdir())
        opened += [each for each in files if each.stat().st_mode & 0o007]
        for path in (place, *files):
            _close(path, place.name)
    return opened


def _close(path: Path, service: str) -> None:
    if os.geteuid() == 0:
        os.chown(path, OWNER, OWNER, follow_symlinks=False)
    path.chmod(_mode(service, directory=path.is_dir()))


def _mode(service: str, *, directory: bool) -> int:
    by_group = service in READ_BY_GROUP
    if directory:
        return 0o750 if by_group else 0o700
    return 0o440 if by_group else 0o400


def _write(path: Path, value: str) -> None:
    place = path.parent
    if not place.is_dir():
        place.mkdir(mode=0o700, parents=True)
        _close(place, place.name)
    owner = OWNER if os.geteuid() == 0 else None
    write_whole(path, value.encode(), mode=_mode(place.name, directory=False), owner=owner)
