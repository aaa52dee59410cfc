"""The API to talk to: its URL and its key, from arguments, the environment or a context."""

import ipaddress
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from docker_job.config import Config, Context, close_to_others, config_path, load
from docker_job.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8000"
KeySource = Callable[[], tuple[str, str]]
"""Returns a key and where it comes from."""

_TRUE = frozenset({"1", "true", "yes"})


@dataclass(frozen=True)
class Target:
    """An API. *context*: the name of the context that gave the URL; *key_from*: for `doctor`.

    *cacert*: a file with the authorities, in PEM, that are trusted for it; None: the system's.
    """

    url: str
    key: str | None = field(repr=False)
    context: str | None = None
    key_from: str | None = None
    cacert: str | None = None

    @property
    def is_local(self) -> bool:
        """True if it is this machine, by its loopback interface."""
        return is_loopback(urlsplit(self.url).hostname or "")


def find_target(
    url: str | None = None,
    key: str | None = None,
    *,
    key_file: str | None = None,
    context: str | None = None,
    insecure: bool = False,
    cacert: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """Return the API of the arguments, else of the environment, else of the context in use.

    A key that was stored for one URL is not sent to another one. Raises `ConfigurationError`, also
    where a key would travel in clear to another machine and *insecure* does not allow that.
    """
    given_url = url or (None if context else environ.get("DOCKER_JOB_URL")) or None
    name, stored = _stored(context, environ)
    chosen_url = check_url(given_url or (stored.url if stored else DEFAULT_URL))
    if stored is not None and chosen_url != check_url(stored.url):
        name, stored = None, None
    sources = (_given(key, key_file), _of_environ(environ), _of_context(name, stored))
    if context and stored is not None:  # an option: it wins over the environment
        sources = (sources[0], sources[2], sources[1])
    chosen, key_from = next((each() for each in sources if each is not None), (None, None))
    allowed = (
        insecure
        or environ.get("DOCKER_JOB_INSECURE", "").lower() in _TRUE
        or (stored is not None and stored.insecure)
    )
    if chosen and not allowed:
        check_confidential(chosen_url)
    trusted = cacert or environ.get("DOCKER_JOB_CACERT") or (stored.cacert if stored else None)
    return Target(chosen_url, chosen, name if stored else None, key_from, check_cacert(trusted))


def _stored(context: str | None, environ: Mapping[str, str]) -> tuple[str | None, Context | None]:
    close_to_others(config_path(environ))
    config: Config = load(config_path(environ))
    name = context or environ.get("DOCKER_JOB_CONTEXT") or None
    if name is not None:
        return name, config.get(name)
    if config.current in config.contexts:
        return config.current, config.contexts[config.current or ""]
    return None, None


def _given(key: str | None, key_file: str | None) -> KeySource | None:
    if key:
        return lambda: (check_key(key), "an argument")
    if key_file:
        return lambda: (read_key(Path(key_file)), key_file)
    return None


def _of_environ(environ: Mapping[str, str]) -> KeySource | None:
    if key := environ.get("DOCKER_JOB_KEY"):
        return lambda: (check_key(key), "DOCKER_JOB_KEY")
    if file := environ.get("DOCKER_JOB_KEY_FILE"):
        return lambda: (read_key(Path(file)), "DOCKER_JOB_KEY_FILE")
    return None


def _of_context(name: str | None, stored: Context | None) -> KeySource | None:
    if stored is None or name is None:
        return None
    if stored.key_in_keyring:
        from docker_job.keyring_store import load_key  # noqa: PLC0415 - slow, and rarely needed

        return lambda: (load_key(name), "the keyring")
    return (lambda: (stored.key or "", "the configuration file")) if stored.key else None


def read_key(path: Path) -> str:
    """Read a key from a file. Raises `ConfigurationError`."""
    try:
        return check_key(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"Cannot read the key file {path}: {getattr(error, 'strerror', None) or 'not text'}.",
            "Name a file that holds the key and nothing else.",
        ) from error


def check_cacert(path: str | None) -> str | None:
    """Return the file's absolute path. Raises `ConfigurationError` if it holds no certificates."""
    if not path:
        return None
    file = Path(path).expanduser().absolute()
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:  # SSLError too
        reason = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(
            f"Cannot use {file}: {reason}.",
            "--cacert and DOCKER_JOB_CACERT name a file with the authority's certificate, as "
            "deploy.sh prints it.",
        ) from error
    return str(file)


def check_key(raw: str) -> str:
    """Return the key without white space around it. Raises `ConfigurationError`; never shows it."""
    key = raw.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "This is no API key.", "A key is one word that begins with djk_: copy it whole."
        )
    return key


def check_url(raw: str) -> str:
    """Return the URL without a slash at its end. Raises `ConfigurationError`."""
    url = raw.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        named = False
    if not named or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{raw!r} is no URL of an API.", f"It looks like {DEFAULT_URL} or https://jobs.example."
        )
    if parts.username or parts.password:
        raise ConfigurationError(
            "The URL holds a password.", "Leave it out: the API takes keys, see docker-job login."
        )
    return url


def check_confidential(url: str) -> None:
    """Raise `ConfigurationError` if a key would travel in clear to another machine."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ConfigurationError(
            f"The API key would travel in clear to {url}.",
            "Use https, or allow it on a network that you trust: --insecure, or "
            "DOCKER_JOB_INSECURE=yes.",
        )


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine's loopback interface."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
