"""A virtual cloud beside a compose project, and the scripts of `deploy/` run on that project."""

import json
import subprocess
from pathlib import Path

from tests.support.run.state import ROOT
from tests.support.systems.compose_project import UP_SECONDS, ComposeProject, docker

CLOUD = """\
services:
  cloud:
    image: ${DOCKER_JOB_IMAGE}
    pull_policy: never
    entrypoint: [python, -m, shared.compute.simulator.serve]
    command: ["sim://0.0.0.0:7000?seed=7&boot_seconds=0.5&stop_seconds=0.5"]
    networks: [inside]
    depends_on:
      secrets: { condition: service_completed_successfully }
"""

TRUTH = (
    "import urllib.request as u; print(u.urlopen('http://localhost:7000/truth').read().decode())"
)


def run_script(project: ComposeProject, script: str, *arguments: str | Path) -> str:
    """Return the output of deploy/*script* for this project."""
    done = start_script(project, script, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def start_script(
    project: ComposeProject, script: str, *arguments: str | Path, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Run deploy/*script* for this project, whatever its status."""
    files = " ".join(f"--file {each}" for each in project._files)
    return subprocess.run(
        [ROOT / "deploy" / script, *arguments],
        cwd=project._clone.directory,
        env=project._environ
        | {"COMPOSE": f"docker compose --project-name {project.name} {files}"}
        | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * UP_SECONDS,  # it stops, restores, and brings all of it up again
        check=False,
    )


def living(project: ComposeProject) -> int:
    """Count the served cloud's running instances."""
    output = docker("exec", project.container("cloud"), "python", "-ISc", TRUTH)
    return int(json.loads(output)["living"])
