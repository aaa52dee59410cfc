"""The images contain no program that gives rights, and none that installs others."""

import json

import pytest

from tests.support.systems.compose_project import BUILD_SECONDS, BuiltClone, docker

pytestmark = pytest.mark.timeout(900)

LOOK = """
import importlib.util, json, os, shutil, stat
privileged = []
device = os.lstat("/").st_dev
for directory, names, files in os.walk("/"):
    names[:] = [each for each in names if os.lstat(os.path.join(directory, each)).st_dev == device]
    for each in files:
        mode = os.lstat(os.path.join(directory, each)).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            privileged.append(os.path.join(directory, each))
modules = ("pip", "ensurepip", "setuptools", "wheel", "pkg_resources")
print(json.dumps({
    "uid": os.getuid(),
    "privileged": privileged,
    "modules": [each for each in modules if importlib.util.find_spec(each)],
    "programs": [each for each in ("pip", "pip3", "easy_install", "wheel") if shutil.which(each)],
}))
"""


def look_into(image: str, *options: str) -> dict[str, object]:
    """Return what a container of *image* finds in itself."""
    python = ("--rm", "--network", "none", "--read-only", *options, "--entrypoint", "python")
    found = json.loads(docker("run", *python, image, "-c", LOOK))
    assert isinstance(found, dict)
    return found


@pytest.fixture(params=["service", "instance", "rehearsal"])
def image(request: pytest.FixtureRequest, clone: BuiltClone) -> str:
    """Build a target of the Dockerfile; most of it is in the engine's cache."""
    target = ("--target", request.param)
    return docker("build", "--quiet", *target, str(clone.directory), seconds=BUILD_SECONDS)


def test_an_image_has_no_setuid_program_and_no_installer_and_does_not_run_as_root(
    image: str,
) -> None:
    base = look_into("python:3.13-slim", "--user", "root")
    inside = look_into(image, "--user", "root")  # who sees every directory
    assert isinstance(base["privileged"], list)
    print(f"{len(base['privileged'])} programs of the base image had a bit, none of this one has")
    assert base["privileged"]
    assert base["modules"]
    assert inside == {"uid": 0, "privileged": [], "modules": [], "programs": []}
    assert look_into(image)["uid"] == 10001


def test_the_base_image_is_the_one_that_the_build_names(clone: BuiltClone) -> None:
    named = "docker-job-test-base:of-another-name"
    docker("tag", "python:3.13-slim", named)
    try:
        argument = ("--build-arg", f"PYTHON_IMAGE={named}", "--target", "bare", "--quiet")
        built = docker("build", *argument, str(clone.directory), seconds=BUILD_SECONDS)
    finally:
        docker("image", "rm", named)
    layers = json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", built))
    template = ("--format", "{{json .RootFS.Layers}}", "python:3.13-slim")
    base = json.loads(docker("image", "inspect", *template))
    assert layers[: len(base)] == base
    broken = ("--build-arg", f"PYTHON_IMAGE={named}-missing", "--target", "bare", "--quiet")
    with pytest.raises(AssertionError, match="of-another-name-missing"):
        docker("build", *broken, str(clone.directory), seconds=BUILD_SECONDS)
