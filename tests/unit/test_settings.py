"""Settings from the environment and from files."""

from pathlib import Path

import pytest

from shared.settings import BadSetting, Settings


def settings(**environ: str) -> Settings:
    return Settings({f"DOCKER_JOB_{name}": value for name, value in environ.items()})


def test_a_setting_that_is_not_there_is_its_default() -> None:
    empty = settings()
    assert empty.text("HOST", "127.0.0.1") == "127.0.0.1"
    assert empty.text("HOST") is None
    assert empty.integer("PORT", 8000) == 8000
    assert empty.choice("LOG_LEVEL", "info", ("info", "debug")) == "info"


def test_only_variables_with_the_prefix_count() -> None:
    assert Settings({"HOST": "elsewhere"}).text("HOST", "here") == "here"


def test_a_file_gives_the_value_without_its_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret with space \n")
    assert settings(BUS_PASSWORD_FILE=str(file)).text("BUS_PASSWORD") == "s3cret with space "


def test_an_empty_file_setting_is_as_none() -> None:
    assert settings(BUS_PASSWORD_FILE="", BUS_PASSWORD="x").text("BUS_PASSWORD") == "x"


def test_a_value_and_a_file_together_are_refused(tmp_path: Path) -> None:
    both = settings(TOKEN_KEY="x", TOKEN_KEY_FILE=str(tmp_path / "key"))
    with pytest.raises(BadSetting, match="DOCKER_JOB_TOKEN_KEY and DOCKER_JOB_TOKEN_KEY_FILE"):
        both.text("TOKEN_KEY")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = settings(TOKEN_KEY_FILE=str(tmp_path / "key"))
    with pytest.raises(BadSetting, match=r"TOKEN_KEY_FILE names .*key: No such file"):
        missing.text("TOKEN_KEY")
    (tmp_path / "key").write_bytes(b"\xff")
    with pytest.raises(BadSetting, match="must be UTF-8"):
        missing.text("TOKEN_KEY")


@pytest.mark.parametrize("value", [None, ""])
def test_what_is_required_says_what_would_be_right(value: str | None) -> None:
    given = settings() if value is None else settings(DATABASE_URL=value)
    with pytest.raises(BadSetting, match=r"DOCKER_JOB_DATABASE_URL is not set: .* postgresql://"):
        given.required("DATABASE_URL", "postgresql://localhost/docker_job")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("many", "must be a number"),
        ("0", "must be from 1 to 65535"),
        ("65536", "must be from 1 to 65535"),
        ("1.5", "must be a whole number"),
        ("nan", "must be from"),
        ("inf", "must be from"),
    ],
)
def test_a_number_that_does_not_fit_says_why(value: str, why: str) -> None:
    with pytest.raises(BadSetting, match=f"DOCKER_JOB_PORT is .*{why}"):
        settings(PORT=value).integer("PORT", 8000, least=1, most=65_535)


def test_numbers_are_read_as_they_are_written() -> None:
    assert settings(PORT="80").integer("PORT", 8000) == 80
    assert settings(POLL_SECONDS="0.25").number("POLL_SECONDS", 5) == 0.25
    assert settings(PORT="").integer("PORT", 8000) == 8000, "compose passes what is unset as empty"


def test_a_choice_names_the_choices() -> None:
    with pytest.raises(BadSetting, match="must be one of docker, simulated"):
        settings(RUNTIME="podman").choice("RUNTIME", "docker", ("docker", "simulated"))
