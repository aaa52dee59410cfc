"""Errors of pulls: who said them, and whether another try may help. The texts are engines' own."""

from pathlib import Path

import pytest

from agent.docker_job_agent.pull import pause_seconds
from agent.docker_job_agent.pull_failures import (
    ENGINE,
    LIMIT,
    NETWORK,
    PHRASES,
    REGISTRY,
    Failure,
    read_failure,
)

IMAGE = "registry.example.com/team/app:1"
GOLDEN = Path(__file__).parent / "golden" / "pull_failures.txt"


def golden() -> list[Failure]:
    """Return the failures of the file, in which two characters stand for a newline."""
    rows = [each for each in GOLDEN.read_text().splitlines() if not each.startswith("#")]
    return [
        Failure(row[22:].replace("\\n", "\n"), row[:12].rstrip(), row[12:22].rstrip() == "for good")
        for row in rows
    ]


@pytest.mark.parametrize("failure", golden(), ids=lambda failure: failure.text[:60])
def test_an_error_is_judged_by_who_said_it(failure: Failure) -> None:
    assert read_failure(failure.text, IMAGE) == failure


@pytest.mark.parametrize(
    "image",
    ["ghcr.io/denied/manifest unknown", "r.example/no such host/eof", "r.example/not-found:denied"],
)
def test_a_name_that_someone_chose_decides_nothing(image: str) -> None:
    name = image.rpartition(":")[0] or image
    assert read_failure(f"repository {image}: something new", image).origin == ENGINE
    text = f"repository {name} not found: name unknown: {name}"
    assert read_failure(text, image) == Failure(text, REGISTRY, permanent=True)


def test_each_origin_has_its_words_for_users() -> None:
    assert {each.origin for each in golden()} == set(PHRASES)


def test_the_pauses_grow_and_those_for_a_rate_limit_are_long() -> None:
    failed, limited = Failure("", NETWORK), Failure("", LIMIT)
    pauses = [pause_seconds(failed, tries, 1.0) for tries in range(1, 9)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert [pause_seconds(limited, tries, 1.0) for tries in range(1, 5)] == [60, 120, 240, 240]
    assert pause_seconds(failed, 1, 0.0) == 1
