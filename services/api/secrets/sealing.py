"""Secrets at rest: AES-256-GCM, each row under a key that it names, with key rotation.

    DOCKER_JOB_SECRETS_KEY=<new> <old> …      64 hexadecimal digits each

The first key seals; all of them open. A key's id is a hash of it. To rotate: put a new key in
front, restart, and remove the old one once no row names it. The deployment and the job are
authenticated too: a sealed value that is moved to another job's row cannot be opened.
"""

import hashlib
import os
import re

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

NONCE_BYTES = 12
_KEY = re.compile(r"[0-9a-fA-F]{64}")


class CannotOpen(Exception):
    """The key is missing, or the row was altered. The message contains only the key's id."""


class Sealed(Struct, frozen=True):
    """The stored form: the key's id, and nonce, ciphertext and tag in one."""

    key_id: str
    content: bytes


class SecretKeys:
    """The keys of one deployment."""

    def __init__(self, keys: list[bytes], deployment: str) -> None:
        self._keys = {key_id(key): AESGCM(key) for key in keys}
        self._current = key_id(keys[0])
        self._deployment = deployment

    def seal(self, job_id: int, values: dict[str, str]) -> Sealed:
        """Seal the *values* of a job under the current key."""
        nonce = os.urandom(NONCE_BYTES)
        plain = msgspec.json.encode(values)
        content = self._keys[self._current].encrypt(nonce, plain, self._bound_to(job_id))
        return Sealed(self._current, nonce + content)

    def open(self, job_id: int, sealed: Sealed) -> dict[str, str]:
        """Open the values of a job. Raises `CannotOpen`."""
        key = self._keys.get(sealed.key_id)
        if key is None:
            raise CannotOpen(f"the secrets of job {job_id} are sealed with key {sealed.key_id}")
        nonce, content = sealed.content[:NONCE_BYTES], sealed.content[NONCE_BYTES:]
        try:
            plain = key.decrypt(nonce, content, self._bound_to(job_id))
        except (InvalidTag, ValueError):
            raise CannotOpen(f"the secrets of job {job_id} were altered") from None
        return msgspec.json.decode(plain, type=dict[str, str])

    def _bound_to(self, job_id: int) -> bytes:
        return f"secret_env/{self._deployment}/{job_id}".encode()


def open_secrets(keys: SecretKeys | None, job_id: int, sealed: Sealed) -> dict[str, str]:
    """Open the values of a job; *keys* is None in a deployment without. Raises `CannotOpen`."""
    if keys is None:
        raise CannotOpen(f"the secrets of job {job_id} are sealed, and there is no key")
    return keys.open(job_id, sealed)


def key_id(key: bytes) -> str:
    """Name a key by its hash, which reveals nothing of the key."""
    return hashlib.sha256(b"docker-job key id" + key).hexdigest()[:12]


def read_keys(text: str) -> list[bytes] | None:
    """Read the keys of a setting, the current one first; None if one is not 64 hex digits."""
    keys = re.split(r"[\s,]+", text.strip())
    if not all(_KEY.fullmatch(key) for key in keys):
        return None
    return [bytes.fromhex(key) for key in keys]
