"""Secrets of a job: taken, sealed, given to its agent alone, shown by name, and wiped."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api.api_world import World, a_config, message_of

CANARY = "canary-5f3a"
KEY, OTHER_KEY = "0f" * 32, "e1" * 32
SECRETS: dict[str, Any] = {
    "secret_env": {"TOKEN": CANARY, "LOGIN": f"user:{CANARY}"},
    "secrets": {"DB": "/prod/db"},
    "registry_auth": "LOGIN",
}


@pytest.fixture
async def keeping(world: World) -> AsyncIterator[World]:
    """Make the API of a deployment that has a key for secrets."""
    keeping = World(world.ports, world.clock, a_config(SECRETS_KEY=KEY))
    yield keeping
    await keeping.close()


async def rotated(world: World, key: str) -> World:
    return World(world.ports, world.clock, a_config(SECRETS_KEY=key))


async def everything(world: World) -> str:
    """Return every row, as text; sealed bytes are hexadecimal there."""
    rows = {**await world.rows(), "secrets": await world.stage.rows("SELECT * FROM job_secrets")}
    return json.dumps(rows, default=str)


async def launched(world: World, **fields: Any) -> int:
    job_id = int((await world.post(**fields))["id"])
    await world.deliver(world.launched(job_id))
    return job_id


async def test_the_values_reach_the_agent_and_the_names_everybody_else(keeping: World) -> None:
    job_id = await launched(keeping, **SECRETS)
    job = (await keeping.claim(job_id)).json()["job"]
    assert {name: job[name] for name in SECRETS} == SECRETS
    assert (await keeping.claim(job_id)).json()["job"] == job  # a lost answer is given again
    [listed] = (await keeping.http.get("/list")).json()
    for shown in (await keeping.status(job_id), listed):
        assert shown["secret_env"] == ["LOGIN", "TOKEN"]
        assert (shown["secrets"], shown["registry_auth"]) == ({"DB": "/prod/db"}, "LOGIN")


async def test_values_with_line_breaks_reach_the_agent_verbatim(keeping: World) -> None:
    given = {"env_vars": {"A": "a\nb\r\n"}, "secret_env": {"PEM": "-\n\r\n=\r"}}
    job_id = await launched(keeping, **given)
    job = (await keeping.claim(job_id)).json()["job"]
    assert job["env_vars"].items() >= given["env_vars"].items()
    assert job["secret_env"] == given["secret_env"]


async def test_no_value_stands_in_a_row_an_event_or_an_answer(
    keeping: World, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [
        await keeping.http.post(
            "/schedule",
            json={"docker_image": "alpine", "scheduled_for": "now", **SECRETS},
            headers=headers,
        )
        for headers in ({}, {"Idempotency-Key": "one"}, {"Idempotency-Key": "one"})
    ]
    assert [answer.status_code for answer in answers] == [201] * 3
    agent = await keeping.claimed(answers[0].json()["id"])
    await keeping.report(agent, phase="running")
    answers.append(await keeping.http.get("/list"))
    answers.append(await keeping.http.get(f"/status/{agent.job_id}"))
    answers.append(await keeping.http.post("/schedule", json={"docker_image": "", **SECRETS}))
    assert CANARY not in await everything(keeping)
    assert CANARY not in "".join(str(each.body) for each in await keeping.stage.outbox())
    assert CANARY not in "".join(answer.text for answer in answers)
    printed = capsys.readouterr()
    assert "job accepted" in printed.out
    assert CANARY not in printed.out + printed.err
    assert agent.token not in printed.out + printed.err + await everything(keeping)


async def test_the_values_are_wiped_when_the_job_is_over(keeping: World) -> None:
    for how in ("done", "cancelled"):
        agent = await keeping.claimed((await keeping.post(**SECRETS))["id"])
        if how == "done":
            await keeping.call_back(agent, {})
        else:
            await keeping.cancel(agent.job_id)
        assert await keeping.stage.rows("SELECT * FROM job_secrets") == []
        assert (await keeping.status(agent.job_id))["secret_env"] == ["LOGIN", "TOKEN"]


async def test_they_stay_as_long_as_another_attempt_may_need_them(keeping: World) -> None:
    agent = await keeping.claimed((await keeping.post(**SECRETS))["id"])
    await keeping.call_back(agent, {"schedule": "", "stopped": True})
    await keeping.deliver(keeping.launched(agent.job_id, 2))
    answer = await keeping.claim(agent.job_id, 2)
    assert answer.json()["job"]["secret_env"] == SECRETS["secret_env"]


async def test_by_a_setting_they_are_kept(world: World) -> None:
    keeping = World(world.ports, world.clock, a_config(SECRETS_KEY=KEY, WIPE_SECRETS="no"))
    agent = await keeping.claimed((await keeping.post(**SECRETS))["id"])
    await keeping.call_back(agent, {})
    assert len(await keeping.stage.rows("SELECT * FROM job_secrets")) == 1
    await keeping.close()


async def test_a_new_key_in_front_opens_old_rows_and_seals_new_ones(keeping: World) -> None:
    before = await launched(keeping, **SECRETS)
    both = await rotated(keeping, f"{OTHER_KEY} {KEY}")
    after = await launched(both, **SECRETS)
    for job_id in (before, after):
        assert (await both.claim(job_id)).json()["job"]["secret_env"] == SECRETS["secret_env"]
    ids = await both.stage.rows("SELECT key_id FROM job_secrets")
    assert len({row["key_id"] for row in ids}) == 2
    await both.close()


async def test_while_the_key_is_missing_the_agent_is_asked_to_try_again(keeping: World) -> None:
    job_id = await launched(keeping, **SECRETS)
    without = await rotated(keeping, OTHER_KEY)
    answer = await without.claim(job_id)
    assert answer.status_code == 503
    assert message_of(answer) == "the job's secrets cannot be opened now: try again"
    assert (await keeping.claim(job_id)).status_code == 200
    await without.close()


async def test_without_a_key_a_secret_is_a_400_that_names_the_setting(world: World) -> None:
    body = {"docker_image": "alpine", "scheduled_for": "now", "secret_env": {"A": CANARY}}
    answer = await world.http.post("/schedule", json=body)
    assert answer.status_code == 400
    assert "DOCKER_JOB_SECRETS_KEY" in message_of(answer)
    assert CANARY not in answer.text
