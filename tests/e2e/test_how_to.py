"""The curls of the how-to guides, typed as they stand, on the simulated runtime."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.systems.embedded_system import EmbeddedSystem

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl on the PATH")

GUIDES = Path(__file__).resolve().parents[2] / "docs/how-to"
PAGES = (
    "run-a-job.md",  # first: it follows job 1
    "plan-a-job.md",
    "read-logs.md",
    "what-a-container-gets.md",
    "retries-and-interruptions.md",
    "secrets-and-private-images.md",
    "find-out-why-a-job-waits.md",
    "see-what-it-costs.md",
)
CURLRC = 'silent\nshow-error\nmax-time = 30\nwrite-out = "\\n%{http_code}\\n"\n'
EXPECTED = {"200", "201", "409"}
"""409: the first job may be over when the guide cancels it."""


def curl_blocks(page: str) -> list[str]:
    """Return the blocks of *page* that consist of curls."""
    blocks = re.findall(r"^```\n(.*?)^```", (GUIDES / page).read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith("curl ")]


def test_each_curl_of_the_guides_is_answered(system: EmbeddedSystem, tmp_path: Path) -> None:
    system.start()
    (tmp_path / ".curlrc").write_text(CURLRC)
    blocks = [block for page in PAGES for block in curl_blocks(page)]
    assert len(blocks) >= len(PAGES)
    for block in blocks:
        script = block.replace("http://127.0.0.1:8000", system.address)
        run = subprocess.run(
            ["bash", "-ec", script],
            env=os.environ | {"CURL_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        codes = re.findall(r"^\d{3}$", run.stdout, re.MULTILINE)
        assert len(codes) == len(re.findall(r"^curl ", block, re.MULTILINE)), run
        assert set(codes) <= EXPECTED, run
    assert system.interrupt() == 0
