"""The configuration file: contexts by name, each the URL of an API and perhaps its key.

`~/.config/docker-job/config.json`, or below XDG_CONFIG_HOME, or DOCKER_JOB_CONFIG. It is written
whole (a new file takes its place) and is readable by its owner alone.
"""

import json
import logging
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from docker_job.errors import ConfigurationError

KEYRING_SERVICE = "docker-job"

_log = logging.getLogger("docker_job")


@dataclass(frozen=True)
class Context:
    """An API: its URL, and its key if it is not in the keyring."""

    url: str
    key: str | None = field(default=None, repr=False)
    key_in_keyring: bool = False
    insecure: bool = False
    cacert: str | None = None
    """The path of a file with the authorities, in PEM, that the API's certificate is checked by."""


@dataclass(frozen=True)
class Config:
    """The contexts by name, and the one in use."""

    contexts: Mapping[str, Context] = field(default_factory=dict)
    current: str | None = None

    def get(self, name: str) -> Context:
        """Return the context of that name. Raises `ConfigurationError`, which names the others."""
        if name not in self.contexts:
            known = ", ".join(sorted(self.contexts)) or "none yet"
            raise ConfigurationError(
                f"There is no context {name!r}.",
                f'Contexts: {known}. "docker-job login URL" makes one.',
            )
        return self.contexts[name]

    def put(self, name: str, context: Context) -> "Config":
        """Return a configuration that has *context*, and uses it."""
        return replace(self, contexts={**self.contexts, name: context}, current=name)

    def without(self, name: str) -> "Config":
        """Return a configuration that has no context of that name."""
        self.get(name)
        kept = {each: context for each, context in self.contexts.items() if each != name}
        return Config(kept, None if self.current == name else self.current)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the configuration file is, or would be."""
    if given := environ.get("DOCKER_JOB_CONFIG"):
        return Path(given)
    home = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(home) / "docker-job" / "config.json"


def load(path: Path) -> Config:
    """Read the file; an empty configuration if there is none. Raises `ConfigurationError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        contexts = {name: _context(each) for name, each in data.get("contexts", {}).items()}
        return Config(contexts, data.get("current"))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read {path}: {error.strerror}.", "Make it readable for you (chmod 600)."
        ) from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is damaged: {error}.", 'Remove it, and run "docker-job login URL" again.'
        ) from error


def _context(data: dict[str, Any]) -> Context:
    return Context(
        str(data["url"]),
        data.get("key"),
        bool(data.get("key_in_keyring")),
        bool(data.get("insecure")),
        data.get("cacert"),
    )


def save(path: Path, config: Config) -> None:
    """Write the file in one step. Raises `ConfigurationError`."""
    data = {
        "current": config.current,
        "contexts": {
            name: {key: value for key, value in asdict(each).items() if value or key == "url"}
            for name, each in config.contexts.items()
        },
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, json.dumps(data, indent=2) + "\n")
    except OSError as error:
        raise ConfigurationError(
            f"Cannot write {path}: {error.strerror}.", "DOCKER_JOB_CONFIG names another place."
        ) from error


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the file in one step: a reader sees the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def close_to_others(path: Path) -> None:
    """Make a file that others can read private, and log it; do nothing where that is refused."""
    if exposed := exposure(path):
        with suppress(OSError):
            path.chmod(0o600)
            _log.warning(
                "%s: %s: it is closed to them now; others may know its keys", path, exposed
            )


def exposure(path: Path) -> str | None:
    """Return what is wrong with the file's permissions, None if nothing is (or there is none)."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    return f"others can read it (mode {mode:04o})" if mode & 0o077 else None
