"""Encrypted backups: the format of `age`, its keys, and every way in which a file may be damaged.

`GOLDEN` was made by age 1.1.1: `echo a backup | age -r age1… | base64`.
"""

import base64
import errno
import io
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from operations import age
from operations.age import HEADER_BYTES, MAGIC, AgeError, Keys, decrypt, encrypt

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 64 << 10
TAG_BYTES = 16

KEY = """\
# created: 2026-12-01T15:44:04Z
# public key: age12jsjz2vg4kcfk03clmgw2cs64j5kh3zcrcwx43t30z5vhd7s99askvfz6z
AGE-SECRET-KEY-142HY9F3PTDT842JCZFAZ5HVQ2XZW0WJ6DJURPPY7ER5EZESPPA9QLLJM7X"""
PUBLIC = KEY.splitlines()[1].split()[-1]
GOLDEN = (
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBmVlZJV0MyYkF1Z0NDa2ZjQkVzWG45dUxkQTk4",
    "VjdCNWNMYUkvamJ2aEQ0CkNBOFdMVHNMSTYzZ2xaTkdjVGdxSXN2TDJpSnV4VlVnaTE4alEzZTJ2VWsK",
    "LS0tIDhtby85cTJzdFRiUWVjcWxnY3Z0amhjYytEUXU2eDFlQzVJRmMvb3NYRHcK8bIhtT6cMCh3TF1X",
    "oYxCr5Bo10hH2CrYyUwbldhRpYugNgl6s6mST/I=",
)
OTHER = """\
# created: 2026-12-01T15:49:22Z
# public key: age1rd8feg4mltdgjeqvrmqdmwhzvyhd4qrc5lquklw8kkxj9c9vqg3qj5vu67
AGE-SECRET-KEY-15JQJDUQPSV8LKRY3PXY0EZTNQZCN6SL7DSVCMSA9A59L7ELZQZ2SY8RXQV"""
SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 200_000)


def encrypted(content: bytes, key: str = PUBLIC) -> bytes:
    target = io.BytesIO()
    encrypt(Keys(key), io.BytesIO(content), target)
    return target.getvalue()


def decrypted(content: bytes, key: str = KEY) -> bytes:
    target = io.BytesIO()
    decrypt(Keys(key), io.BytesIO(content), target)
    return target.getvalue()


def test_a_file_of_age_itself_is_decrypted() -> None:
    assert decrypted(base64.b64decode("".join(GOLDEN))) == b"a backup\n"


@pytest.mark.parametrize("size", SIZES)
def test_what_is_encrypted_is_decrypted(size: int) -> None:
    content = random.Random(size).randbytes(size)
    assert decrypted(encrypted(content)) == content


@pytest.mark.parametrize("size", SIZES)
def test_age_decrypts_it(size: int, tmp_path: Path) -> None:
    program = shutil.which("age")
    if program is None:
        pytest.skip("needs age (apt-get install age)")
    (tmp_path / "key").write_text(KEY)
    content = random.Random(size).randbytes(size)
    done = subprocess.run(
        [program, "--decrypt", "-i", tmp_path / "key"],
        input=encrypted(content),
        capture_output=True,
        check=True,
    )
    assert done.stdout == content


def test_another_key_and_a_public_one_open_nothing() -> None:
    content = encrypted(b"secret")
    with pytest.raises(AgeError, match="another key"):
        decrypted(content, OTHER)
    with pytest.raises(AgeError, match="public"):
        decrypted(content, PUBLIC)
    assert decrypted(encrypted(b"secret", f"{PUBLIC}\n{OTHER}"), OTHER) == b"secret"


def test_no_altered_bit_and_no_cut_is_accepted() -> None:
    good = encrypted(random.Random(1).randbytes(CHUNK_BYTES + 300))
    dice, damaged = random.Random(7), []
    for _ in range(200):
        at = dice.choice((dice.randrange(200), dice.randrange(len(good))))
        damaged.append(good[:at] + bytes([good[at] ^ 1 << dice.randrange(8)]) + good[at + 1 :])
    damaged += [good[: dice.randrange(len(good))] for _ in range(100)]
    damaged += [good.replace(b"\n--- ", b"\n--- ="), good.replace(b"v1\n", b"v2\n")]
    mac = good.index(b"\n--- ") + 5 + 42  # the last character has two spare bits
    damaged += [good[:mac] + bytes([each]) + good[mac + 1 :] for each in b"AEIMQUYcgkosw048BC"]
    damaged = [each for each in damaged if each != good]
    start = len(good) - 300 - TAG_BYTES  # where the last chunk begins
    damaged += [
        good[:start],
        good + b"x",
        good + good[start:],
        b"",
        good[:start] + good[start:][:9],
    ]
    refused = 0
    for each in damaged:
        with pytest.raises(AgeError):
            decrypted(each)
        refused += 1
    print(f"{refused} of {len(damaged)} damaged files refused")


def test_a_header_without_an_end_is_refused_at_once() -> None:
    stanza = b"-> X25519 " + b"A" * 43 + b"\n" + b"A" * 43 + b"\n"
    for endless in (MAGIC + stanza * 20_000, MAGIC + b"A" * 2_000_000):
        source = io.BytesIO(endless)
        with pytest.raises(AgeError, match="header is not complete"):
            decrypt(Keys(KEY), source, io.BytesIO())
        assert source.tell() <= HEADER_BYTES


class Full(io.BytesIO):
    """A file on a disk that is full after *room* bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, part: "ReadableBuffer", /) -> int:
        if self.tell() + len(memoryview(part)) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(part)


def test_a_full_disk_is_never_a_complete_file() -> None:
    reported = 0
    rooms = [(size, room) for size in (10, 5_000, 200_000) for room in (0, 9, 4_999, size - 1)]
    rooms = [(size, room) for size, room in rooms if room < size]
    for size, room in rooms:
        for work, content in (
            (encrypt, bytes(size)),
            (decrypt, encrypted(bytes(size))),
        ):
            with pytest.raises(OSError, match="No space left") as raised:
                work(Keys(KEY), io.BytesIO(content), Full(room))
            assert raised.value.errno == errno.ENOSPC
            reported += 1
    print(f"{reported} of {2 * len(rooms)} full disks reported")


def test_an_interrupt_and_an_unreadable_source_end_it() -> None:
    class Source(io.BytesIO):
        error: BaseException = KeyboardInterrupt()

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= HEADER_BYTES:
                raise self.error
            return super().read(size)

    for error in (KeyboardInterrupt(), OSError(errno.EIO, "input/output error")):
        for work, content in ((encrypt, bytes(200_000)), (decrypt, encrypted(bytes(200_000)))):
            source = Source(content)
            source.error = error
            with pytest.raises(type(error)) as raised:
                work(Keys(KEY), source, io.BytesIO())
            assert raised.value is error


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/status")
def test_the_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(256 << 20)  # sparse
    (tmp_path / "key").write_text(KEY)
    program = """
import re, sys
from operations import age
keys = age.Keys(open(sys.argv[1]).read())
with open(sys.argv[2], "rb") as source, open(sys.argv[2] + ".age", "wb") as target:
    age.encrypt(keys, source, target)
with open(sys.argv[2] + ".age", "rb") as source, open("/dev/null", "wb") as target:
    age.decrypt(keys, source, target)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) >> 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "key", big],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"{done.stdout.strip()} MiB for a file of 256 MiB")
    assert int(done.stdout) < 100


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no key in it"),
        ("# a comment\n", "there is no key in it"),
        ("correct horse battery staple", "line 1 is not a key"),
        (PUBLIC[:-1] + ("q" if PUBLIC[-1] != "q" else "p"), "line 1 is not a key"),
        (f"{KEY}\n{KEY.splitlines()[2].lower()[:-1]}", "line 4 is not a key"),
        ("0f" * 32, "line 1 is not a key"),
        ("age1\udcff", "line 1 is not a key"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str, why: str) -> None:
    with pytest.raises(AgeError, match=why) as refused:
        Keys(text)
    assert "AGE-SECRET-KEY-1Q" not in str(refused.value)
    assert not text or text.splitlines()[-1] not in str(refused.value)


def test_the_program_gets_the_key_on_its_input_and_not_on_its_command_line(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: str, content: bytes, key: str = KEY) -> int:
        given = base64.b64encode(key.encode()) + b"\n" + content
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        return age.main([command])

    content = os.urandom(100_000)
    assert run("encrypt", content) == 0
    sealed = capfdbinary.readouterr().out
    assert run("decrypt", sealed) == 0
    assert capfdbinary.readouterr().out == content
    assert run("decrypt", sealed, OTHER) == 1
    assert b"it is encrypted with another key" in capfdbinary.readouterr().err
    assert run("rot13", b"") == 64
