"""Images on a shared engine: those that jobs brought go when its disk fills.

The engine itself keeps the record: an image that was not there before a job's pull gets a tag of
ours, `docker-job/pulled:<image>-<reference>-<time of last use>`, with digests of image and
reference. An image that is used again gets a newer one. (The engine's own `LastTagTime` does not
change in containerd's image store if a tag is set again.) An image without such a tag, or with one
that a user has added, is never touched. Nothing here fails a job.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from .engine_api import EngineApi
from .environment import SharedEngine
from .errors import CouldNotRunError, EngineError, PullFailedError
from .log import log

REPOSITORY = "docker-job/pulled"
RECORD = re.compile(REPOSITORY + r":([0-9a-f]{20})-([0-9a-f]{20})-([0-9]+)")
REMEMBER_SECONDS = 60.0  # a use is recorded again after this: sixty jobs of one image write once
CREATE_TRIES = 3
ROOM_SECONDS = 120.0  # of all of them, before a pull
DISK_FULL = "no space left on device"
NO_IMAGE = "No such image"
CONTAINERD_ROOT = "/var/lib/containerd"


class Record(NamedTuple):
    """One of our tags: the digest of its reference, and when that was last used."""

    tag: str
    reference: str
    used_at: int


def familiar(reference: str) -> str:
    """Return a reference as the engine shows it: without Docker Hub's name, with a tag.

    https://pkg.go.dev/github.com/distribution/reference#FamiliarString
    """
    for prefix in ("docker.io/", "index.docker.io/"):
        reference = reference.removeprefix(prefix)
    if reference.startswith("library/") and reference.count("/") == 1:
        reference = reference[len("library/") :]
    name, _, digest = reference.partition("@")
    path, _, last = name.rpartition("/")
    untagged = last.partition(":")[0]
    if digest:  # which the engine keeps without a tag beside it
        return f"{path}/{untagged}@{digest}" if path else f"{untagged}@{digest}"
    return name if ":" in last else f"{name}:latest"


def digest_of(reference: str) -> str:
    """Return what stands for a reference in our tags."""
    return hashlib.sha256(familiar(reference).encode()).hexdigest()[:20]


def record_of(image_id: str, reference: str, used_at: float) -> str:
    """Return our tag for the use of an image by a reference."""
    image = image_id.rpartition(":")[2][:20]
    return f"{REPOSITORY}:{image}-{digest_of(reference)}-{int(used_at)}"


def records_in(tags: list[str]) -> list[Record]:
    """Return our tags among an image's."""
    found = ((tag, RECORD.fullmatch(tag)) for tag in tags)
    return [Record(tag, match[2], int(match[3])) for tag, match in found if match]


def filled_percent(path: str) -> float:
    """Return how full the disk of *path* is, as `df` shows it."""
    disk = os.statvfs(path)
    used = disk.f_blocks - disk.f_bfree
    return 100.0 * used / max(1, used + disk.f_bavail)


def pull_with_room(shared: SharedEngine, reference: str, pull: Callable[[], None]) -> None:
    """Make room if the disk is full, pull, and record the use; raises as *pull* does."""
    images = Images(shared)
    images.make_room(ROOM_SECONDS)
    brought = images.belongs_to_jobs(reference)
    try:
        pull()
    except PullFailedError as error:
        if DISK_FULL not in str(error) or not images.make_room(ROOM_SECONDS, full=True):
            raise
        log("pulling again, with more room on the disk")
        pull()
    if brought:
        images.note_use(reference)


def create_with_image(create: Callable[[], None], prepare: Callable[[], None]) -> None:
    """Create a container; *prepare* again if another job's need of room took its image meanwhile.

    Between a pull and the creation no container holds the image. Raises as both do.
    """
    for _ in range(CREATE_TRIES - 1):
        try:
            create()
        except CouldNotRunError as error:
            if NO_IMAGE not in str(error):
                raise
            log("the image went before the container was created")
            prepare()
        else:
            return
    create()


class Images:
    """The images of a shared engine."""

    def __init__(
        self, shared: SharedEngine, filled: Callable[[str], float] = filled_percent
    ) -> None:
        self._shared = shared
        self._filled = filled

    def belongs_to_jobs(self, reference: str) -> bool:
        """Return whether jobs have brought an image, or will have; False: it is a user's.

        One that is there is marked as used now, so that it is not removed before its container
        is created.
        """
        brought = False
        with self._engine("look for an image") as engine:
            seen = engine.request("GET", f"/images/{_quoted(reference)}/json")
            if seen.status == 200:
                brought = bool(_records_of(seen.body, reference))
            else:
                brought = seen.status == 404
            if brought and seen.status == 200:
                self._record(engine, seen.body, reference)
        return brought

    def note_use(self, reference: str) -> None:
        """Record the use of an image that jobs have brought."""
        with self._engine("note the use of an image") as engine:
            seen = engine.request("GET", f"/images/{_quoted(reference)}/json")
            if seen.status == 200:
                self._record(engine, seen.body, reference)

    def make_room(self, seconds: float, *, full: bool = False) -> bool:
        """Remove images that jobs brought, the longest unused first, until the disk is not full.

        *full*: as if it was, and all that may go. Return whether one was removed.
        """
        removed = False
        disk = self._shared.engine_disk
        if disk and not full and not self._is_full(disk):
            return removed
        deadline = time.monotonic() + seconds
        with self._engine("make room for images") as engine:
            disk = disk or _disk_of(engine)
            if full or self._is_full(disk):
                for image_id in self._removable(engine):
                    removed = _remove(engine, image_id, deadline) or removed
                    if time.monotonic() >= deadline or not (full or self._is_full(disk)):
                        break
        return removed

    def _is_full(self, disk: str) -> bool:
        try:
            return bool(disk) and self._filled(disk) >= self._shared.images_disk_percent
        except OSError:
            return False

    @contextlib.contextmanager
    def _engine(self, purpose: str) -> Iterator[EngineApi]:
        """Connect to the engine; a failure of it, or an answer of another kind, is logged."""
        try:
            with contextlib.closing(EngineApi()) as engine:
                yield engine
        except (EngineError, KeyError, TypeError, ValueError, AttributeError) as error:
            log(f"could not {purpose}", error=f"{type(error).__name__}: {error}")

    def _record(self, engine: EngineApi, image: dict[str, Any], reference: str) -> None:
        now = time.time()
        before = _records_of(image, reference)
        if any(each.used_at > now - REMEMBER_SECONDS for each in before):
            return
        image_id = str(image["Id"])
        repository, _, tag = record_of(image_id, reference, now).partition(":")
        query = urlencode({"repo": repository, "tag": tag})
        made = engine.request("POST", f"/images/{image_id}/tag?{query}")
        if made.status != 201:
            log("the use of an image is not recorded", error=made.message)
            return
        for each in before:  # another agent may have added a newer one meanwhile
            engine.request("DELETE", f"/images/{each.tag}?noprune=true")

    def _removable(self, engine: EngineApi) -> list[str]:
        """Return the images that jobs brought and none has used for long, the oldest use first."""
        containers = engine.request("GET", "/containers/json?all=1").body
        busy = {str(each["ImageID"]) for each in containers}
        unused_since = time.time() - self._shared.images_keep_hours * 3600
        found = []
        for each in engine.request("GET", "/images/json").body:
            uses = [record.used_at for record in records_in(each.get("RepoTags") or [])]
            if uses and max(uses) <= unused_since and each["Id"] not in busy:
                found.append((max(uses), str(each["Id"])))
        return [image_id for _, image_id in sorted(found)]


def _quoted(reference: str) -> str:
    return quote(reference, safe="/:@")


def _records_of(image: dict[str, Any], reference: str) -> list[Record]:
    """Return our tags of an image for one reference."""
    records = records_in(image.get("RepoTags") or [])
    return [each for each in records if each.reference == digest_of(reference)]


def _remove(engine: EngineApi, image_id: str, deadline: float) -> bool:
    """Remove an image with our tags and the references that jobs named; not if a user has it too.

    Never by force: the engine refuses what a container uses. It goes on without us after
    *deadline*.
    """

    def delete(reference: str) -> None:
        seconds = max(1.0, deadline - time.monotonic())
        engine.request("DELETE", f"/images/{reference}", None, seconds)

    seen = engine.request("GET", f"/images/{image_id}/json").body
    tags, digests = list(seen.get("RepoTags") or []), list(seen.get("RepoDigests") or [])
    records = records_in(tags)
    named = {each.reference for each in records}
    ours = [each for each in [*tags, *digests] if digest_of(each) in named]
    if set(tags) - {each.tag for each in records} - set(ours):
        return False
    for each in [*ours, *(record.tag for record in records)]:
        delete(each)
    if engine.request("GET", f"/images/{image_id}/json").status == 200:  # a digest is left
        delete(image_id)
    gone = engine.request("GET", f"/images/{image_id}/json").status == 404
    megabytes = round(int(seen.get("Size") or 0) / 1e6)
    log("image removed" if gone else "image not removed", image=image_id, tags=ours, mb=megabytes)
    return gone


def _disk_of(engine: EngineApi) -> str:
    """Return a directory of the engine's images on this machine; empty if they are elsewhere."""
    info: dict[str, Any] = engine.request("GET", "/info").body
    if info.get("Name") != os.uname().nodename:
        return ""
    stores = ["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or [])
    for path in ([CONTAINERD_ROOT] if stores else []) + [str(info.get("DockerRootDir") or "")]:
        if os.path.isdir(path):
            return path
    return ""
