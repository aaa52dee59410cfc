"""The client's package: built as a wheel, installed alone, typed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docker_job import __version__

CLIENT = Path(__file__).resolve().parents[2] / "client"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
ALONE = ["--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    build = [*PIP, "wheel", *ALONE, "--no-build-isolation", "--wheel-dir", str(directory)]
    subprocess.run([*build, str(CLIENT)], check=True, timeout=120)
    [built] = directory.glob("*.whl")
    return built


def test_the_wheel_has_every_module_the_types_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"docker_job-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (each.relative_to(CLIENT) for each in (CLIENT / "docker_job").rglob("*"))
    kept = {str(each) for each in files if each.suffix == ".py" or each.name == "py.typed"}
    assert packed == kept


def test_the_wheel_runs_where_the_checkout_is_not(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", *ALONE, "--target", str(site), str(wheel)], check=True)
    environ = {**os.environ, "PYTHONPATH": str(site)}
    show = "import docker_job, docker_job.cli.main; print(docker_job.__file__)"
    for arguments, printed in (
        (["-c", show], str(site / "docker_job" / "__init__.py")),
        (["-m", "docker_job", "--version"], f"docker-job, version {__version__}"),
    ):
        ran = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.strip() == printed
    assert (site / "bin" / "docker-job").exists()
