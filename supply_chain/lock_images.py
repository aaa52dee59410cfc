"""Writes into `images.lock` the digest that the registry has for each image's tag: `make lock`.

Each line is `VARIABLE=NAME:TAG@sha256:…`. The digest is that of the index of all architectures, as
`docker buildx imagetools inspect` shows it:
https://docs.docker.com/reference/cli/docker/buildx/imagetools/inspect/. An image whose registry
does not answer keeps its line, and is named.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LOCK = Path("images.lock")
LINE = re.compile(r"(?P<variable>[A-Z_]+)=(?P<tag>[^@\s]+)(@(?P<digest>sha256:[0-9a-f]{64}))?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SECONDS = 60


class NotReached(Exception):
    """The registry gave no digest. The message has the reason in one line."""


def digest_of(tag: str) -> str:
    """Ask the registry for the digest of *tag*. Raises `NotReached`."""
    inspect = ("docker", "buildx", "imagetools", "inspect", tag, "--format", "{{json .Manifest}}")
    try:
        done = subprocess.run(inspect, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise NotReached("there is no `docker` on the PATH") from None
    except subprocess.TimeoutExpired:
        raise NotReached(f"no answer within {SECONDS} s") from None
    if done.returncode != 0:
        raise NotReached((done.stderr.strip().splitlines() or ["docker buildx failed"])[-1])
    try:
        digest = str(json.loads(done.stdout)["digest"])
    except (ValueError, LookupError, TypeError):
        digest = ""
    if not DIGEST.fullmatch(digest):
        raise NotReached("the answer has no digest")
    return digest


def locked(text: str, ask: Callable[[str], str], note: Callable[[str], None]) -> str:
    """Return the lock file *text* with the digests that *ask* returns.

    Raises `ValueError` for a line that is neither a comment nor an image.
    """
    lines = []
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            if line.strip() and not line.startswith("#"):
                raise ValueError(f"{line!r} is no image: write VARIABLE=NAME:TAG")
            lines.append(line)
            continue
        try:
            digest = ask(found["tag"])
        except NotReached as error:
            kept = found["digest"] or "by its tag alone"
            note(f"not locked: {found['tag']} stays {kept}, since its registry was not reached")
            note(f"  ({error})")
            lines.append(line)
        else:
            lines.append(f"{found['variable']}={found['tag']}@{digest}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrite `images.lock` in the current directory."""
    text = LOCK.read_text()
    fresh = locked(text, digest_of, lambda line: print(ascii(line)[1:-1], file=sys.stderr))
    if fresh != text:
        LOCK.write_text(fresh)


if __name__ == "__main__":
    main()
