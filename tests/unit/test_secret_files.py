"""The secrets that a set-up makes for itself, and keeps."""

import json
import os
from pathlib import Path

import pytest

from embedded.secrets import FILE, local_secrets
from operations.make_secrets import make_secrets
from operations.service_secrets import OWNER, make_secrets_key
from services.api.secrets.sealing import read_keys
from shared.settings import Settings

ONE, TWO = "0f" * 32, "e1" * 32


def kept(directory: Path) -> str:
    return (directory / "api" / "secrets_key").read_text()


def test_the_key_for_secrets_is_made_once_and_kept(tmp_path: Path) -> None:
    make_secrets_key(Settings({}), tmp_path)
    made = kept(tmp_path)
    assert read_keys(made) is not None
    make_secrets_key(Settings({"DOCKER_JOB_SECRETS_KEY": ""}), tmp_path)
    assert kept(tmp_path) == made


def test_a_key_that_is_given_wins(tmp_path: Path) -> None:
    make_secrets_key(Settings({"DOCKER_JOB_SECRETS_KEY": ONE}), tmp_path)
    make_secrets_key(Settings({"DOCKER_JOB_SECRETS_KEY": f"{TWO} {ONE}"}), tmp_path)
    assert read_keys(kept(tmp_path)) == [bytes.fromhex(TWO), bytes.fromhex(ONE)]


def test_without_a_directory_nothing_is_written(tmp_path: Path) -> None:
    make_secrets_key(Settings({}), None)
    assert list(tmp_path.iterdir()) == []


SERVICES = ("api", "launcher", "postgres", "rabbitmq", "reaper", "scheduler")
BY_GROUP = ("launcher", "postgres", "rabbitmq", "reaper")


def others(directory: Path) -> dict[str, str]:
    """Return the paths that are not for their reader alone, with their modes."""
    found = {}
    paths = [each for each in directory.rglob("*") if each != directory]
    for path in paths:
        by_group = path.relative_to(directory).parts[0] in BY_GROUP
        wanted = (0o750 if by_group else 0o700) if path.is_dir() else 0o440 if by_group else 0o400
        state = path.stat()
        mode = state.st_mode & 0o777
        owner = OWNER if os.geteuid() == 0 else os.geteuid()
        if mode != wanted or state.st_uid != owner:
            found[str(path.relative_to(directory))] = f"{mode:o} of {state.st_uid}"
    print(f"{len(found)} of {len(paths)} files and directories are not for their reader alone")
    return found


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_each_secret_is_for_its_reader_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        make_secrets(Settings({"DOCKER_JOB_SECRETS_DIR": str(tmp_path)}))
    finally:
        os.umask(before)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(SERVICES)
    assert others(tmp_path) == {}


def test_secrets_that_a_release_before_left_open_are_closed_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings({"DOCKER_JOB_SECRETS_DIR": str(tmp_path)})
    make_secrets(settings)
    kept_before = kept(tmp_path)
    for each in tmp_path.rglob("*"):
        each.chmod(0o755 if each.is_dir() else 0o444)
    make_secrets(settings)
    assert others(tmp_path) == {}
    assert kept(tmp_path) == kept_before
    printed = capsys.readouterr().out
    assert "closed to other users: api/bus_password, api/database_password" in printed
    assert kept_before not in printed
    make_secrets(settings)
    assert "closed" not in capsys.readouterr().out


def test_the_local_secrets_are_made_once(tmp_path: Path) -> None:
    made = local_secrets(tmp_path, ("api",))
    assert read_keys(made.secrets_key) is not None
    assert local_secrets(tmp_path, ("api",)) == made


def test_local_secrets_of_a_version_without_the_key_get_one_and_keep_the_rest(
    tmp_path: Path,
) -> None:
    made = local_secrets(tmp_path, ("api",))
    path = tmp_path / FILE
    old = json.loads(path.read_text())
    del old["secrets_key"]
    path.write_text(json.dumps(old))
    now = local_secrets(tmp_path, ("api",))
    assert (now.deployment, now.passwords) == (made.deployment, made.passwords)
    assert read_keys(now.secrets_key) is not None
    assert local_secrets(tmp_path, ("api",)) == now
    assert path.stat().st_mode & 0o777 == 0o600
