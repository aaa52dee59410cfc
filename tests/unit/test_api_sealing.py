"""Secrets at rest."""

import pytest

from services.api.secrets.sealing import CannotOpen, Sealed, SecretKeys, open_secrets, read_keys

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
VALUES = {"TOKEN": "canary", "EMPTY": ""}


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    keys = SecretKeys([NEW], "ours")
    sealed = keys.seal(7, VALUES)
    assert keys.open(7, sealed) == VALUES
    assert b"canary" not in sealed.content
    assert b"TOKEN" not in sealed.content
    assert keys.seal(7, VALUES).content != sealed.content


def test_keys_are_rotated_by_putting_a_new_one_in_front() -> None:
    before = SecretKeys([OLD], "ours").seal(7, VALUES)
    both = SecretKeys([NEW, OLD], "ours")
    assert both.open(7, before) == VALUES
    after = both.seal(7, VALUES)
    assert after.key_id != before.key_id
    new = SecretKeys([NEW], "ours")
    assert new.open(7, after) == VALUES
    with pytest.raises(CannotOpen, match=f"sealed with key {before.key_id}"):
        new.open(7, before)


def test_a_row_opens_for_its_own_job_and_deployment_alone() -> None:
    sealed = SecretKeys([NEW], "ours").seal(7, VALUES)
    flipped = bytes([sealed.content[0] ^ 1]) + sealed.content[1:]
    for keys, job_id, row in (
        (SecretKeys([NEW], "ours"), 8, sealed),
        (SecretKeys([NEW], "theirs"), 7, sealed),
        (SecretKeys([NEW], "ours"), 7, Sealed(sealed.key_id, flipped)),
        (SecretKeys([NEW], "ours"), 7, Sealed(sealed.key_id, b"")),
    ):
        with pytest.raises(CannotOpen, match="altered"):
            keys.open(job_id, row)


def test_without_a_key_nothing_opens() -> None:
    with pytest.raises(CannotOpen, match="there is no key"):
        open_secrets(None, 7, Sealed("x", b""))


def test_keys_are_read_from_one_line_or_many() -> None:
    text = f"{NEW.hex()}\n{OLD.hex()}\n"
    assert read_keys(text) == [NEW, OLD]
    assert read_keys(f"{NEW.hex()}, {OLD.hex()}") == [NEW, OLD]
    assert read_keys(NEW.hex() + "0") is None
    assert read_keys("password") is None
    assert read_keys("") is None
