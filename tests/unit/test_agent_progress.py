"""The progress of a pull: what counts as progress, and what users see."""

from typing import Any

import pytest

from agent.docker_job_agent.engine_pull import pull_path
from agent.docker_job_agent.progress import PullProgress


def of_a_layer(name: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    counts = {"current": current, "total": total} if current or total else {}
    return {"status": status, "id": name, "progressDetail": counts}


def progress_after(*messages: dict[str, Any]) -> PullProgress:
    progress = PullProgress()
    for each in messages:
        progress.take(each)
    return progress


BEGUN = [
    {"status": "Pulling from team/app", "id": "1"},
    *(of_a_layer(name, "Pulling fs layer") for name in "abcd"),
    of_a_layer("d", "Already exists"),
]
HALF = [
    *BEGUN,
    of_a_layer("a", "Downloading", 240_000_000, 1_000_000_000),
    of_a_layer("b", "Downloading", 100_000_000, 200_000_000),
    of_a_layer("c", "Waiting"),
]
DOWNLOADED = [*HALF, *(of_a_layer(name, "Download complete") for name in "abc")]


@pytest.mark.parametrize(
    ("messages", "detail"),
    [
        ([], "asking the registry"),
        (BEGUN[:1], "asking the registry"),
        (BEGUN, "pulling, 1 of 4 layers"),
        (HALF, "pulling 340 of 1,200 MB, 1 of 4 layers"),
        (
            [*HALF, of_a_layer("b", "Download complete")],
            "pulling 440 of 1,200 MB, 2 of 4 layers",
        ),
        (DOWNLOADED, "extracting 0 of 1,200 MB, 1 of 4 layers"),
        (
            [*DOWNLOADED, of_a_layer("a", "Extracting", 500_000_000, 1_000_000_000)],
            "extracting 500 of 1,200 MB, 1 of 4 layers",
        ),
        (
            [*DOWNLOADED, of_a_layer("a", "Pull complete"), of_a_layer("b", "Extracting", 3)],
            "extracting 1,000 of 1,200 MB, 2 of 4 layers",
        ),
        (
            [of_a_layer("a", "Downloading", 300_000, 3_001_178)],
            "pulling 0.3 of 3.0 MB, 0 of 1 layers",
        ),
        ([of_a_layer("a", "Downloading", 30_000_000, -1)], "pulling 30 MB, 0 of 1 layers"),
    ],
)
def test_the_detail_counts_the_bytes_of_the_layers_that_have_begun(
    messages: list[dict[str, Any]], detail: str
) -> None:
    assert progress_after(*messages).detail() == detail


def test_only_what_changes_is_progress() -> None:
    progress = PullProgress()
    assert progress.take({"status": "Pulling from team/app", "id": "1"})
    assert progress.take(of_a_layer("a", "Downloading", 1, 9))
    assert not progress.take(of_a_layer("a", "Downloading", 1, 9))  # containerd, each 100 ms
    assert progress.take(of_a_layer("a", "Downloading", 2, 9))
    assert progress.take(of_a_layer("a", "Retrying in 5 seconds"))
    assert not progress.take(of_a_layer("a", "Retrying in 4 seconds"))
    assert progress.take(of_a_layer("a", "Downloading", 1, 9))


@pytest.mark.parametrize(
    ("messages", "waits"),
    [
        ([], True),
        (HALF, True),
        ([*HALF, of_a_layer("d", "Extracting", 1, 9)], False),
        (DOWNLOADED, False),  # engines before 28 with containerd's store say no more
        ([of_a_layer("a", "Downloading", 9, 9)], False),  # the disk is to confirm them
        ([of_a_layer("a", "Downloading", 8, 9), of_a_layer("b", "Download complete")], True),
        ([of_a_layer("a", "Pull complete")], True),  # the image's configuration is missing
    ],
)
def test_a_slow_disk_is_no_silence_of_the_registry(
    messages: list[dict[str, Any]], *, waits: bool
) -> None:
    assert progress_after(*messages).waits_for_bytes() is waits


@pytest.mark.parametrize(
    ("image", "query"),
    [
        ("alpine", "fromImage=alpine&tag=latest"),
        ("alpine:3", "fromImage=alpine&tag=3"),
        ("localhost:5000/team/app", "fromImage=localhost%3A5000%2Fteam%2Fapp&tag=latest"),
        ("[::1]:5000/app:1", "fromImage=%5B%3A%3A1%5D%3A5000%2Fapp&tag=1"),
        ("a/b@sha256:00ff", "fromImage=a%2Fb&tag=sha256%3A00ff"),
        ("a/b:1@sha256:00ff", "fromImage=a%2Fb&tag=sha256%3A00ff"),
    ],
)
def test_one_image_is_pulled_never_every_tag(image: str, query: str) -> None:
    assert pull_path(image) == f"/images/create?{query}"
