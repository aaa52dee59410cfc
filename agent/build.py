"""Build the agent: its package in one file, which `python3 -I -S FILE` runs.

The launcher gives instances the file's hash and the API serves its bytes, from different images and
perhaps different versions of Python. So the bytes depend on the sources alone: these are stored,
because each zlib compresses in its own way, in the order of their names, with fixed times,
permissions and system; and without byte code, which only one version of Python reads.

    python -m agent.build FILE
"""

import hashlib
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "docker_job_agent"
MAIN = b"""\
import sys

from docker_job_agent.main import main

sys.exit(main(sys.argv[1:]))
"""
TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can name
UNIX = 3  # of the systems that a zip file can name
FILE_MODE = 0o100644


def build(package: Path = PACKAGE) -> bytes:
    """Return the bytes of the built file."""
    sources = {f"{package.name}/{each.name}": each.read_bytes() for each in package.glob("*.py")}
    built = io.BytesIO()
    with zipfile.ZipFile(built, "w") as archive:
        for name, content in sorted({**sources, "__main__.py": MAIN}.items()):
            entry = zipfile.ZipInfo(name, TIME)
            entry.compress_type = zipfile.ZIP_STORED
            entry.create_system = UNIX
            entry.external_attr = FILE_MODE << 16
            archive.writestr(entry, content)
    return built.getvalue()


def write(content: bytes, path: Path, mode: int = 0o644) -> None:
    """Write a built file atomically: a reader finds all of it or nothing."""
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.chmod(made, mode)
        os.replace(made, path)
    except BaseException:
        os.unlink(made)
        raise


def keep(directory: Path) -> Path:
    """Build the agent into *directory* unless it is there; return its path.

    The file's name holds its hash: an agent that runs imports from its own file, and starts it
    again for its guard, whatever is built after an upgrade.
    """
    content = build()
    path = directory / f"docker_job_agent-{hashlib.sha256(content).hexdigest()[:16]}.pyz"
    if not path.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(content, path, 0o600)
    return path


def main(arguments: list[str]) -> int:
    """Build the agent into the file that the argument names."""
    if len(arguments) != 1:
        print("usage: python -m agent.build FILE", file=sys.stderr)
        return 64
    write(build(), Path(arguments[0]).absolute())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
