"""Removes from an image what a running service has no use for: run while the image is built.

Installers of packages (pip, its bundled copies, setuptools) would fetch programs into a container.
A program with a setuid or setgid bit runs as another user than its caller. CIS Docker Benchmark,
4.8: "Ensure setuid and setgid permissions are removed". Standard library alone, since nothing else
is installed at that step.
"""

import os
import re
import shutil
import stat
import sysconfig
from collections.abc import Iterator
from pathlib import Path

INSTALLER = re.compile(
    r"(pip|setuptools|wheel|pkg_resources|_distutils_hack|ensurepip|python-wheels)"
    r"(-[^/]*\.(dist|egg)-info)?|distutils-precedence\.pth"
)
PROGRAM = re.compile(r"(pip|wheel|easy_install)[0-9.-]*")
PROGRAM_DIRS = (Path("/usr/bin"), Path("/usr/local/bin"))
SET_ID = stat.S_ISUID | stat.S_ISGID


def installers() -> Iterator[Path]:
    """Find the installers' packages and programs of this Python."""
    libraries = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    debian = {Path("/usr/lib/python3/dist-packages"), Path("/usr/share")}
    for directory in sorted(libraries | debian):
        if directory.is_dir():
            yield from (each for each in directory.iterdir() if INSTALLER.fullmatch(each.name))
    for directory in PROGRAM_DIRS:
        if directory.is_dir():
            yield from (each for each in directory.iterdir() if PROGRAM.fullmatch(each.name))


def privileged_programs(root: Path = Path("/")) -> Iterator[Path]:
    """Find the files of the image's own file system that have a setuid or setgid bit."""
    device = root.stat().st_dev
    for directory, names, files in os.walk(root):
        here = Path(directory)
        names[:] = [
            each
            for each in names
            if not (here / each).is_symlink() and (here / each).lstat().st_dev == device
        ]
        for name in files:
            mode = (here / name).lstat().st_mode
            if stat.S_ISREG(mode) and mode & SET_ID:
                yield here / name


def main() -> None:
    """Remove the installers, and the bits."""
    for path in list(installers()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in list(privileged_programs()):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~SET_ID)


if __name__ == "__main__":
    main()
