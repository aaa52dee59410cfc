"""Which API a client talks to, with which key; and the file in which both are kept."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from docker_job import ConfigurationError
from docker_job.config import Config, Context, config_path, exposure, load, save
from docker_job.target import DEFAULT_URL, Target, check_key, check_url, find_target, is_loopback

KEY = "djk_0123456789"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"DOCKER_JOB_CONFIG": str(tmp_path / "sub" / "config.json")}


def keep(environ: Mapping[str, str], current: str | None = None, **contexts: Context) -> None:
    save(config_path(environ), Config(contexts, current))


def found(environ: Mapping[str, str], **given: Any) -> Target:
    return find_target(given.pop("url", None), given.pop("key", None), **given, environ=environ)


def test_without_anything_it_is_this_machine_without_a_key(environ: dict[str, str]) -> None:
    target = found(environ)
    assert (target.url, target.key, target.context) == (DEFAULT_URL, None, None)


def test_the_context_in_use_gives_url_and_key(environ: dict[str, str]) -> None:
    keep(environ, "prod", prod=Context("https://jobs.example", KEY))
    target = found(environ)
    assert (target.url, target.key, target.context) == ("https://jobs.example", KEY, "prod")


def test_the_environment_wins_over_the_file_and_an_argument_over_both(
    environ: dict[str, str],
) -> None:
    keep(environ, "prod", prod=Context("https://jobs.example", KEY))
    environ |= {"DOCKER_JOB_URL": "https://other.example", "DOCKER_JOB_KEY": "djk_environ"}
    assert (found(environ).url, found(environ).key) == ("https://other.example", "djk_environ")
    target = found(environ, url="https://third.example", key="djk_given")
    assert (target.url, target.key) == ("https://third.example", "djk_given")


def test_a_context_that_is_asked_for_wins_over_the_environment(environ: dict[str, str]) -> None:
    keep(environ, None, prod=Context("https://jobs.example", KEY))
    environ |= {"DOCKER_JOB_URL": "https://other.example", "DOCKER_JOB_KEY": "djk_environ"}
    target = found(environ, context="prod")
    assert (target.url, target.key) == ("https://jobs.example", KEY)


def test_the_environment_chooses_a_context(environ: dict[str, str]) -> None:
    keep(environ, "a", a=Context("https://a.example"), b=Context("https://b.example", KEY))
    assert found(environ | {"DOCKER_JOB_CONTEXT": "b"}).key == KEY


def test_a_key_is_not_sent_to_another_url_than_the_one_it_was_stored_for(
    environ: dict[str, str],
) -> None:
    keep(environ, "prod", prod=Context("https://jobs.example", KEY))
    assert found(environ, url="https://evil.example").key is None
    assert found(environ | {"DOCKER_JOB_URL": "https://evil.example"}).key is None
    assert found(environ, url="https://jobs.example/").key == KEY


def test_a_key_may_be_in_a_file(environ: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert found(environ, key_file=str(file)).key == KEY
    assert found(environ | {"DOCKER_JOB_KEY_FILE": str(file)}).key == KEY
    with pytest.raises(ConfigurationError, match="Cannot read the key file"):
        found(environ, key_file=str(tmp_path / "none"))


@pytest.mark.parametrize("url", ["http://jobs.example", "http://10.0.0.7:8000"])
def test_a_key_does_not_travel_in_clear_to_another_machine(
    environ: dict[str, str], url: str
) -> None:
    with pytest.raises(ConfigurationError, match="in clear") as caught:
        found(environ, url=url, key=KEY)
    assert KEY not in f"{caught.value} {caught.value!r}"
    assert found(environ, url=url).key is None
    assert found(environ, url=url, key=KEY, insecure=True).key == KEY
    assert found(environ | {"DOCKER_JOB_INSECURE": "yes"}, url=url, key=KEY).key == KEY
    keep(environ, "trusted", trusted=Context(url, KEY, insecure=True))
    assert found(environ).key == KEY


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "api.localhost"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "127.0.0.1.example", ""])
def test_what_only_looks_like_loopback_is_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "url",
    [
        *("jobs.example", "ftp://jobs.example", "http://", "https://h:99999", "https://h/?a=1"),
        *("https://h/#f", "https://user:secret@h", "", "http://[::1"),
    ],
)
def test_what_is_no_url_of_an_api_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_url_may_have_a_path_and_loses_its_last_slash() -> None:
    assert check_url("https://h/jobs/") == "https://h/jobs"


@pytest.mark.parametrize("key", ["", "  ", "two words", "djk_\x1b", "djk_ä"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_key(key)
    assert key.strip() == "" or key not in str(caught.value)


def test_no_text_of_a_context_or_target_shows_the_key() -> None:
    assert KEY not in repr(Context("https://h", KEY))
    assert KEY not in repr(Target("https://h", KEY))


def test_the_file_comes_back_as_it_was_written(environ: dict[str, str]) -> None:
    config = Config(
        {
            "a": Context("https://a", KEY),
            "b": Context("http://b", key_in_keyring=True, insecure=True),
        },
        "b",
    )
    save(config_path(environ), config)
    assert load(config_path(environ)) == config


def test_a_file_that_others_can_read_is_closed_and_logged(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    path = config_path(environ)
    keep(environ, "a", a=Context("https://a", "djk_1_secret"))
    path.chmod(0o664)
    assert find_target(environ=environ).key == "djk_1_secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"{path}: others can read it (mode 0664)" in caplog.text
    assert "djk_1_secret" not in caplog.text
    caplog.clear()
    find_target(environ=environ)
    assert caplog.text == ""


def test_the_file_is_readable_by_its_owner_alone_and_replaced_whole(
    environ: dict[str, str],
) -> None:
    path = config_path(environ)
    keep(environ, None, a=Context("https://a"))
    path.chmod(0o644)
    assert "0644" in (exposure(path) or "")
    with path.open() as opened:
        keep(environ, None, b=Context("https://b"))
        assert "https://a" in opened.read()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert exposure(path) is None
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"contexts": {"a": {}}}', '{"contexts": 7}'])
def test_a_damaged_file_is_an_error_that_names_it(environ: dict[str, str], text: str) -> None:
    path = config_path(environ)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="is damaged") as caught:
        found(environ)
    assert str(path) in caught.value.what


def test_an_unknown_context_is_an_error_that_names_those_that_exist(
    environ: dict[str, str],
) -> None:
    keep(environ, None, a=Context("https://a"))
    with pytest.raises(ConfigurationError, match="no context 'x'") as caught:
        found(environ, context="x")
    assert "Contexts: a." in caught.value.hint


def test_the_file_is_where_xdg_says() -> None:
    assert config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/docker-job/config.json")
    assert config_path({}) == Path("~/.config/docker-job/config.json").expanduser()
