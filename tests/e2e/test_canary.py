"""I13: no secret in logs, events, rows or answers: canaries, and a search of all that is kept."""

import asyncio
import json
from pathlib import Path

import httpx

from shared import tokens
from shared.postgres.pool import connect
from tests.support.systems.embedded_system import EmbeddedSystem

SECRET = "canary-secret-8d21"
PLAIN = "canary-plain-77b0"

TABLES = """
SELECT schemaname || '.' || tablename AS name FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""


async def rows_of(dsn: str) -> dict[str, str]:
    """Every table of every service, as text; bytes are shown as they are where they are text."""
    conn = await connect(dsn)
    try:
        found = {}
        for table in await conn.fetch(TABLES):
            rows = await conn.fetch(f"SELECT * FROM {table['name']}")  # noqa: S608 - from the catalogue
            found[table["name"]] = repr([tuple(row) for row in rows])
        return found
    finally:
        await conn.close()


def logs_of(system: EmbeddedSystem) -> str:
    """Return the logs of the services and the agents."""
    instances = system.data_dir / "data" / "instances"
    files = [system.log, *(each for each in instances.rglob("*") if each.is_file())]
    return "\n".join(_text(each) for each in files)


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def answers_of(system: EmbeddedSystem, job_id: int) -> str:
    """Return all that a user can get, errors included."""
    paths = (
        *("/list", "/list?limit=all", f"/status/{job_id}", f"/jobs/{job_id}/logs", "/readyz"),
        *("/instances", "/stats?group_by=docker_image", "/totals", "/about", "/deadletters"),
        *("/audit", "/keys", "/quotas", "/nothing", f"/nothing/{job_id}"),
    )
    answers = [system.http.get(path) for path in paths]
    wrong: list[dict[str, object]] = [
        {"docker_image": "", "secret_env": {"A": SECRET}},
        {"docker_image": "alpine", "scheduled_for": "now", "secret_env": {"A": f"{SECRET}\0"}},
        {"docker_image": "alpine", "scheduled_for": "now", "secret_env": [SECRET]},
        {"docker_image": "alpine", "scheduled_for": "now", "secrets": {"A": f" {SECRET}"}},
    ]
    answers += [system.http.post("/schedule", json=body) for body in wrong]
    answers.append(bad_claim(system, job_id))
    answers.append(system.http.post(f"/jobs/{job_id}/rerun", json={}))
    assert answers[-1].status_code == 201, answers[-1].text
    return "\n".join(answer.text for answer in answers)


def bad_claim(system: EmbeddedSystem, job_id: int) -> httpx.Response:
    """Claim as an unknown caller, with a token that must not be quoted."""
    body = {"job_id": job_id, "attempt": 1, "instance_id": "i", "token": "ab" * 32}
    headers = {"Authorization": f"Bearer {SECRET}"}
    return system.http.post("/agent/claim", json={**body, "runtime": "docker"}, headers=headers)


def followed(system: EmbeddedSystem) -> tuple[int, str]:
    """Run a job with a secret to its end; return its id and what a follower of changes got."""
    with system.http.stream("GET", "/events") as stream:
        job_id = system.schedule(
            env_vars={"PLAIN": PLAIN, "SIMULATE_EXIT_CODE": "1"},
            secret_env={"SECRET": SECRET},
        )
        assert system.follow(job_id)["status"] == "FAILED"
        lines = []
        for line in stream.iter_lines():
            lines.append(line)
            if '"status":"FAILED"' in line:
                break
    return job_id, "\n".join(lines)


def claims_of_a_claimed_attempt(system: EmbeddedSystem, job_id: int, bootstrap: str) -> str:
    """Claim with the right bootstrap token, which its agent has used: refused, without the job."""
    body = {"job_id": job_id, "attempt": 1, "instance_id": "i", "token": "ab" * 32}
    headers = {"Authorization": f"Bearer {bootstrap}"}
    answer = system.http.post("/agent/claim", json={**body, "runtime": "docker"}, headers=headers)
    assert answer.status_code == 409, answer.text
    return answer.text


def test_no_secret_is_in_anything_that_is_written(system: EmbeddedSystem) -> None:
    system.start(DOCKER_JOB_LOG_LEVEL="debug", DOCKER_JOB_WIPE_SECRETS="no")
    job_id, changes = followed(system)
    kept = json.loads((system.data_dir / "data" / "secrets.json").read_text())
    bootstrap = tokens.bootstrap_token(kept["token_key"], kept["deployment"], job_id, 1)
    answers = changes + answers_of(system, job_id)
    answers += claims_of_a_claimed_attempt(system, job_id, bootstrap)
    assert system.follow(job_id + 1)["status"] == "FAILED", "the rerun, which has the secret too"
    answers += system.http.get(f"/status/{job_id + 1}").text
    logs = logs_of(system)
    rows = asyncio.run(rows_of(system.admin_dsn()))
    assert "attempt claimed" in logs
    assert "api.job_secrets" in rows

    canaries = (SECRET, bootstrap, kept["token_key"], kept["secrets_key"])
    for secret in canaries:
        assert secret not in answers
        assert secret not in logs
        assert [name for name, text in rows.items() if secret in text] == []
    print(
        f"0 of {len(canaries)} canaries in {len(answers)} characters of answers, {len(logs)} of "
        f"logs and {len(rows)} tables"
    )

    assert PLAIN in answers, "env_vars are shown: whoever wants a value hidden uses secret_env"
    assert PLAIN not in logs
    assert [name for name, text in rows.items() if PLAIN in text] == ["api.jobs"]
