"""The lock of images: who names them, and what `make lock` writes into it."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # moto brings it, without types

from supply_chain.lock_images import LINE, NotReached, digest_of, locked

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose.yaml"
LOCKED = (ROOT / "images.lock").read_text()
DIGEST = "sha256:" + "0123456789abcdef" * 4
ONE_SHOT_WITHOUT_NETWORK = "none"


def images() -> dict[str, str]:
    """Return each variable of the lock and its tag."""
    found = (LINE.fullmatch(line) for line in LOCKED.splitlines())
    return {each["variable"]: each["tag"] for each in found if each}


def test_the_lock_compose_and_the_dockerfile_name_the_same_images() -> None:
    interpolated = re.findall(r"\$\{([A-Z_]+_IMAGE):-([^}]+)\}", COMPOSE.read_text())
    others = {name: tag for name, tag in interpolated if not name.startswith("DOCKER_JOB_")}
    assert others == images()
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"ARG PYTHON_IMAGE={images()['PYTHON_IMAGE']}\n" in dockerfile
    froms = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile, re.MULTILINE)
    stages = {stage for _, stage in froms}
    assert {base for base, _ in froms} - stages == {"${PYTHON_IMAGE}"}


def test_every_service_of_compose_is_bounded_and_has_no_rights() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, each in services.items():
        assert 0 < each["pids_limit"] <= 4096, name
        assert each["mem_limit"], name
        assert each["read_only"], name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
    print(f"{len(services)} of {len(services)} services have a bound on processes and memory")


def test_every_build_of_compose_takes_the_base_image_as_an_argument() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    builds = [each["build"] for each in services.values() if "build" in each]
    assert len(builds) == 3
    assert all("PYTHON_IMAGE" in each["args"] for each in builds)


def test_a_digest_is_written_behind_its_tag_and_a_later_one_replaces_it() -> None:
    text = "# of others\nA_IMAGE=a:1\nB_IMAGE=b:2@sha256:" + "f" * 64 + "\n"
    notes: list[str] = []
    asked: list[str] = []

    def ask(tag: str) -> str:
        asked.append(tag)
        return DIGEST

    fresh = f"# of others\nA_IMAGE=a:1@{DIGEST}\nB_IMAGE=b:2@{DIGEST}\n"
    assert locked(text, ask, notes.append) == fresh
    assert (asked, notes) == (["a:1", "b:2"], [])


def test_an_image_whose_registry_is_not_reached_keeps_its_line_and_is_named() -> None:
    old = "sha256:" + "f" * 64
    text = f"A_IMAGE=a:1\nB_IMAGE=b:2@{old}\n"
    notes: list[str] = []

    def ask(_tag: str) -> str:
        raise NotReached("no such host")

    assert locked(text, ask, notes.append) == text
    assert "a:1 stays by its tag alone" in notes[0]
    assert f"b:2 stays {old}" in notes[2]
    assert all("no such host" in each for each in notes[1::2])


def test_a_line_that_names_no_image_is_refused() -> None:
    for line in ("A_IMAGE=", "a:1", f"A_IMAGE=a:1@{DIGEST[:-1]}", "A_IMAGE=a:1 B_IMAGE=b"):
        with pytest.raises(ValueError, match="is no image"):
            locked(line, lambda _tag: DIGEST, print)


@pytest.mark.parametrize(
    ("printed", "status", "reason"),
    [
        (f'{{"mediaType": "x", "digest": "{DIGEST}"}}', 0, None),
        ('{"digest": "sha256:short"}', 0, "has no digest"),
        ("<html>", 0, "has no digest"),
        ("[]", 0, "has no digest"),
        ("", 1, "no such host"),
    ],
)
def test_a_digest_is_taken_only_from_a_registrys_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, status: int, reason: str | None
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho '{printed}'\necho no such host >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    if reason is None:
        assert digest_of("a:1") == DIGEST
        return
    with pytest.raises(NotReached, match=reason):
        digest_of("a:1")


def test_a_deployment_takes_the_locks_images(tmp_path: Path) -> None:
    start = ROOT / "deploy" / "instance" / "start.sh"
    lock = tmp_path / "images.lock"
    lock.write_text(f"# of others\nPYTHON_IMAGE=python:3.13-slim@{DIGEST}\n")
    [loads] = re.findall(r'^  (source "\$\{IMAGES_LOCK.*?)\s*#', start.read_text(), re.MULTILINE)
    script = f"set -euo pipefail; release_dir={tmp_path}; set -a; {loads}; env"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert f"PYTHON_IMAGE=python:3.13-slim@{DIGEST}\n" in done.stdout
