"""The smallest program that keeps the agent's side of the process adapter's contract.

It works for the job's SIMULATE_SECONDS; a job with STUB_DEAF in its environment makes it ignore
SIGTERM.
"""

import fcntl
import json
import os
import signal
import sys
import time
import urllib.request
from pathlib import Path

HOME = Path(os.environ["DOCKER_JOB_INSTANCE_DIR"])


def write(name: str, text: str) -> None:
    draft = HOME / f"{name}.new"
    draft.write_text(text)
    draft.replace(HOME / name)


def end(reason: str) -> None:
    write("ended", json.dumps({"at": time.time(), "reason": reason}))
    os._exit(0)


def call(method: str, path: str, token: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(  # noqa: S310 - the address that we were started with
        os.environ["DOCKER_JOB_API_URL"] + path,
        data=json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        read: dict[str, object] = json.loads(answer.read())
    return read


def main() -> None:
    with (HOME / "alive.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(75)
        write("pid", str(os.getpid()))
        signal.signal(signal.SIGTERM, lambda *_: end("terminated"))
        job_id = int(os.environ["DOCKER_JOB_JOB_ID"])
        claim: dict[str, object] = {
            "job_id": job_id,
            "attempt": int(os.environ["DOCKER_JOB_ATTEMPT"]),
            "instance_id": os.environ["DOCKER_JOB_INSTANCE_ID"],
            "token": "t" * 64,
            "environment": sorted(os.environ),
        }
        claimed = call("POST", "/agent/claim", os.environ["DOCKER_JOB_BOOTSTRAP_TOKEN"], claim)
        job = claimed["job"]
        assert isinstance(job, dict)
        env = job["env_vars"]
        if "STUB_DEAF" in env:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        call("POST", f"/agent/jobs/{job_id}/report", "t" * 64, {"phase": "running", "logs": None})
        time.sleep(float(env.get("SIMULATE_SECONDS", 0)))
        call("PUT", f"/callback/{job_id}", "t" * 64, {"exit_code": 0})
        end("final callback accepted")


main()
