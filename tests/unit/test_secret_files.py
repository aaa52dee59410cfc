"""The secrets that a set-up makes for itself, and keeps."""

import json
from pathlib import Path

from embedded.secrets import FILE, local_secrets
from operations.service_secrets import make_secrets_key
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
