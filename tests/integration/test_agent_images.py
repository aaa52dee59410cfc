"""Images that jobs brought to a shared engine: recorded, kept while they are used, then removed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.docker_job_agent import images
from agent.docker_job_agent.environment import SharedEngine
from agent.docker_job_agent.errors import CouldNotRunError, PullFailedError
from agent.docker_job_agent.images import (
    Images,
    create_with_image,
    familiar,
    pull_with_room,
)
from tests.integration.test_agent import FakeApi
from tests.integration.test_agent_docker import SHELL_IMAGE, docker, running_docker
from tests.support.servers.slow_registry import SlowRegistry

NAME = f"docker-job-test-images-{os.getpid()}"
FULL = SharedEngine(engine_disk="/", images_disk_percent=0, images_keep_hours=1)
ROOMY = SharedEngine(engine_disk="/", images_disk_percent=100, images_keep_hours=1)
HALF_FULL = SharedEngine(engine_disk="/", images_disk_percent=85, images_keep_hours=1)
ROOM_SECONDS = 20.0
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    if docker("image", "inspect", SHELL_IMAGE).returncode != 0:
        pytest.skip(f"no Docker engine answers, or it has no {SHELL_IMAGE}")
    yield
    for tag in tags_of_all():
        if tag.startswith(NAME):
            docker("image", "rm", "--force", id_of(tag))


def tags_of_all() -> list[str]:
    return docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()


def bring(reference: str, content: str = "") -> Callable[[], None]:
    """Return what brings an image to the engine, as a pull does; its content makes it another."""

    def pull() -> None:
        built = subprocess.run(
            ["docker", "build", "--quiet", "--pull=false", "--tag", reference, "-"],
            input=f"FROM {SHELL_IMAGE}\nLABEL of={reference} content={content}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert built.returncode == 0, built.stderr

    return pull


def id_of(reference: str) -> str:
    return docker("image", "inspect", "--format", "{{.Id}}", reference).stdout.strip()


def records_of(reference: str) -> list[str]:
    [seen] = json.loads(docker("image", "inspect", reference).stdout)
    return [each.tag for each in images.records_in(seen["RepoTags"])]


def age(reference: str, hours: float, image: str = "") -> None:
    """Have an image of that reference been used so long ago."""
    image = image or id_of(reference)
    before = records_of(image)
    used_at = time.time() - hours * HOUR
    docker("tag", image, images.record_of(image, reference, used_at))
    docker("image", "rm", *before)


def make_room(shared: SharedEngine = FULL) -> bool:
    return Images(shared).make_room(ROOM_SECONDS)


def test_an_image_that_a_job_brought_is_removed_once_none_has_used_it_for_long() -> None:
    reference = f"{NAME}:a"
    pull_with_room(ROOMY, reference, bring(reference))
    image = id_of(reference)
    age(reference, 0.9)
    make_room()
    assert id_of(reference) == image
    age(reference, 1.1)
    assert make_room(ROOMY) is False, "the disk is not full"
    assert make_room() is True
    assert id_of(image) == ""
    assert [tag for tag in tags_of_all() if image.rpartition(":")[2][:20] in tag] == []


def test_an_image_of_a_user_stays_also_when_jobs_use_it() -> None:
    reference = f"{NAME}:own"
    bring(reference)()
    pull_with_room(ROOMY, reference, lambda: None)
    assert records_of(reference) == []


def test_an_image_that_a_user_has_named_too_stays() -> None:
    reference = f"{NAME}:both"
    pull_with_room(ROOMY, reference, bring(reference))
    age(reference, 1000)
    docker("tag", reference, f"{NAME}:mine")
    make_room()
    assert id_of(reference) == id_of(f"{NAME}:mine") != ""


def test_an_image_of_any_container_stays() -> None:
    reference = f"{NAME}:used"
    pull_with_room(ROOMY, reference, bring(reference))
    age(reference, 1000)
    container = docker("create", reference, "true").stdout.strip()
    try:
        make_room()
        assert id_of(reference)
        assert len(records_of(reference)) == 1
    finally:
        docker("rm", container)


def test_each_use_counts_anew_and_leaves_one_record() -> None:
    reference = f"{NAME}:again"
    pull_with_room(ROOMY, reference, bring(reference))
    age(reference, 5)
    pull_with_room(ROOMY, reference, lambda: None)
    assert len(records_of(reference)) == 1
    make_room()
    assert id_of(reference)


def test_the_longest_unused_image_goes_first_and_no_more_than_needed() -> None:
    # The oldest of all, so that an image of another run on this engine is in no danger.
    old, new = f"{NAME}:old", f"{NAME}:new"
    for reference, hours in ((new, 400_000), (old, 400_001)):
        pull_with_room(ROOMY, reference, bring(reference))
        age(reference, hours)
    fills = iter([90.0, 90.0, 80.0])
    Images(HALF_FULL, lambda _path: next(fills)).make_room(ROOM_SECONDS)
    assert (id_of(old), bool(id_of(new))) == ("", True)


def test_an_image_whose_tag_has_moved_on_is_removed_too() -> None:
    reference = f"{NAME}:moving"
    pull_with_room(ROOMY, reference, bring(reference, "first"))
    first = id_of(reference)
    pull_with_room(ROOMY, reference, bring(reference, "second"))
    assert id_of(reference) != first == id_of(first)
    age(reference, 2, first)
    assert make_room() is True
    assert id_of(first) == ""
    assert id_of(reference)


def test_a_pull_for_which_the_disk_is_too_full_is_tried_again_with_more_room() -> None:
    old, new = f"{NAME}:old", f"{NAME}:new"
    pull_with_room(ROOMY, old, bring(old))
    tries = []

    def pull() -> None:
        tries.append(new)
        if id_of(old):
            raise PullFailedError("write /var/lib/x: no space left on device", permanent=False)

    with pytest.raises(PullFailedError, match="no space"):
        pull_with_room(ROOMY, new, pull)
    age(old, 2)
    pull_with_room(ROOMY, new, pull)
    assert tries[-2:] == [new, new]
    assert id_of(old) == ""


def test_the_disk_of_an_engine_of_this_machine_is_found() -> None:
    assert 0 < images.filled_percent("/") <= 100
    reference = f"{NAME}:here"
    pull_with_room(ROOMY, reference, bring(reference))
    age(reference, 2)
    if docker("info", "--format", "{{.Name}}").stdout.strip() != os.uname().nodename:
        pytest.skip("the engine is on another machine")
    assert make_room(SharedEngine(images_disk_percent=0, images_keep_hours=1)) is True


def test_a_container_whose_image_went_after_the_pull_is_created_after_another_pull() -> None:
    reference = f"{NAME}:went"
    pulls = []

    def prepare() -> None:
        pulls.append(reference)
        bring(reference)()

    def create() -> None:
        made = docker("create", "--pull", "never", reference, "true")
        if made.returncode != 0:
            raise CouldNotRunError(made.stderr)
        docker("rm", made.stdout.strip())

    create_with_image(create, prepare)
    assert pulls == [reference]


def test_any_other_error_of_a_creation_pulls_nothing_again() -> None:
    def create() -> None:
        raise CouldNotRunError("invalid mount path")

    with pytest.raises(CouldNotRunError, match="invalid mount path"):
        create_with_image(create, lambda: pytest.fail("pulled"))


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("alpine", "alpine:latest"),
        ("docker.io/library/alpine:3", "alpine:3"),
        ("index.docker.io/me/app", "me/app:latest"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("localhost:5000/a:1", "localhost:5000/a:1"),
        ("alpine:3@sha256:0a", "alpine@sha256:0a"),
        ("r.example:5000/team/app@sha256:0a", "r.example:5000/team/app@sha256:0a"),
    ],
)
def test_references_are_compared_as_the_engine_shows_them(reference: str, shown: str) -> None:
    assert familiar(reference) == shown


def test_a_full_disk_delays_and_fails_no_job(tmp_path: Path) -> None:
    api = FakeApi(docker_image=SHELL_IMAGE, command=["echo", "hello"])
    with running_docker(api, tmp_path / "i", DOCKER_JOB_IMAGES_DISK_PERCENT="0") as agent:
        assert agent.wait() == 0

    assert api.callbacks == [{"exit_code": 0}]
    assert api.lines("stdout") == ["hello"]
    assert agent.reason == "final callback exit_code answered with status 200"


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_what_a_job_pulled_is_recorded_and_goes_when_another_one_needs_room(
    tmp_path: Path, by: str
) -> None:
    registry = SlowRegistry()
    digest = f"{registry.image.removesuffix(':1')}@{registry.manifest.digest}"
    reference = registry.image if by == "tag" else digest
    api = FakeApi(docker_image=reference)
    try:
        with registry.serving(), running_docker(api, tmp_path / "i") as agent:
            assert agent.wait() == 0
        assert api.callbacks == [{"exit_code": 0}]
        image = id_of(reference)
        assert len(records_of(image)) == 1
        age(reference, 25)

        api = FakeApi(docker_image=SHELL_IMAGE, command=["true"])
        (tmp_path / "another").mkdir()
        env = {"DOCKER_JOB_IMAGES_DISK_PERCENT": "0"}
        with running_docker(api, tmp_path / "another" / "i", **env) as agent:
            assert agent.wait() == 0
        assert id_of(image) == ""
        assert "image removed" in agent.log
    finally:
        docker("image", "rm", "--force", id_of(reference) or reference)
