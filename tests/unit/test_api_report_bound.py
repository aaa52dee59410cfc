"""The bound of an agent's report fits the largest that an agent makes."""

import json

from agent.docker_job_agent.line_queue import MAX_BATCH_BYTES, MAX_BATCH_LINES
from agent.docker_job_agent.lines import Line, size_of
from agent.docker_job_agent.logs import LogBuffer
from agent.docker_job_agent.redraw import MAX_PIECE_BYTES
from services.api.http.bodies import REPORT_BYTES

AT = "2026-12-01T00:00:00.000000+00:00"
WORST = "\x01"
"""JSON writes six bytes for it."""


def report_of(lines: list[Line]) -> int:
    """Return the bytes of the agent's largest batch of *lines*, sent as the agent sends it."""
    buffer = LogBuffer(2**40, 20)
    for line in lines:
        buffer.add(line)
    batch = [line.as_json() for line in buffer.take_batch()]
    body = {"seq": 2**31 - 1, "lines": batch, "left_out": {"lines": 2**53 - 1, "bytes": 2**53 - 1}}
    report = {"phase": "stopping", "logs": body, "detail": WORST * 200}
    return len(json.dumps(report, ensure_ascii=False).encode())


def test_the_largest_report_of_an_agent_is_taken() -> None:
    short = Line(AT, "docker-job", WORST * (MAX_BATCH_BYTES // MAX_BATCH_LINES - 2), "unfinished")
    long = Line(AT, "docker-job", WORST * MAX_PIECE_BYTES, "unfinished")
    many = [short] * (MAX_BATCH_LINES - 1) + [long]
    assert sum(map(size_of, many[:-1])) < MAX_BATCH_BYTES
    sizes = [report_of(each) for each in (many, [long] * 20, [short] * 2000)]
    print(f"the largest reports have {sizes} bytes of {REPORT_BYTES}")
    assert 900_000 < max(sizes) < REPORT_BYTES
