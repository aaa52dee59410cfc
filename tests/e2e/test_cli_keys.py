"""`docker-job key` and `docker-job audit`: keys are made, listed and revoked; who did what."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from docker_job import Client, Conflict, NotFound, Unauthorized
from tests.support.run.command_line import CommandLine
from tests.support.systems.embedded_system import EmbeddedSystem


@pytest.fixture(scope="module")
def system() -> Iterator[EmbeddedSystem]:
    system = EmbeddedSystem(RUNTIME="simulated", HEARTBEAT_SECONDS="1")
    system.start()
    yield system
    system.close()


def out(command: CommandLine, *arguments: str) -> str:
    """Return what a command that succeeds prints."""
    done = command.run(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_an_admin_makes_keys_sees_what_they_did_and_revokes_them(
    system: EmbeddedSystem, tmp_path: Path
) -> None:
    command = CommandLine(system.address, tmp_path)
    refused = command.run("key", "create", "ci")
    assert refused.returncode == 125
    assert "the first key must have the scope admin" in refused.stderr
    admin = out(command, "key", "create", "me", "--scope", "admin").strip()
    assert admin.startswith("djk_")
    command = CommandLine(system.address, tmp_path, DOCKER_JOB_KEY=admin)
    made = json.loads(out(command, "key", "create", "ci", "--project", "data", "--json"))
    with Client(system.address, made["key"]) as ci:
        job = ci.schedule({"docker_image": "python:3.13-slim", "scheduled_for": "+1h"})
        ci.cancel(job.id)
        assert job.raw["project"] == "data"
        with pytest.raises(Unauthorized, match="scope is submit, admin is needed"):
            ci.list_keys()
        table = out(command, "audit", "--job", str(job.id))
        assert [line.split()[-7] for line in table.splitlines()[1:]] == [
            "job.cancel",
            "job.schedule",
        ]
        acts = json.loads(out(command, "audit", "--project", "data", "--json"))
        assert [each["action"] for each in acts] == ["job.cancel", "job.schedule"]
        assert {(each["key"], each["job_id"]) for each in acts} == {(made["prefix"], job.id)}
        assert out(command, "key", "ls", "-q").split() == [admin.split("_")[1], made["prefix"]]
        assert made["key"] not in out(command, "key", "ls", "--json")
        assert command.run("key", "revoke", made["prefix"]).returncode == 2, "nobody to ask"
        assert out(command, "key", "revoke", "-y", made["prefix"]) == f"revoked {made['prefix']}\n"
        with pytest.raises(Unauthorized):
            ci.about()
    with Client(system.address, admin) as me:
        with pytest.raises(NotFound):
            me.revoke_key(made["prefix"])
        with pytest.raises(Conflict, match="the last key of scope admin"):
            me.revoke_key(admin.split("_")[1])
        assert [each.name for each in me.list_keys()] == ["me", "ci"]
        assert len(me.audit(limit=2)) == 2
        assert [each.action for each in me.audit(action="key.revoke")] == ["key.revoke"]
