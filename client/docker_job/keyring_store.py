"""Keys in the system's keyring, where the package `keyring` and a backend of it exist."""

from contextlib import suppress
from importlib import import_module
from typing import Any

from docker_job.config import KEYRING_SERVICE
from docker_job.errors import ConfigurationError


def _keyring() -> Any:
    """Return the module, None if there is none or it has no backend that keeps anything."""
    try:
        keyring = import_module("keyring")
        fail = import_module("keyring.backends.fail")
        null = import_module("keyring.backends.null")
    except ImportError:
        return None
    return None if isinstance(keyring.get_keyring(), (fail.Keyring, null.Keyring)) else keyring


def store_key(context: str, key: str) -> bool:
    """Store the key of a context; return False if there is no keyring that takes it."""
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(KEYRING_SERVICE, context, key)
    except Exception:  # noqa: BLE001 - a backend may raise anything: the file is the other place
        return False
    return True


def load_key(context: str) -> str:
    """Return the key of a context. Raises `ConfigurationError` if the keyring does not give it."""
    keyring = _keyring()
    try:
        key = keyring.get_password(KEYRING_SERVICE, context) if keyring else None
    except Exception as error:
        raise ConfigurationError(
            f"The keyring does not give the key of context {context!r}: {error}.",
            "Unlock it, or give the key in DOCKER_JOB_KEY.",
        ) from error
    if not key:
        raise ConfigurationError(
            f"The keyring has no key of context {context!r}.",
            'Store it again with "docker-job login URL", or give it in DOCKER_JOB_KEY.',
        )
    return str(key)


def delete_key(context: str) -> None:
    """Delete the key of a context, if it is there."""
    keyring = _keyring()
    if keyring is not None:
        with suppress(Exception):  # a backend may raise anything where there is no such key
            keyring.delete_password(KEYRING_SERVICE, context)
