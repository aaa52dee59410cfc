"""Backups with a key: encrypted, refused with another one or altered, restored with their own.

Under compose: `tests/e2e/test_compose.py`. The format: `tests/unit/test_age.py`.
"""

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.backup_file import CONTENTS
from tests.support.run.commands import one_line, run
from tests.support.systems.embedded_system import EmbeddedSystem
from tests.unit.test_age import KEY, OTHER, PUBLIC

BACKUP = "embedded.backup"
PLAIN = "a-value-in-clear"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Write a key, another one, and a public one to files; return their paths."""
    texts = {"own": KEY, "other": OTHER, "public": PUBLIC, "none": "correct horse"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: str(tmp_path / name) for name in texts}


@pytest.fixture
def system() -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(RUNTIME="simulated")
    yield system
    system.close()


def backup(
    system: EmbeddedSystem, command: str, file: Path, key: str | None
) -> "subprocess.CompletedProcess[str]":
    settings = {"DATA_DIR": str(system.data_dir / "data")}
    if key is not None:
        settings["BACKUP_KEY_FILE"] = key
    return run(BACKUP, command, str(file), **settings)


def test_a_backup_names_what_it_contains_when_it_is_saved_and_in_itself(
    system: EmbeddedSystem, tmp_path: Path
) -> None:
    system.start()
    file = tmp_path / "saved"
    done = backup(system, "save", file, None)
    assert done.stdout == f"saved to {file}\n"
    assert done.stderr == CONTENTS
    assert CONTENTS.encode() in file.read_bytes()[-600:]
    sealing_key = (system.data_dir / "data" / "secrets.json").read_text().split('secrets_key":"')[1]
    assert sealing_key[:64].encode() not in file.read_bytes()


def test_a_backup_with_a_key_is_readable_with_it_alone(
    system: EmbeddedSystem, keys: dict[str, str], tmp_path: Path
) -> None:
    system.start()
    system.schedule("+3d", env_vars={"A": PLAIN})
    file = tmp_path / "saved"
    done = backup(system, "save", file, keys["public"])
    assert done.stdout == f"saved, encrypted, to {file}\n", done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    sealed = file.read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert b"PGDMP" not in sealed
    assert [each.name for each in tmp_path.iterdir() if "part" in each.name] == []
    assert system.interrupt() == 0
    database = {each: each.stat().st_mtime_ns for each in (system.data_dir / "data").iterdir()}

    altered = tmp_path / "altered"
    altered.write_bytes(sealed[:-20_000] + bytes([sealed[-20_000] ^ 1]) + sealed[-19_999:])
    cut = tmp_path / "cut"
    cut.write_bytes(sealed[:-20_000])
    refusals = (
        (file, None, "is encrypted: set DOCKER_JOB_BACKUP_KEY_FILE"),
        (file, keys["other"], "cannot be decrypted: it is encrypted with another key"),
        (file, keys["public"], "the key is a public one"),
        (file, keys["none"], "DOCKER_JOB_BACKUP_KEY cannot be used: line 1 is not a key"),
        (altered, keys["own"], "cannot be decrypted: it was altered, or is not complete"),
        (cut, keys["own"], "cannot be decrypted: it was altered, or is not complete"),
    )
    for number, (each, key, why) in enumerate(refusals, start=1):
        assert why in one_line(backup(system, "restore", each, key))
        now = {each: each.stat().st_mtime_ns for each in (system.data_dir / "data").iterdir()}
        assert now == database, "nothing was touched"
        print(f"{number} of {len(refusals)} refused", end="\r")
    done = backup(system, "restore", file, keys["own"])
    assert done.stdout.startswith("restored; "), done.stderr
    system.start()
    [job] = system.http.get("/list").json()
    assert job["env_vars"] == {"A": PLAIN}


def test_no_decrypted_file_is_left(
    system: EmbeddedSystem, keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.start()
    assert backup(system, "save", tmp_path / "saved", keys["own"]).returncode == 0
    assert system.interrupt() == 0
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for key, status in (("other", 1), ("own", 0)):
        assert backup(system, "restore", tmp_path / "saved", keys[key]).returncode == status
        assert list((tmp_path / "temporary").iterdir()) == []
