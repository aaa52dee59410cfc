"""Files encrypted in the format age-encryption.org/v1, which the program `age` reads and writes.

    age-keygen -o backup.key                          a key; its second line is the public one
    age --decrypt -i backup.key today.backup          without docker-job

Of the format (https://github.com/C2SP/C2SP/blob/main/age.md) this has what backups need: X25519
keys, and the payload in chunks of 64 KiB, each authenticated with its number, the last one marked.
So a file that was altered, cut off or extended is noticed. The primitives are `cryptography`'s.

    python -m operations.age encrypt|decrypt          for deploy/backup.sh

reads a line with the keys in base64, then the content, and writes the result to standard output.
"""

import base64
import binascii
import hashlib
import hmac
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from operations.bech32 import NotBech32, bech32_decoded
from shared.terminal import print_line

MAGIC = b"age-encryption.org/v1\n"
CHUNK_BYTES = 64 << 10
TAG_BYTES = 16
FILE_KEY_BYTES = 16
NONCE_BYTES = 16
HEADER_BYTES = 64 << 10
"""A longer header is none."""

_NO_NONCE = bytes(12)  # of keys that encrypt once


class AgeError(Exception):
    """A key or a file cannot be used. The message is a part of a sentence, for the operator."""


class Keys:
    """The keys of a text: lines of `age-keygen`, private or public; comments begin with `#`.

    A public key encrypts alone. Raises `AgeError`, which does not contain a key.
    """

    def __init__(self, text: str) -> None:
        self.identities: list[X25519PrivateKey] = []
        self.recipients: list[bytes] = []
        for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
            if line and not line.startswith("#"):
                self._add(number, line)
        if not self.recipients:
            raise AgeError("there is no key in it: make one with `age-keygen`")

    def _add(self, number: int, line: str) -> None:
        try:
            kind, raw = bech32_decoded(line)
        except NotBech32:
            kind, raw = "", b""
        if len(raw) != 32 or kind not in ("age", "age-secret-key-"):
            raise AgeError(
                f"line {number} is not a key of `age-keygen`, AGE-SECRET-KEY-1… or age1…"
            )
        if kind == "age-secret-key-":
            identity = X25519PrivateKey.from_private_bytes(raw)
            self.identities.append(identity)
            raw = identity.public_key().public_bytes_raw()
        self.recipients.append(raw)


def is_encrypted(head: bytes) -> bool:
    """Return whether a file that begins with *head* is in this format."""
    return head.startswith(MAGIC)


def encrypt(keys: Keys, source: IO[bytes], target: IO[bytes]) -> None:
    """Encrypt *source* to each of the *keys*."""
    file_key = os.urandom(FILE_KEY_BYTES)
    header = MAGIC + b"".join(_stanza(each, file_key) for each in keys.recipients) + b"---"
    target.write(header + b" " + _base64(_mac(file_key, header)) + b"\n")
    nonce = os.urandom(NONCE_BYTES)
    target.write(nonce)
    cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    for number, chunk in _chunks(source, CHUNK_BYTES):
        target.write(cipher.encrypt(number, chunk, None))


def decrypt(keys: Keys, source: IO[bytes], target: IO[bytes]) -> None:
    """Decrypt *source* to *target*, which is complete if this returns. Raises `AgeError`."""
    file_key = _file_key(keys, source)
    nonce = source.read(NONCE_BYTES)
    cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
    for number, chunk in _chunks(source, CHUNK_BYTES + TAG_BYTES):
        try:
            target.write(cipher.decrypt(number, chunk, None))
        except InvalidTag:
            raise AgeError("it was altered, or is not complete") from None


def _stanza(recipient: bytes, file_key: bytes) -> bytes:
    """Wrap the file's key for one recipient."""
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    wrapped = ChaCha20Poly1305(_wrap_key(shared, share, recipient)).encrypt(
        _NO_NONCE, file_key, None
    )
    return b"-> X25519 " + _base64(share) + b"\n" + _base64(wrapped) + b"\n"


def _file_key(keys: Keys, source: IO[bytes]) -> bytes:
    """Read the header; return the file's key."""
    lines = list(_header(source))
    for first, second in pairwise(lines):
        if not first.startswith(b"-> X25519 "):
            continue
        share, wrapped = _raw(first.removeprefix(b"-> X25519 ")), _raw(second)
        for identity in keys.identities if len(share) == 32 else ():
            file_key = _unwrapped(identity, share, wrapped)
            if file_key is not None:
                _verify_header(file_key, lines)
                return file_key
    raise AgeError(
        "it is encrypted with another key" if keys.identities
        else "the key is a public one, which encrypts alone: give the private one"
    )  # fmt: skip


def _header(source: IO[bytes]) -> Iterator[bytes]:
    """Read the header's lines, from the version to the authentication code."""
    size = 0
    while size < HEADER_BYTES:
        line = source.readline(HEADER_BYTES)
        if not line.endswith(b"\n"):
            break
        size += len(line)
        yield line[:-1]
        if line.startswith(b"---"):
            return
    raise AgeError("its header is not complete")


def _unwrapped(identity: X25519PrivateKey, share: bytes, wrapped: bytes) -> bytes | None:
    recipient = identity.public_key().public_bytes_raw()
    try:
        shared = identity.exchange(X25519PublicKey.from_public_bytes(share))
        return ChaCha20Poly1305(_wrap_key(shared, share, recipient)).decrypt(
            _NO_NONCE, wrapped, None
        )
    except (InvalidTag, ValueError):
        return None


def _verify_header(file_key: bytes, lines: list[bytes]) -> None:
    header = b"\n".join([*lines[:-1], b"---"])
    given = _raw(lines[-1].removeprefix(b"--- "))
    if lines[0] + b"\n" != MAGIC or not hmac.compare_digest(given, _mac(file_key, header)):
        raise AgeError("its header was altered")


def _wrap_key(shared: bytes, share: bytes, recipient: bytes) -> bytes:
    return _derived(shared, share + recipient, b"age-encryption.org/v1/X25519")


def _mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, hashlib.sha256)


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=salt, info=info).derive(secret)


def _chunks(source: IO[bytes], size: int) -> Iterator[tuple[bytes, bytes]]:
    """Read chunks, each with its nonce: 11 bytes with its number, and whether it is the last."""
    number, chunk = 0, source.read(size)
    while True:
        following = source.read(size) if len(chunk) == size else b""
        yield number.to_bytes(11, "big") + (b"\0" if following else b"\1"), chunk
        if not following:
            return
        number, chunk = number + 1, following


def _base64(raw: bytes) -> bytes:
    return base64.b64encode(raw).rstrip(b"=")


def _raw(text: bytes) -> bytes:
    """Decode base64 without padding; return b"" where it is not canonical."""
    try:
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""
    return raw if _base64(raw) == text else b""


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    work = {"encrypt": encrypt, "decrypt": decrypt}.get(arguments[0] if arguments else "")
    if work is None:
        print_line("usage: python -m operations.age encrypt|decrypt", error=True)
        return 64
    try:
        keys = Keys(_raw(sys.stdin.buffer.readline().strip().rstrip(b"=")).decode())
        work(keys, sys.stdin.buffer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except (AgeError, UnicodeDecodeError) as error:
        print_line(f"docker-job age: {error}", error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
