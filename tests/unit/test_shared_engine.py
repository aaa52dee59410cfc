"""The settings of an engine that jobs share."""

import pytest

from agent.docker_job_agent.environment import SharedEngine as AgentsView
from agent.docker_job_agent.environment import read_shared_engine
from shared.compute.shared_engine import SharedEngine, shared_engine_from
from shared.settings import BadSetting, Settings


def settings(**given: str) -> Settings:
    return Settings({f"DOCKER_JOB_{name}": value for name, value in given.items()})


def test_without_settings_the_defaults_hold_for_launcher_and_agent_alike() -> None:
    found = shared_engine_from(settings())

    assert found == SharedEngine()
    assert read_shared_engine(found.environment()) == read_shared_engine({}) == AgentsView()


def test_what_an_operator_sets_reaches_the_agent() -> None:
    found = shared_engine_from(
        settings(
            NETWORK_POOL="172.30.0.0/20",
            PACKET_FILTER="require",
            IMAGES_DISK_PERCENT="70.5",
            IMAGES_KEEP_HOURS="1",
        )
    )

    assert found.packet_filter == "require"
    assert read_shared_engine(found.environment()) == AgentsView(
        network_pool="172.30.0.0/20", images_disk_percent=70.5, images_keep_hours=1
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NETWORK_POOL", "10.213.0.1/16", "must be like 10.213.0.0/16"),
        ("NETWORK_POOL", "fd00::/64", "must be like 10.213.0.0/16"),
        ("NETWORK_POOL", "10.213.0.0/28", "prefix length from 8 to 26"),
        ("PACKET_FILTER", "yes", "must be one of try, require, off"),
        ("IMAGES_DISK_PERCENT", "101", "must be from 0 to 100"),
        ("IMAGES_KEEP_HOURS", "-1", "must be from 0"),
    ],
)
def test_a_bad_setting_is_named_with_what_would_be_right(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(BadSetting, match=f"DOCKER_JOB_{name} is .*{message}"):
        shared_engine_from(settings(**{name: value}))
