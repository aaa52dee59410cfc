"""Errors of pulls: who said them, and whether another try may help. The texts are engines' own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.docker_job_agent.pull import pause_seconds
from agent.docker_job_agent.pull_failures import (
    DEPLOYMENT,
    ENGINE,
    LIMIT,
    NETWORK,
    PHRASES,
    REGISTRY,
    TIME,
    Failure,
    read_failure,
)

IMAGE = "registry.example.com/team/app:1"
GOLDEN = Path(__file__).parent / "golden" / "pull_failures.txt"


class Row(NamedTuple):
    """An engine's text and the failure that users see."""

    text: str
    failure: Failure


def golden() -> list[Row]:
    """Return the rows of the file, in whose texts two characters stand for a newline."""
    rows = [each for each in GOLDEN.read_text().splitlines() if not each.startswith("#")]
    return [
        Row(
            row[74:].replace("\\n", "\n"),
            Failure(
                row[22:74].rstrip().removeprefix("-"),
                row[:12].rstrip(),
                permanent=row[12:22].rstrip() == "for good",
            ),
        )
        for row in rows
    ]


@pytest.mark.parametrize("row", golden(), ids=lambda row: row.text[:60])
def test_an_error_is_judged_by_who_said_it(row: Row) -> None:
    assert read_failure(row.text, IMAGE) == row.failure


@pytest.mark.parametrize(
    "image",
    ["ghcr.io/denied/manifest unknown", "r.example/no such host/eof", "r.example/not-found:denied"],
)
def test_a_name_that_someone_chose_decides_nothing(image: str) -> None:
    name = image.rpartition(":")[0] or image
    assert read_failure(f"repository {image}: something new", image).origin == ENGINE
    text = f"repository {name} not found: name unknown: {name}"
    assert read_failure(text, image) == Failure("name unknown", REGISTRY, permanent=True)


BANNER = "SSH-2.0-banner_10.9.8.7"


def test_nothing_that_a_registry_has_answered_is_passed_on() -> None:
    # The banner stands wherever a row has a word that the registry, or what listens in its place,
    # can choose, and around the whole text.
    texts = [form for row in golden() for form in _with_banner(row.text)]
    echoed = [each for each in texts if BANNER.lower() in read_failure(each, IMAGE).text.lower()]
    print(f"{len(texts) - len(echoed)} of {len(texts)} answers of registries are not echoed")
    assert echoed == []


def _with_banner(text: str) -> Iterator[str]:
    words = re.split(r"(\s+)", text)
    yield f"{BANNER}: {text}"
    yield f"{text}: {BANNER}"
    for number in range(0, len(words), 2):
        yield "".join([*words[:number], BANNER, *words[number + 1 :]])
        yield "".join([*words[: number + 1], f" {BANNER}", *words[number + 1 :]])


def test_each_origin_has_its_words_for_users() -> None:
    assert {each.failure.origin for each in golden()} | {DEPLOYMENT, TIME} == set(PHRASES)


def test_the_pauses_grow_and_those_for_a_rate_limit_are_long() -> None:
    failed, limited = Failure("", NETWORK), Failure("", LIMIT)
    pauses = [pause_seconds(failed, tries, 1.0) for tries in range(1, 9)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert [pause_seconds(limited, tries, 1.0) for tries in range(1, 5)] == [60, 120, 240, 240]
    assert pause_seconds(failed, 1, 0.0) == 1
