"""The synchronous half of the client is what `make client` makes of the asynchronous one."""

import runpy
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[2] / "client"


def test_the_synchronous_half_is_current(tmp_path: Path) -> None:
    runpy.run_path(str(CLIENT / "make_sync.py"))["make"](tmp_path)
    made = {each.name: each.read_text() for each in tmp_path.glob("*.py")}
    kept = {each.name: each.read_text() for each in (CLIENT / "docker_job/_sync").glob("*.py")}
    assert kept == made, "run: make client"
