"""`--filter KEY=VALUE`, as docker takes it, as filters of the API."""

import re

import click
import pytest

from docker_job.cli.choosing.filters import filters_of


@pytest.mark.parametrize(
    ("given", "filters"),
    [
        ([], {}),
        (["status=failed"], {"status": ["FAILED"]}),
        (["status=failed,done", "status=Running"], {"status": ["FAILED", "DONE", "RUNNING"]}),
        (["label=team=data"], {"label": ["team:data"]}),
        (["label=team:data"], {"label": ["team:data"]}),
        (["label=url=a=b:c"], {"label": ["url:a=b:c"]}),
        (["label=a=1", "label=b=2"], {"label": ["a:1", "b:2"]}),
        (["project=data"], {"project": "data"}),
        (["name=x=y", "image=a:1", "q=text"], {"name": "x=y", "image": "a:1", "q": "text"}),
    ],
)
def test_a_filter_is_a_parameter_of_the_list(given: list[str], filters: dict[str, object]) -> None:
    assert filters_of(given) == filters


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["failed"], "'failed' has no value: write failed=VALUE"),
        (["status="], "has no value"),
        (["label=team"], "write label=team=VALUE"),
        (
            ["colour=red"],
            "there is no 'colour' to filter by: write status, label, name, image, project or q",
        ),
        (["name=a", "name=b"], "name is given twice"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_with_what_is_right(
    given: list[str], words: str
) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(words)):
        filters_of(given)
