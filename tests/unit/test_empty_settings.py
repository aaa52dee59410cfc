"""A setting that is set but empty means its default: in every service, `make run` and the agent."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

import services.api.config as api_config
import services.launcher.config as launcher_config
import services.reaper.config as reaper_config
import services.scheduler.config as scheduler_config
from agent.docker_job_agent.environment import read_bounds, read_config
from embedded.run import read_setup
from operations.deadletters.mailboxes import opened
from services.api.processes.workers import process_count
from shared.adapters import open_notices, read_runtime
from shared.compute.ec2.settings import ec2_settings
from shared.settings import PREFIX, Settings, remove_empty

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("services", "shared", "embedded", "operations")
EMPTY = ("", " ", "\t \n")
BASE = {f"{PREFIX}DEPLOYMENT": "d", f"{PREFIX}TOKEN_KEY": "k", f"{PREFIX}API_URL": "http://a:1"}
"""Settings without a default."""


def everything(environ: Mapping[str, str]) -> dict[str, Any]:
    """Read every setting that has a default, as the services and `make run` do."""
    settings = Settings(environ)
    setup = read_setup(settings)
    return {
        "api": api_config.from_settings(settings, deployment="d", token_key="k"),
        "launcher": launcher_config.from_settings(
            settings, deployment="d", token_key="k", api_url="http://a:1"
        ),
        "reaper": reaper_config.from_settings(settings),
        "scheduler": scheduler_config.from_settings(settings),
        "ec2": ec2_settings(settings),
        "notices": open_notices(settings),
        "runtime": read_runtime(settings),
        "processes": process_count(settings),
        "run": vars(setup) | {"settings": None},
    }


def names_read() -> Iterator[str]:
    """Find every setting that the product reads, in its source."""
    call = re.compile(r"settings\.(?:text|number|integer|choice)\(\s*\"([A-Z0-9_]+)\"")
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            yield from call.findall(path.read_text())


NAMES = sorted(set(names_read()))


def test_the_settings_are_found_in_the_source() -> None:
    assert len(NAMES) > 60
    assert {"DATA_DIR", "PORT", "HOST", "DATABASE_URL", "TIMEZONE", "LOG_LEVEL"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_that_is_empty_is_as_one_that_is_not_set(name: str) -> None:
    unset = everything(BASE)
    for empty in EMPTY:
        for variable in (PREFIX + name, f"{PREFIX}{name}_FILE"):
            given = {variable: empty} | BASE
            assert everything(given) == unset, variable


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_setting_is_read_as_its_default(name: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for empty in EMPTY:
        file.write_text(empty)
        for variables in (
            {PREFIX + name: empty},
            {f"{PREFIX}{name}_FILE": empty},
            {f"{PREFIX}{name}_FILE": str(file)},
            {f"{PREFIX}{name}_FILE": str(file), PREFIX + name: empty},
        ):
            settings = Settings(variables)
            assert settings.text(name) is None
            assert settings.text(name, "default") == "default"
            assert settings.number(name, 7) == 7
            assert settings.choice(name, "one", ("one", "two")) == "one"


def test_a_file_counts_where_the_variable_itself_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    variables = {f"{PREFIX}BUS_PASSWORD": "", f"{PREFIX}BUS_PASSWORD_FILE": str(file)}
    assert Settings(variables).text("BUS_PASSWORD") == "s3cret"


def test_an_empty_data_directory_is_not_the_current_directory() -> None:
    for empty in EMPTY:
        setup = read_setup(Settings({f"{PREFIX}DATA_DIR": empty}))
        assert setup.data_dir == Path(".data").absolute()


async def test_dead_letters_are_searched_in_the_default_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings({f"{PREFIX}DATA_DIR": "", f"{PREFIX}SECRETS_DIR": " "})
    with pytest.raises(Exception, match=re.escape(f"{tmp_path}/.data does not exist")):
        async with opened(settings, ["api"]):
            pass


AGENT = {
    f"{PREFIX}API_URL": "http://api:8000",
    f"{PREFIX}JOB_ID": "1",
    f"{PREFIX}ATTEMPT": "1",
    f"{PREFIX}INSTANCE_ID": "i-1",
    f"{PREFIX}MAX_LIFETIME_SECONDS": "60",
}

OPTIONAL = (
    *("RUNTIME", "IDENTITY", "TERMINATE_GRACE_SECONDS", "DEPLOYMENT", "METADATA"),
    *("POWER_OFF", "INSTANCE_DIR"),
)


@pytest.mark.parametrize("read", [read_config, read_bounds])
@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_variable_of_the_agent_is_as_none(
    read: Callable[[Mapping[str, str]], Any], empty: str
) -> None:
    given = {PREFIX + name: empty for name in OPTIONAL}
    given["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = empty
    assert read(AGENT | given) == read(AGENT)


@pytest.mark.parametrize("empty", EMPTY)
def test_the_aws_sdk_sees_no_empty_variable(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_REGION", "DOCKER_HOST")
    for name in names:
        monkeypatch.setenv(name, empty)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    remove_empty(os.environ)
    assert not [name for name in names if name in os.environ]
    assert os.environ["AWS_ACCESS_KEY_ID"] == "a"
    client = boto3.session.Session().client("ec2", region_name="us-east-1")
    assert client.meta.endpoint_url == "https://ec2.us-east-1.amazonaws.com"


def test_make_takes_an_empty_variable_for_its_default() -> None:
    for given in (["PYTHON="], ["PYTHON= "], []):
        printed = subprocess.run(
            ["make", "--dry-run", "--always-make", *given, ".venv/bin/python"],
            cwd=ROOT, env=os.environ | {"PYTHON": ""}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "for python in python3 python3.14" in printed
