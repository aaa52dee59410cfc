"""A file that is written whole or not at all."""

import os
from pathlib import Path

import pytest

from shared.files import write_whole


def test_a_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_its_mode_does_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "secret", b"", mode=0o444)
    finally:
        os.umask(before)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o444


def test_it_replaces_a_file_that_may_not_be_written_and_a_draft_that_a_crash_left(
    tmp_path: Path,
) -> None:
    path = tmp_path / "secret"
    write_whole(path, b"one", mode=0o444)
    draft = tmp_path / "secret.new"
    draft.write_bytes(b"half")
    draft.chmod(0o444)
    write_whole(path, b"two", mode=0o444)
    assert path.read_bytes() == b"two"
    assert not draft.exists()


def test_a_link_in_the_place_of_the_draft_leads_nowhere(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"untouched")
    (tmp_path / "secret.new").symlink_to(other)
    write_whole(tmp_path / "secret", b"one")
    assert other.read_bytes() == b"untouched"
    assert not (tmp_path / "secret").is_symlink()


def test_a_write_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"one")
    (tmp_path / "secret.new").mkdir()
    with pytest.raises(OSError, match=r"secret\.new"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
