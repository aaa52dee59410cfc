"""The log of a whole process: libraries' lines, warnings and what ends it too."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.terminal import CONTROL

ROOT = Path(__file__).parents[2]
HOSTILE = "x\x1b]52;c;aGk=\x07\x1b[2J\r\x9b31m\u202e\x7f\u2028\ud800postgresql://u:s3cret@h\nFORGED"
PROGRAM = """
import json, logging, sys, warnings
from shared.log import configure, get_logger

hostile = json.loads(sys.argv[2])
configure(pretty=sys.argv[1] == "pretty")
log = get_logger(service="api")
log.info("first " + hostile, message=hostile, names=[hostile], labels={hostile: hostile})
logging.getLogger("uvicorn.error").error("second %s", hostile)
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("third")
    logging.getLogger("asyncio").exception("fourth " + hostile)
warnings.warn("fifth " + hostile)
raise RuntimeError("sixth " + hostile)
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def log_of(form: str) -> str:
    """Return what such a process writes to standard error; it ends for an unexpected error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, json.dumps(HOSTILE)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    return done.stderr.decode()


@pytest.mark.parametrize("form", ["pretty", "json"])
def test_what_is_hostile_in_a_log_commands_no_terminal_and_forges_no_entry(form: str) -> None:
    text = log_of(form)
    through = re.findall(CONTROL, COLOUR.sub("", text))
    print(f"{form}: {len(through)} control characters came through, of 6 entries")
    assert not through, ascii(text)
    assert "s3cret" not in text
    for entry in ("first", "second", "third", "fourth", "fifth", "sixth"):
        assert entry in text
    if form == "json":
        assert len([json.loads(line) for line in text.splitlines()]) == 6
    else:
        # Only a traceback has lines, and it ends with its message.
        forged = [line for line in text.splitlines() if line.startswith("FORGED")]
        assert len(forged) == text.count("Traceback (most recent call last)")
