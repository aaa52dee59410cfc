"""A key is kept in the system's keyring where there is one, else in the configuration file."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from docker_job import ConfigurationError
from docker_job.config import KEYRING_SERVICE, Config, Context, config_path, save
from docker_job.keyring_store import delete_key, load_key, store_key
from docker_job.target import find_target

URL = "https://jobs.example"


class Backend:
    """A keyring in memory; `locked` gives nothing."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Put a package `keyring` in place, as far as it is used."""
    backend = Backend()

    def get(service: str, name: str) -> str | None:
        if backend.locked:
            raise RuntimeError("it is locked")
        return backend.kept.get((service, name))

    def put(service: str, name: str, key: str) -> None:
        if backend.locked:
            raise RuntimeError("it is locked")
        backend.kept[service, name] = key

    nothing = type("Keyring", (), {})
    parts: dict[str, dict[str, Any]] = {
        "keyring": {
            "get_keyring": lambda: backend,
            "get_password": get,
            "set_password": put,
            "delete_password": lambda service, name: backend.kept.pop((service, name)),
        },
        "keyring.backends": {},
        "keyring.backends.fail": {"Keyring": nothing},
        "keyring.backends.null": {"Keyring": nothing},
    }
    for name, attributes in parts.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    return backend


def test_a_key_in_the_keyring_is_found_by_its_context(backend: Backend, tmp_path: Path) -> None:
    environ = {"DOCKER_JOB_CONFIG": str(tmp_path / "config.json")}
    assert store_key("prod", "djk_1")
    assert backend.kept == {(KEYRING_SERVICE, "prod"): "djk_1"}
    save(config_path(environ), Config({"prod": Context(URL, key_in_keyring=True)}, "prod"))
    target = find_target(environ=environ)
    assert (target.key, target.key_from) == ("djk_1", "the keyring")
    delete_key("prod")
    delete_key("prod")  # it is not there any more
    with pytest.raises(ConfigurationError, match="no key of context 'prod'"):
        find_target(environ=environ)
    assert find_target(environ={**environ, "DOCKER_JOB_KEY": "djk_2"}).key == "djk_2"


def test_a_locked_keyring_takes_nothing_and_says_what_to_do(backend: Backend) -> None:
    backend.locked = True
    assert not store_key("prod", "djk_1")
    with pytest.raises(ConfigurationError, match="it is locked") as caught:
        load_key("prod")
    assert "DOCKER_JOB_KEY" in caught.value.hint


def test_without_the_package_the_file_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert not store_key("prod", "djk_1")
    delete_key("prod")
