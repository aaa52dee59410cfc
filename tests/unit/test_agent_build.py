"""The agent's built file: the same bytes wherever they are built, run by any Python."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent.build import MAIN, PACKAGE, build, keep, main
from services.api.agents.agent_file import read_agent_file
from shared.adapters import agent_sha256
from shared.settings import BadSetting
from tests.support.agent_file import python_of


def run(*command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, env={}, capture_output=True, text=True, timeout=30, check=False
    )


def another_tree(root: Path) -> Path:
    """Copy the package, with other times and permissions, made in another order."""
    package = root / PACKAGE.name
    package.mkdir(mode=0o700)
    for number, source in enumerate(sorted(PACKAGE.glob("*.py"), reverse=True)):
        copy = package / source.name
        shutil.copyfile(source, copy)
        copy.chmod(0o600 if number % 2 else 0o755)
        os.utime(copy, (number * 1e6, number * 1e6))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "main.cpython-313.pyc").write_bytes(b"other")
    (package / ".main.py.swp").write_bytes(b"other")
    return package


def built_by(python: str, directory: Path) -> bytes:
    """Return the file that this Python builds in a process of its own, with a umask of its own."""
    code = (
        "import os, sys; os.umask(0o077); sys.path.insert(0, sys.argv[1]);"
        "from agent.build import main; sys.exit(main(sys.argv[2:]))"
    )
    command = (python, "-O", "-I", "-S", "-B", "-c", code, str(PACKAGE.parents[1]), "other.pyz")
    done = run(*command, directory=directory)

    assert (done.returncode, done.stderr) == (0, "")
    assert (directory / "other.pyz").stat().st_mode & 0o777 == 0o644
    return (directory / "other.pyz").read_bytes()


def test_two_trees_with_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    assert build(another_tree(tmp_path)) == build()


def test_another_process_with_another_umask_gives_the_same_bytes(tmp_path: Path) -> None:
    assert built_by(sys.executable, tmp_path) == build()


@pytest.mark.parametrize("version", ["3.9", "3.12", "3.13"])
def test_other_versions_of_python_give_the_same_bytes(tmp_path: Path, version: str) -> None:
    assert built_by(python_of(version), tmp_path) == build()


def test_a_changed_source_gives_other_bytes(tmp_path: Path) -> None:
    package = another_tree(tmp_path)
    with (package / "log.py").open("a") as source:
        source.write("\n")

    assert build(package) != build()


def test_what_could_differ_between_machines_is_fixed() -> None:
    with zipfile.ZipFile(io.BytesIO(build())) as archive:
        entries = archive.infolist()
        assert archive.read("__main__.py") == MAIN

    names = [each.filename for each in entries]
    assert names == sorted(
        ["__main__.py", *(f"docker_job_agent/{each.name}" for each in PACKAGE.glob("*.py"))]
    )
    assert {each.date_time for each in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {each.compress_type for each in entries} == {zipfile.ZIP_STORED}
    assert {each.create_system for each in entries} == {3}
    assert {each.external_attr >> 16 for each in entries} == {0o100644}


def test_the_built_file_runs_alone_and_isolated(tmp_path: Path) -> None:
    path = keep(tmp_path)
    (tmp_path / "json.py").write_text("raise RuntimeError('not isolated')")

    done = run(sys.executable, "-I", "-S", str(path), directory=tmp_path)

    assert done.returncode == 78
    assert "DOCKER_JOB_MAX_LIFETIME_SECONDS is not set" in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == [path.name, "json.py"]


@pytest.mark.parametrize("name", ["agent", "agent.py"])
def test_the_built_file_runs_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(build())

    done = run(sys.executable, "-I", "-S", name, "--unknown", directory=tmp_path)

    assert done.returncode == 64


def test_a_kept_file_is_named_by_its_hash_and_written_once(tmp_path: Path) -> None:
    path = keep(tmp_path / "new")
    before = path.stat()

    assert (
        hashlib.sha256(path.read_bytes())
        .hexdigest()
        .startswith(path.stem.removeprefix("docker_job_agent-"))
    )
    assert keep(tmp_path / "new") == path
    assert path.stat() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_build_without_a_place_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert "usage: python -m agent.build FILE" in capsys.readouterr().err


def test_the_launcher_knows_the_hash_of_the_file_that_the_api_serves() -> None:
    served = read_agent_file()

    assert agent_sha256(None) == served.sha256
    assert hashlib.sha256(served.content).hexdigest() == served.sha256


def test_a_setting_names_another_file(tmp_path: Path) -> None:
    path = tmp_path / "agent.pyz"
    path.write_bytes(b"another")

    assert agent_sha256(path) == hashlib.sha256(b"another").hexdigest()
    with pytest.raises(BadSetting, match=r"DOCKER_JOB_AGENT_PATH is .*missing.*No such file"):
        agent_sha256(tmp_path / "missing")
