"""Which labels may become tags: AWS's rules, the strictest of each kind."""

from datetime import UTC, datetime

import pytest

from fake_aws.errors import AwsError
from fake_aws.tag_rules import checked
from services.api import config
from services.api.jobs.model import JobRules, requirements_of
from services.api.submission.request import BadRequest, Bounds, read_job
from shared.events import cost_tags
from shared.settings import BadSetting, Settings
from tests.support.api.api_story import a_job

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS = Bounds(
    default_timezone="UTC", max_lifetime_seconds=3600, cost_tags=("team", "cost-center")
)
BODY = {"docker_image": "alpine", "scheduled_for": "now"}


def names_of(text: str) -> tuple[str, ...]:
    return cost_tags.read_names(Settings({"DOCKER_JOB_EC2_COST_TAGS": text}))


def test_the_setting_is_a_list_of_names_and_empty_by_default() -> None:
    assert names_of("") == ()
    assert names_of("team, project  cost-center,team") == ("team", "project", "cost-center")
    assert cost_tags.read_names(Settings({})) == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aws:team", "no colon"),
        ("docker-job:deployment", "no colon"),
        ("docker-job:services", "no colon"),
        ("k" * 128, "at most 127 characters"),
        ("größe", "only letters, digits"),
        ("a/b", "only letters, digits"),
        ("Name", "reserved"),
        ("_index", "reserved"),
        ("..", "reserved"),
    ],
)
def test_a_name_that_can_be_no_key_of_a_tag_is_refused_at_the_start(
    name: str, expected: str
) -> None:
    with pytest.raises(BadSetting, match="DOCKER_JOB_EC2_COST_TAGS has ") as refused:
        names_of(f"team,{name}")
    assert expected in str(refused.value)


def test_more_names_than_ten_are_refused() -> None:
    assert len(names_of(",".join(f"t{each}" for each in range(10)))) == 10
    with pytest.raises(BadSetting, match="has 11 names: it must have at most 10"):
        names_of(",".join(f"t{each}" for each in range(11)))


def test_the_api_reads_the_setting_for_its_checks_and_its_events() -> None:
    read = config.from_settings(
        Settings({"DOCKER_JOB_EC2_COST_TAGS": "team"}), deployment="home", token_key="k" * 64
    )
    assert (read.bounds.cost_tags, read.rules.cost_tags) == (("team",), ("team",))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a&b", "labels.team must have only letters, digits, spaces and + - = . _ : / @; it has"),
        ("two\nlines", "labels.team must have only"),
        ("AWS:mine", "labels.team must not begin with aws:"),
    ],
)
def test_a_value_that_can_be_no_tag_is_refused_with_the_field_and_the_rule(
    value: str, expected: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        read_job(BODY | {"labels": {"team": value}}, NOW, BOUNDS)
    assert expected in str(refused.value)
    assert "DOCKER_JOB_EC2_COST_TAGS" in str(refused.value)


@pytest.mark.parametrize("value", ["", "data", "Größe 4", "a/b:c@d.e_f=g+h-i", "v" * 256])
def test_a_value_that_aws_accepts_is_accepted(value: str) -> None:
    job = read_job(BODY | {"labels": {"team": value, "other": "a&b\n"}}, NOW, BOUNDS)
    assert job.labels["team"] == value
    assert checked([{"Key": "team", "Value": value}]) == {"team": value}


def test_without_the_setting_any_label_goes_as_before() -> None:
    bounds = Bounds(default_timezone="UTC", max_lifetime_seconds=3600)
    read_job(BODY | {"labels": {"team": "a&b"}}, NOW, bounds)


def test_what_does_not_fit_is_left_off() -> None:
    tags = {"team": "a", "project": "a&b", "aws:x": "b", "k" * 128: "c", "Name": "d"}
    assert cost_tags.fitting(tags) == {"team": "a"}
    assert len(cost_tags.fitting({f"t{each}": "x" for each in range(60)})) == 10


@pytest.mark.parametrize("key", ["aws:x", "AWS:x", "k" * 128])
def test_the_fake_refuses_the_keys_that_the_setting_refuses(key: str) -> None:
    with pytest.raises(AwsError):
        checked([{"Key": key, "Value": "x"}])
    assert cost_tags.trouble_with_name(key) is not None


def test_the_requirements_have_the_named_labels_alone() -> None:
    job = a_job(labels={"team": "a", "run": "17"})
    assert requirements_of(job, JobRules(cost_tags=("team", "project"))).tags == {"team": "a"}
    assert requirements_of(job, JobRules()).tags == {}
