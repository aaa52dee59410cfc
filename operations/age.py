"""Files encrypted in the format age-encryption.org/v1, which the program `age` reads and writes.

    age-keygen -o backup.key                          a key; its second line is the public one
    age --decrypt -i backup.key today.backup          without docker-job

`pyrage`, the binding of `rage` (https://github.com/woodruffw/pyrage), implements the format
(https://github.com/C2SP/C2SP/blob/main/age.md): each 64 KiB are authenticated with their number and
whether they are the last, so a file that was altered, cut off or extended is noticed.

    python -m operations.age encrypt|decrypt          for deploy/backup.sh

reads a line with the keys in base64, then the content, and writes the result to standard output.
"""

import base64
import sys
from collections.abc import Callable, Sequence
from typing import IO

import pyrage  # type: ignore[import-untyped]

from shared.terminal import print_line

MAGIC = b"age-encryption.org/v1\n"
HEADER_BYTES = 64 << 10
"""A longer header is none: pyrage's time grows with the square of its length [tried: 62 s a MB]."""


class AgeError(Exception):
    """A key or a file cannot be used. The message is a part of a sentence, for the operator."""


class Keys:
    """The keys of a text: lines of `age-keygen`, private or public; comments begin with `#`.

    A public key encrypts alone. Raises `AgeError`, which does not contain a key.
    """

    def __init__(self, text: str) -> None:
        self.identities: list[pyrage.x25519.Identity] = []
        self.recipients: list[pyrage.x25519.Recipient] = []
        for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
            if line and not line.startswith("#"):
                self._add(number, line)
        if not self.recipients:
            raise AgeError("there is no key in it: make one with `age-keygen`")

    def _add(self, number: int, line: str) -> None:
        try:
            if line.lower().startswith("age-secret-key-1"):
                self.identities.append(pyrage.x25519.Identity.from_str(line))
                self.recipients.append(self.identities[-1].to_public())
            else:
                self.recipients.append(pyrage.x25519.Recipient.from_str(line))
        except (pyrage.IdentityError, pyrage.RecipientError, UnicodeEncodeError):
            raise AgeError(
                f"line {number} is not a key of `age-keygen`, AGE-SECRET-KEY-1… or age1…"
            ) from None


def is_encrypted(head: bytes) -> bool:
    """Return whether a file that begins with *head* is in this format."""
    return head.startswith(MAGIC)


def encrypt(keys: Keys, source: IO[bytes], target: IO[bytes]) -> None:
    """Encrypt *source* to each of the *keys*. Raises what *source* and *target* raise."""
    _Stream(source, target).run(pyrage.encrypt_io, keys.recipients)


def decrypt(keys: Keys, source: IO[bytes], target: IO[bytes]) -> None:
    """Decrypt *source* to *target*, which is complete if this returns.

    Raises `AgeError`, and what *source* and *target* raise.
    """
    if not keys.identities:
        raise AgeError("the key is a public one, which encrypts alone: give the private one")
    head = source.read(HEADER_BYTES)
    if not is_encrypted(head) or b"\n---" not in head:
        raise AgeError("its header is not complete")
    _Stream(source, target, head).run(pyrage.decrypt_io, keys.identities)


class _Stream:
    """The source and target of pyrage, some KiB at a time.

    It keeps the first exception: pyrage ignores that of the last bytes written (its src/lib.rs
    drops a buffer without a flush), and encloses others in its own errors.
    """

    def __init__(self, source: IO[bytes], target: IO[bytes], head: bytes = b"") -> None:
        self._source, self._target, self._head = source, target, head
        self._failure: BaseException | None = None

    def run(self, work: Callable[..., None], keys: Sequence[object]) -> None:
        """Run *work*, a function of pyrage, with the *keys*. Raises the first exception."""
        try:
            work(self, self, keys)
        except pyrage.DecryptError:
            self._keep(AgeError("it is encrypted with another key, or its header was altered"))
        except OSError:  # of no file: a chunk is not authentic
            self._keep(AgeError("it was altered, or is not complete"))
        except pyrage.EncryptError as error:
            self._keep(error)
        if self._failure is not None:
            raise self._failure

    def read(self, size: int) -> bytes:
        """Return at most *size* bytes of the source, first of its head; b"" at its end."""
        if self._head:
            part, self._head = self._head[:size], self._head[size:]
            return part
        try:
            return self._source.read(size)
        except BaseException as error:
            self._keep(error)
            raise

    def write(self, part: bytes) -> int:
        """Write *part* to the target; return the number of bytes."""
        try:
            return self._target.write(part)
        except BaseException as error:
            self._keep(error)
            raise

    def _keep(self, error: BaseException) -> None:
        self._failure = self._failure or error


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit status."""
    work = {"encrypt": encrypt, "decrypt": decrypt}.get(arguments[0] if arguments else "")
    if work is None:
        print_line("usage: python -m operations.age encrypt|decrypt", error=True)
        return 64
    try:
        keys = Keys(base64.b64decode(sys.stdin.buffer.readline()).decode())
        work(keys, sys.stdin.buffer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except (AgeError, ValueError) as error:
        print_line(f"docker-job age: {error}", error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
