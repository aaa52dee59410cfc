"""The API's settings: values that are read, and messages for those that are refused."""

import pytest

from services.api.agents.sts_identity import Role
from services.api.config import ApiConfig, from_settings
from shared.settings import BadSetting, Settings
from tests.support.api.api_story import a_job

ARN = "arn:aws:iam::123456789012:role/team/docker-job-instance"


def read(secrets_key: str | None = None, **settings: str) -> ApiConfig:
    environ = {f"DOCKER_JOB_{name}": value for name, value in settings.items()}
    return from_settings(
        Settings(environ), deployment="ours", token_key="k", secrets_key=secrets_key
    )


def test_without_settings_there_is_a_default_for_everything() -> None:
    config = read()
    assert (config.agents.identity, config.secret_keys) == (None, None)
    assert (config.bounds.default_capacity, config.bounds.default_retries) == ("spot", 0)
    assert config.rules.interruption_budget == 20
    assert (config.rules.wipe_secrets, config.rules.replace_on_rebalance) == (True, False)


@pytest.mark.parametrize(("given", "zone"), [("utc", "UTC"), ("Asia/Tokyo", "Asia/Tokyo")])
def test_the_default_zone_is_as_iana_writes_it(given: str, zone: str) -> None:
    assert read(TIMEZONE=given).bounds.default_timezone == zone


@pytest.mark.parametrize(
    ("settings", "url", "region"),
    [
        ({"STS_REGION": "eu-west-1"}, "https://sts.eu-west-1.amazonaws.com", "eu-west-1"),
        ({"COMPUTE_URL": "ec2://us-east-1"}, "https://sts.us-east-1.amazonaws.com", "us-east-1"),
        (
            {"COMPUTE_URL": "ec2://us-east-1", "STS_REGION": "cn-north-1"},
            "https://sts.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        (
            {"COMPUTE_URL": "ec2://us-east-1", "STS_URL": "http://127.0.0.1:5000"},
            "http://127.0.0.1:5000",
            "us-east-1",
        ),
    ],
)
def test_the_sts_that_is_asked_is_the_one_of_the_settings(
    settings: dict[str, str], url: str, region: str
) -> None:
    identity = read(INSTANCE_ROLE_ARN=ARN, **settings).agents.identity
    assert identity is not None
    assert (identity.sts_url, identity.region) == (url, region)
    assert identity.role == Role("aws", "123456789012", "docker-job-instance")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"INSTANCE_ROLE_ARN": "docker-job"}, "must be the ARN of the instances' IAM role"),
        ({"INSTANCE_ROLE_ARN": ARN}, "DOCKER_JOB_STS_REGION is not set"),
        ({"SECRETS_KEY": "password"}, "must be keys of 64 hexadecimal digits each"),
        ({"TIMEZONE": "localtime"}, "DOCKER_JOB_TIMEZONE: timezone 'localtime' is not an IANA"),
        ({"TIMEZONE": "europe/berlin"}, "did you mean 'Europe/Berlin'"),
        ({"CAPACITY": "cheap"}, "must be one of spot, spot_then_on_demand, on_demand"),
        ({"RETRIES": "101"}, "must be from 0 to 100"),
        ({"ON_REBALANCE": "panic"}, "must be one of note, replace"),
        ({"WIPE_SECRETS": "perhaps"}, "must be one of yes, no"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=message) as raised:
        read(**settings)
    assert "password" not in str(raised.value)


def test_a_key_of_the_set_up_is_used_where_none_is_set() -> None:
    assert read("0f" * 32).secret_keys is not None
    assert read("0f" * 32).bounds.keeps_secrets


def test_what_a_configuration_looks_like_in_a_trace_holds_no_key() -> None:
    config = from_settings(
        Settings({"DOCKER_JOB_SECRETS_KEY": "0f" * 32}), deployment="ours", token_key="canary"
    )
    assert "canary" not in repr(config)
    assert "0f0f" not in repr(config)


@pytest.mark.parametrize(
    ("own", "grace", "margin"),
    [
        (None, 10, 30),
        (0, 0, 30),
        (60, 60, 80),  # stopped 50 s earlier, since it may take 50 s longer
        (90, 90, 110),
        (600, 600, 110),  # at once, and the agent bounds the grace by the notice
    ],
)
def test_an_agent_gets_the_job_s_own_grace_and_a_margin_that_leaves_room_for_it(
    own: int | None, grace: int, margin: int
) -> None:
    settings = read().agents.agent.of_job(a_job(stop_grace_seconds=own))
    assert (settings.stop_grace_seconds, settings.interruption_margin_seconds) == (grace, margin)


def test_a_margin_that_an_operator_has_set_is_never_shortened() -> None:
    config = read(INTERRUPTION_MARGIN_SECONDS="115").agents.agent
    assert config.of_job(a_job(stop_grace_seconds=60)).interruption_margin_seconds == 115


LOCAL = {"COMPUTE_URL": "docker://"}


@pytest.mark.parametrize(
    ("settings", "used"),
    [
        ({"COMPUTE_URL": "process://"}, True),
        ({"COMPUTE_URL": "process://", "HOST": "0.0.0.0"}, True),
        (LOCAL, True),
        (LOCAL | {"HOST": "0.0.0.0", "PUBLISHED_HOST": "127.0.0.1"}, True),  # compose
        (LOCAL | {"HOST": "0.0.0.0", "PUBLISHED_HOST": "[::1]"}, True),
        (LOCAL | {"HOST": "0.0.0.0", "PUBLISHED_HOST": "localhost"}, True),
        (LOCAL | {"HOST": "0.0.0.0", "PUBLISHED_HOST": "192.168.1.5"}, False),
        (LOCAL | {"HOST": "0.0.0.0", "PUBLISHED_HOST": "0.0.0.0"}, False),
        (LOCAL | {"HOST": "0.0.0.0"}, False),
        ({"COMPUTE_URL": "ec2://us-east-1"}, False),
        ({"COMPUTE_URL": "sim://?seed=7"}, False),
        ({}, False),  # unknown
        (LOCAL | {"LOCAL_IMAGES": "no"}, False),
        ({"COMPUTE_URL": "ec2://us-east-1", "LOCAL_IMAGES": "yes"}, True),
    ],
)
def test_local_images_are_used_by_default_on_a_machine_of_ones_own(
    settings: dict[str, str], *, used: bool
) -> None:
    config = read(**settings)
    assert config.agents.agent.local_images is used
    told = "are used after a failed pull" if used else "are not used"
    assert told in config.engine.described()[0]


def test_make_run_has_a_compute_url_of_its_own() -> None:
    config = from_settings(Settings({}), deployment="ours", token_key="k", compute_url="process://")
    assert config.agents.agent.local_images
