"""Over HTTP: the calls of an agent for its own attempt, and the refusal of all others."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from services.api.jobs import store as job_store
from services.api.jobs import unit_of_work
from shared import tokens
from shared.clock import VirtualClock
from tests.support.api.api_world import (
    DEPLOYMENT,
    TOKEN_KEY,
    Agent,
    World,
    instance_of,
    message_of,
    token_of,
)

FAILED = {"failed": "", "error_message": "Some message", "exit_code": 3}
STOPPED = {"schedule": "", "stopped": True, "exit_code": 143}
CALLBACKS: list[dict[str, Any]] = [{}, {"schedule": ""}, STOPPED, FAILED]
UNKNOWN_AGENT = Agent(1, 1, "f" * 64)
STOP_SECONDS = 20  # the grace of 10 s, and 10 s to see the end and to report


async def launched(world: World) -> int:
    """Return the id of a new job whose instance boots."""
    job_id = int((await world.post())["id"])
    await world.deliver(world.launched(job_id))
    return job_id


# -- claiming


async def test_a_claim_hands_out_the_job_and_the_settings(world: World) -> None:
    job = await world.post(command=["true"], env_vars={"A": "b"}, timeout_seconds=9, name="x")
    await world.deliver(world.launched(job["id"]))
    answer = await world.claim(job["id"])
    assert answer.status_code == 200
    assert answer.json() == {
        "job": {
            "id": job["id"],
            "docker_image": "alpine",
            "command": ["true"],
            "env_vars": {
                "A": "b",
                "DOCKER_JOB_ID": str(job["id"]),
                "DOCKER_JOB_NAME": "x",
                "DOCKER_JOB_ATTEMPT": "1",
                "DOCKER_JOB_SCHEDULED_FOR": "2026-01-01T00:00:00Z",
            },
            "timeout_seconds": 9,
        },
        "attempt": 1,
        "instance_id": f"i-{job['id']}-1",
        "settings": {
            "heartbeat_seconds": 5,
            "stop_grace_seconds": 10,
            "interruption_margin_seconds": 30,
            "metadata_poll_seconds": 5,
            "log_batch_seconds": 1,
            "host_services": True,
            "log_limit_bytes": 1_048_576,
            "error_tail_lines": 20,
            "pull_retry_seconds": 300,
            "local_images": False,
            "registries_refused": list(world.config.engine.registries.refused_networks),
            "registries_allowed": [],
        },
    }


async def test_a_claim_of_a_further_attempt_says_which_it_is(world: World) -> None:
    agent = await world.running(scheduled_for="2026-01-01T00:00:00.25Z")
    await world.call_back(agent, {"schedule": "", "stopped": True})
    await world.deliver(world.launched(agent.job_id, 2))
    given = (await world.claim(agent.job_id, 2)).json()["job"]["env_vars"]
    assert (given["DOCKER_JOB_ATTEMPT"], given["DOCKER_JOB_NAME"]) == ("2", "")
    assert given["DOCKER_JOB_SCHEDULED_FOR"] == "2026-01-01T00:00:00.250000Z"


async def test_a_variable_of_that_name_that_an_earlier_release_took_gives_way(world: World) -> None:
    job = await world.post(env_vars={"A": "b"})
    async with world.ports.db.connection() as conn:
        await conn.execute(
            "UPDATE jobs SET env_vars = $1, secrets = $2",
            {"A": "b", "DOCKER_JOB_ID": "mine"},
            {"DOCKER_JOB_NAME": "/mine", "B": "/b"},
        )
    await world.deliver(world.launched(job["id"]))
    claimed = (await world.claim(job["id"])).json()["job"]
    assert claimed["env_vars"]["DOCKER_JOB_ID"] == str(job["id"])
    assert claimed["env_vars"]["A"] == "b"
    assert claimed["secrets"] == {"B": "/b"}


@pytest.mark.parametrize("entrypoint", [["sh", "-c"], []])
async def test_a_claim_hands_out_an_entrypoint_that_was_asked_for(
    world: World, entrypoint: list[str]
) -> None:
    job = await world.post(entrypoint=entrypoint, command=["true"])
    await world.deliver(world.launched(job["id"]))
    answer = await world.claim(job["id"])
    assert answer.json()["job"]["entrypoint"] == entrypoint


async def test_a_claim_hands_out_how_the_container_is_to_be_run(world: World) -> None:
    asked = {
        "user": "1000:1000",
        "working_dir": "/data",
        "shm_size_mib": 128,
        "init": False,
        "stop_signal": "SIGINT",
        "read_only": True,
    }
    resources = {"vcpus": 2, "memory_mib": 4096, "disk_gib": 30}
    job = await world.post(**asked, stop_grace_seconds=60, resources=resources)
    assert asked.items() | {("stop_grace_seconds", 60)} <= job.items()
    await world.deliver(world.launched(job["id"]))
    claim = (await world.claim(job["id"])).json()
    assert claim["job"].items() >= asked.items()
    assert claim["job"]["resources"] == {"vcpus": 2, "memory_mib": 4096}
    # The margin leaves the longer grace its time, so agents of earlier releases keep it too.
    assert claim["settings"]["stop_grace_seconds"] == 60
    assert claim["settings"]["interruption_margin_seconds"] == 80


async def test_the_same_agent_claims_again_and_gets_the_same_answer(
    world: World, clock: VirtualClock
) -> None:
    job_id = await launched(world)
    first = await world.claim(job_id)
    before = await world.rows()
    clock.advance(5)
    second = await world.claim(job_id)
    assert (second.status_code, second.content) == (200, first.content)
    assert await world.rows() == before


async def test_another_agent_of_the_attempt_is_refused(world: World) -> None:
    job_id = await launched(world)
    await world.claim(job_id)
    before = await world.rows()
    for token, instance in (
        (token_of(job_id, 1, "another agent"), None),
        (None, "i-another"),
        (token_of(job_id, 1, "another agent"), "i-another"),
    ):
        answer = await world.claim(job_id, token=token, instance=instance)
        assert answer.status_code == 409
        assert answer.json()["stop"] is True
    assert await world.rows() == before


async def test_an_instance_that_was_not_launched_for_the_attempt_is_refused(world: World) -> None:
    job_id = await launched(world)
    answer = await world.claim(job_id, instance="i-another")
    assert (answer.status_code, message_of(answer)) == (409, "attempt 1 has another instance")


async def test_of_two_agents_at_once_one_is_refused(world: World) -> None:
    job_id = await launched(world)
    salts = ("one", "two")
    answers = await asyncio.gather(
        *(world.claim(job_id, token=token_of(job_id, 1, salt)) for salt in salts)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_a_claim_without_the_attempts_own_bootstrap_token_is_a_401(world: World) -> None:
    job_id = await launched(world)
    other = await launched(world)
    before = await world.rows()

    def bootstrap(deployment: str, job: int, attempt: int) -> str:
        return tokens.bootstrap_token(TOKEN_KEY, deployment, job, attempt)

    for bearer in (
        "",
        "x",
        "é",
        bootstrap(DEPLOYMENT, other, 1),
        bootstrap(DEPLOYMENT, job_id, 2),
        bootstrap("another", job_id, 1),
        token_of(job_id, 1),
    ):
        body = {"job_id": job_id, "attempt": 1, "instance_id": "i", "token": "a" * 64}
        answer = await world.http.post(
            "/agent/claim",
            json={**body, "runtime": "docker"},
            headers=[(b"Authorization", f"Bearer {bearer}".encode())] if bearer else [],
        )
        assert answer.status_code == 401, bearer
        assert answer.headers["www-authenticate"] == "Bearer"
        assert message_of(answer)
    unknown = await world.claim(job_id + 1000)
    wrong = await world.claim(job_id, bearer="x")
    assert (unknown.status_code, unknown.content) == (401, wrong.content)
    assert await world.rows() == before


async def test_an_attempt_that_is_over_is_not_claimed(world: World) -> None:
    job_id = await launched(world)
    await world.cancel(job_id)
    answer = await world.claim(job_id)
    assert answer.status_code == 409
    assert answer.json() == {
        "message": "attempt 1 is over: cancelled",
        "stop": True,
        "cause": "cancelled",
    }


async def test_a_claim_may_come_before_the_event_of_its_launch(world: World) -> None:
    job_id = (await world.post())["id"]
    assert (await world.claim(job_id)).status_code == 200
    agent = Agent(job_id, 1, token_of(job_id, 1))
    await world.report(agent, phase="running")
    await world.deliver(world.launched(job_id))
    status = await world.status(job_id)
    assert (status["status"], status["phase"]) == ("RUNNING", "running")
    assert status["attempts"][0]["zone"] == "us-east-1a"


async def test_a_held_attempt_is_not_claimed(world: World, clock: VirtualClock) -> None:
    agent = await world.running()
    clock.advance(61)
    await world.stage.sweep("end_silent")
    answer = await world.claim(agent.job_id, 2)
    assert answer.status_code == 409
    assert message_of(answer) == "attempt 2 waits for the previous container"


async def test_a_claim_that_is_not_right_is_a_400(world: World) -> None:
    bodies: list[Any] = [[], {}, {"job_id": "1"}]
    for body in bodies:
        headers = {"Authorization": "Bearer x"}
        answer = await world.http.post("/agent/claim", json=body, headers=headers)
        assert answer.status_code == 400
        assert message_of(answer)


# -- who may speak


async def all_responses_to(
    world: World, headers: dict[str, str], job_id: int
) -> list[tuple[int, str]]:
    """Return the answers to every call of an agent, with these headers."""
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"/agent/jobs/{job_id}/report", {}),
        ("POST", f"/agent/jobs/{job_id}/report", {"phase": "running"}),
        (
            "POST",
            f"/agent/jobs/{job_id}/report",
            {"logs": {"seq": 9, "lines": [{"at": "2026-01-01", "stream": "stdout", "text": "x"}]}},
        ),
        *(("PUT", f"/callback/{job_id}", callback) for callback in CALLBACKS),
    ]
    answers = [await world.http.request(m, p, json=b, headers=headers) for m, p, b in calls]
    return [(answer.status_code, message_of(answer)) for answer in answers]


async def test_without_a_token_every_call_is_a_401_and_nothing_changes(world: World) -> None:
    agent = await world.running()
    before = await world.rows()
    for headers in (
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  "},
        {"Authorization": f"Basic {agent.token}"},
        {"Authorization": agent.token},
    ):
        said = await all_responses_to(world, headers, agent.job_id)
        assert {status for status, _ in said} == {401}, headers
    # A token is taken from the header alone.
    answer = await world.http.put(f"/callback/{agent.job_id}?token={agent.token}", json={})
    assert answer.status_code == 401
    assert await world.rows() == before


async def test_a_wrong_token_and_an_unknown_job_get_the_same_response(world: World) -> None:
    agent = await world.running()
    before = await world.rows()
    known = await all_responses_to(world, UNKNOWN_AGENT.headers, agent.job_id)
    unknown = await all_responses_to(world, UNKNOWN_AGENT.headers, agent.job_id + 1000)
    assert {status for status, _ in known} == {401}
    assert known == unknown
    assert await world.rows() == before


async def test_another_jobs_token_is_a_403_whether_or_not_the_job_is_known(world: World) -> None:
    agent, other = await world.running(), await world.running()
    before = await world.rows()
    known = await all_responses_to(world, agent.headers, other.job_id)
    unknown = await all_responses_to(world, agent.headers, other.job_id + 1000)
    assert {status for status, _ in known} == {403}
    assert known == unknown
    assert await world.rows() == before


async def test_an_older_attempts_token_is_a_409_and_nothing_changes(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, STOPPED)
    current = await world.claimed(agent.job_id, 2)
    await world.report(current, phase="running")
    before = await world.rows()
    said = await all_responses_to(world, agent.headers, agent.job_id)
    assert set(said) == {(409, "attempt 1 is over: interrupted")}
    assert await world.rows() == before
    assert (await world.call_back(current, {})).json()["status"] == "DONE"


async def test_a_bootstrap_token_speaks_for_no_attempt(world: World) -> None:
    agent = await world.running()
    bearer = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 1)
    said = await all_responses_to(world, {"Authorization": f"Bearer {bearer}"}, agent.job_id)
    assert {status for status, _ in said} == {401}


# -- calling back


async def test_each_callback_has_its_effect(world: World) -> None:
    for callback, status in [({}, "DONE"), (FAILED, "FAILED"), (STOPPED, "SCHEDULED")]:
        agent = await world.running()
        answer = await world.call_back(agent, callback)
        assert (answer.status_code, answer.json()) == (
            200,
            {"id": agent.job_id, "status": status},
        )
        assert (await world.status(agent.job_id))["status"] == status


async def test_the_curls_of_the_first_description_are_understood(world: World) -> None:
    for content, status in [
        ('{ "schedule": "" }', "SCHEDULED"),
        ('{ "failed": "", "error_message": "Some message" }', "FAILED"),
        ("{}", "DONE"),
    ]:
        agent = await world.running()
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await world.http.put(
            f"/callback/{agent.job_id}", content=content, headers={**agent.headers, **form}
        )
        assert (answer.status_code, answer.json()["status"]) == (200, status)


async def test_the_same_callback_twice_is_the_same_as_once(
    world: World, clock: VirtualClock
) -> None:
    callbacks: list[dict[str, Any]] = [{}, {"schedule": ""}, FAILED, {**FAILED, "timed_out": True}]
    for callback in callbacks:
        agent = await world.running()
        first = await world.call_back(agent, callback)
        before = await world.rows()
        clock.advance(1)
        second = await world.call_back(agent, callback)
        assert (second.status_code, second.content) == (200, first.content), callback
        assert await world.rows() == before


async def test_the_same_callback_twice_at_once_is_the_same_as_once(world: World) -> None:
    agent = await world.running()
    answers = await asyncio.gather(*(world.call_back(agent, FAILED) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert (await world.published())[-2:] == ["AttemptEnded", "JobFinished"]
    assert (await world.published()).count("JobFinished") == 1


async def test_after_a_final_callback_any_other_is_a_409_and_nothing_changes(world: World) -> None:
    final_callbacks: list[dict[str, Any]] = [{}, FAILED]
    for last in final_callbacks:
        agent = await world.running()
        await world.call_back(agent, last)
        before = await world.rows()
        for callback in CALLBACKS:
            if callback == last:
                continue
            answer = await world.call_back(agent, callback)
            assert answer.status_code == 409, (last, callback)
            assert answer.json()["stop"] is True
        assert (await world.report(agent)).status_code == 409
        assert (await world.report(agent, phase="stopping", lines=["x"])).status_code == 409
        assert await world.rows() == before


async def test_after_a_cancel_every_callback_is_a_409_that_says_stop(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.cancel(agent.job_id)
    before = await world.rows()
    answer = await world.report(agent)
    assert answer.status_code == 409
    assert answer.json() == {
        "message": "attempt 1 is over: cancelled",
        "stop": True,
        "cause": "cancelled",
    }
    clock.advance(STOP_SECONDS)
    said = await all_responses_to(world, agent.headers, agent.job_id)
    assert set(said) == {(409, "attempt 1 is over: cancelled")}
    assert await world.rows() == before


async def test_until_its_stop_is_over_a_cancelled_attempt_may_add_lines_and_its_exit_code(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["before"], seq=1)
    await world.cancel(agent.job_id)
    before = await world.rows("jobs", "attempts", "log_batches")
    clock.advance(STOP_SECONDS - 1)
    for _ in range(2):  # the agent repeats what was not answered
        answer = await world.report(agent, phase="stopping", lines=["bye"], seq=2)
        assert (answer.status_code, answer.json()) == (
            409,
            {
                "message": "attempt 1 is over: cancelled",
                "stop": True,
                "cause": "cancelled",
                "kept": True,
            },
        )
        answer = await world.call_back(agent, {**FAILED, "exit_code": 7})
        assert (answer.status_code, answer.json()["kept"]) == (409, True)
    assert await world.rows("jobs", "attempts", "log_batches") == before  # no event
    assert await world.logs(agent.job_id) == "before\nbye\n"
    status = await world.status(agent.job_id)
    assert (status["status"], status["exit_code"]) == ("CANCELLED", 7)
    [attempt] = status["attempts"]
    assert (attempt["cause"], attempt["exit_code"]) == ("cancelled", 7)
    assert attempt["error_message"] == "cancelled"


@pytest.mark.parametrize("exit_code", [0, 7, 137])
async def test_a_timed_out_job_is_shown_with_the_exit_code_of_its_container(
    world: World, exit_code: int
) -> None:
    agent = await world.running()
    callback = {"failed": "", "error_message": "timed out after 1 seconds", "timed_out": True}
    answer = await world.call_back(agent, {**callback, "exit_code": exit_code})
    assert answer.status_code == 200
    status = await world.status(agent.job_id)
    assert (status["status"], status["exit_code"]) == ("FAILED", exit_code)
    [attempt] = status["attempts"]
    assert (attempt["cause"], attempt["exit_code"]) == ("timed_out", exit_code)


async def test_a_report_of_an_agent_with_a_field_of_a_later_release_is_taken(world: World) -> None:
    agent = await world.running()
    line = {"at": "2030-01-01T00:00:00Z", "stream": "stdout", "text": "x", "later": {"a": 1}}
    answer = await world.http.post(
        f"/agent/jobs/{agent.job_id}/report",
        json={"phase": None, "logs": {"seq": 1, "lines": [line]}},
        headers=agent.headers,
    )
    assert answer.status_code == 200
    assert await world.logs(agent.job_id) == "x\n"


async def test_an_interruption_that_is_not_the_spot_markets_says_why(world: World) -> None:
    agent = await world.running()
    why = "the container engine was restarted"
    await world.call_back(agent, {"schedule": "", "stopped": True, "error_message": why})
    status = await world.status(agent.job_id)
    ended = status["attempts"][0]
    assert (ended["cause"], ended["error_message"]) == ("interrupted", why)
    assert f"retry 1 of 20: {why}" in status["waiting_because"]


async def test_an_ended_attempts_exit_code_is_recorded_once_and_a_heartbeat_never(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    await world.cancel(agent.job_id)
    await world.call_back(agent, {"exit_code": 0})
    before = await world.rows()
    clock.advance(1)
    callbacks: list[dict[str, Any]] = [FAILED, STOPPED, {"schedule": ""}]
    callbacks.append({**FAILED, "exit_code": 0, "stopped": False})
    for callback in callbacks:
        answer = await world.call_back(agent, callback)
        assert (answer.status_code, "kept" in answer.json()) == (409, False)
    for phase in (None, "running"):
        answer = await world.report(agent, phase=phase)
        assert (answer.status_code, "kept" in answer.json()) == (409, False)
    assert await world.rows() == before


async def test_who_is_not_the_ended_attempts_agent_adds_nothing(
    world: World, clock: VirtualClock
) -> None:
    agent, other = await world.running(), await world.running()
    await world.cancel(agent.job_id)
    before = await world.rows()
    for headers, status in ((UNKNOWN_AGENT.headers, 401), (other.headers, 403)):
        said = await all_responses_to(world, headers, agent.job_id)
        assert {code for code, _ in said} == {status}
    assert await world.rows() == before
    clock.advance(3600 + STOP_SECONDS)
    said = await all_responses_to(world, agent.headers, agent.job_id)
    assert {code for code, _ in said} == {401}
    assert await world.rows() == before


async def test_a_lost_attempt_adds_nothing_since_its_instance_is_terminated_at_once(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    clock.advance(61)
    await world.stage.sweep("end_silent")
    before = await world.rows()
    for answer in (
        await world.report(agent, lines=["still here"]),
        await world.call_back(agent, STOPPED),
    ):
        assert answer.status_code == 409
        assert "kept" not in answer.json()
    assert await world.rows() == before


async def test_reports_go_on_after_the_notice_until_the_container_has_stopped(
    world: World,
) -> None:
    agent = await world.running()
    assert (await world.call_back(agent, {"schedule": ""})).json()["status"] == "SCHEDULED"
    assert (await world.report(agent)).status_code == 200
    assert (await world.report(agent, phase="stopping", lines=["bye"])).status_code == 200
    status = await world.status(agent.job_id)
    assert (status["status"], status["phase"]) == ("SCHEDULED", "stopping")
    assert "interruption notice" in status["waiting_because"]
    assert (await world.published()).count("JobScheduled") == 2  # the replacement boots meanwhile
    await world.call_back(agent, STOPPED)
    status = await world.status(agent.job_id)
    assert (status["phase"], len(status["attempts"])) == ("launching", 2)
    assert (await world.published()).count("JobScheduled") == 2


async def test_a_container_that_exits_0_after_the_notice_is_done(world: World) -> None:
    agent = await world.running()
    await world.call_back(agent, {"schedule": ""})
    assert (await world.call_back(agent, {"exit_code": 0})).json()["status"] == "DONE"
    assert [each["cause"] for each in (await world.status(agent.job_id))["attempts"]] == [
        "done",
        "superseded",
    ]


async def test_a_callback_that_is_not_right_is_a_400_and_changes_nothing(world: World) -> None:
    agent = await world.running()
    before = await world.rows()
    bodies: list[bytes] = [
        b"",
        b"[]",
        b"null",
        b"{",
        b"[" * 10_000,
        b'{"failed": "", "error_message": "\\ud800"}',
        b'{"failed": "", "error_message": "\xff"}',
        b'{"exit_code": 3}',
        b'{"schedule": "", "failed": ""}',
    ]
    for body in bodies:
        answer = await world.http.put(
            f"/callback/{agent.job_id}", content=body, headers=agent.headers
        )
        assert answer.status_code == 400, body[:50]
        assert message_of(answer)
    assert await world.rows() == before


async def test_a_body_over_the_limit_is_a_413_for_agents_too(world: World) -> None:
    agent = await world.running()
    small = world.again(BODY_LIMIT_BYTES="1024")
    for method, path in (
        ("PUT", f"/callback/{agent.job_id}"),
        ("POST", f"/agent/jobs/{agent.job_id}/report"),
        ("POST", "/agent/claim"),
    ):
        answer = await small.http.request(method, path, content=b" " * 2000, headers=agent.headers)
        assert answer.status_code == 413
    await small.close()


async def test_a_nul_in_an_error_message_is_kept_as_a_mark(world: World) -> None:
    agent = await world.running()
    body = b'{"failed": "", "error_message": "a\\u0000b", "exit_code": 1}'
    answer = await world.http.put(f"/callback/{agent.job_id}", content=body, headers=agent.headers)
    assert answer.status_code == 200
    assert (await world.status(agent.job_id))["error_message"] == "a\N{REPLACEMENT CHARACTER}b"


# -- reporting


async def test_a_heartbeat_moves_heartbeat_at_and_nothing_else(
    world: World, clock: VirtualClock
) -> None:
    agent = await world.running()
    before = await world.rows()
    clock.advance(5)
    assert (await world.report(agent)).json() == {}
    after = await world.rows()
    [attempt] = before["attempts"]
    attempt["heartbeat_at"] = "2026-01-01T00:00:05+00:00"
    assert after == before


async def test_a_heartbeat_is_not_undone_by_a_fact_that_was_loaded_before_it(
    world: World, clock: VirtualClock
) -> None:
    job_id = (await world.post())["id"]
    await world.claim(job_id)
    agent = Agent(job_id, 1, token_of(job_id, 1))
    clock.advance(5)
    async with world.ports.db.transaction() as tx:  # a handler that has loaded the attempt …
        loaded = await job_store.load_attempt(tx.conn, job_id, 1)
        assert loaded is not None
        await world.report(agent)  # … is overtaken by a heartbeat, and saves what it had loaded
        await unit_of_work.save_attempt(tx, loaded)
    [saved] = (await world.rows())["attempts"]
    assert saved["heartbeat_at"] == "2026-01-01T00:00:05+00:00"


async def test_phases_only_move_on(world: World) -> None:
    agent = await world.claimed((await world.post())["id"])
    for phase, shown in [
        ("pulling", "pulling"),
        ("pulling", "pulling"),
        ("running", "running"),
        ("pulling", "running"),
        ("stopping", "stopping"),
        ("running", "stopping"),
    ]:
        assert (await world.report(agent, phase=phase)).status_code == 200
        assert (await world.status(agent.job_id))["phase"] == shown
    assert (await world.published()).count("JobStarted") == 1


async def test_a_report_that_is_not_right_is_a_400_and_changes_nothing(world: World) -> None:
    agent = await world.running()
    before = await world.rows()
    for body in (b"", b"[]", b'{"phase": "ended"}', b'{"logs": {"seq": 1, "lines": ["\\ud800"]}}'):
        answer = await world.http.post(
            f"/agent/jobs/{agent.job_id}/report", content=body, headers=agent.headers
        )
        assert answer.status_code == 400
    assert await world.rows() == before


# -- logs


async def test_lines_are_kept_in_order_and_a_repeated_batch_once(world: World) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one", "", "three"], seq=1)
    before = await world.rows("attempts")
    await world.report(agent, lines=["one", "", "three"], seq=1)
    await world.report(agent, lines=["another text under the same number"], seq=1)
    assert await world.rows("attempts") == before
    await world.report(agent, lines=["four €"], seq=2)
    answer = await world.http.get(f"/jobs/{agent.job_id}/logs")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == "one\n\nthree\nfour €\n"


async def test_a_nul_in_a_line_is_kept_as_a_mark(world: World) -> None:
    agent = await world.running()
    assert (await world.report(agent, lines=["a\0b"])).status_code == 200
    assert await world.logs(agent.job_id) == "a\N{REPLACEMENT CHARACTER}b\n"


async def test_the_lines_of_every_attempt_are_kept(world: World) -> None:
    agent = await world.running()
    await world.report(agent, lines=["first"], seq=1)
    await world.call_back(agent, STOPPED)
    second = await world.claimed(agent.job_id, 2)
    await world.report(second, lines=["second"], seq=1)
    assert await world.logs(agent.job_id) == "first\n--- attempt 2 ---\nsecond\n"


def gap(lines: int, size: int) -> str:
    """Return the line that stands for omitted lines."""
    return (
        f"--- {lines} lines ({size} bytes) left out here: "
        "of a long log the beginning and the end are kept ---"
    )


async def test_of_a_log_over_its_bound_the_beginning_and_the_end_are_kept(world: World) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="20")
    await bounded.report(agent, lines=["12345678", "87654321"], seq=1)  # 18 bytes with line ends
    assert await world.logs(agent.job_id) == "12345678\n87654321\n"
    await bounded.report(agent, lines=["x", "€€", "y"], seq=2)
    assert await world.logs(agent.job_id) == f"12345678\n{gap(1, 9)}\nx\n€€\ny\n"
    for _ in range(2):
        await bounded.report(agent, lines=["z"], seq=3)
        await bounded.report(agent, lines=["x", "€€", "y"], seq=2)
    assert await world.logs(agent.job_id) == f"12345678\n{gap(4, 20)}\nz\n"
    await bounded.report(agent, lines=["a" * 30, "end"], seq=4)
    assert await world.logs(agent.job_id) == f"12345678\n{gap(6, 53)}\nend\n"
    await bounded.report(agent, lines=["a" * 30], seq=5)
    assert await world.logs(agent.job_id) == f"12345678\n{gap(8, 88)}\n"
    await bounded.close()


async def test_a_log_that_just_fits_is_kept_whole(world: World) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="21")
    lines = ["123456", "12345", "1", "1", "12"]  # 7 and 6, 2, 2, 3: 20 bytes; none fills the half
    for seq, line in enumerate(lines, 1):
        await bounded.report(agent, lines=[line], seq=seq)
    assert await world.logs(agent.job_id) == "".join(f"{line}\n" for line in lines)
    await bounded.close()


async def test_every_attempt_has_the_whole_bound(world: World) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="8")
    await bounded.report(agent, lines=["abc", "x" * 50, "def"], seq=1)
    await world.call_back(agent, STOPPED)
    second = await world.claimed(agent.job_id, 2)
    await bounded.report(second, lines=["abc", "y" * 50, "def"], seq=1)
    kept = f"abc\n{gap(1, 51)}\ndef\n"
    assert await world.logs(agent.job_id) == f"{kept}--- attempt 2 ---\n{kept}"
    await bounded.close()


async def test_what_the_agent_has_left_out_is_counted_in_the_same_line(world: World) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="20")
    await bounded.report(agent, lines=["123456789", "tail"], seq=1)
    await bounded.report(agent, lines=["more"], seq=2, left_out=(3, 40))
    # What came just before goes with it: there is one gap, never two.
    assert await world.logs(agent.job_id) == f"123456789\n{gap(4, 45)}\nmore\n"
    await bounded.close()


async def test_a_log_of_many_batches_is_read_whole(world: World) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="1208")  # the beginning ends within batch 101
    for seq in range(1, 152):
        await bounded.report(agent, lines=["12", "45"], seq=seq)
    assert await world.logs(agent.job_id) == "12\n45\n" * 151
    await bounded.report(agent, lines=["x" * 302], seq=152)
    text = await world.logs(agent.job_id)
    assert text.count("--- ") == 1
    assert text.endswith("x" * 302 + "\n")
    assert len(text.encode()) < 1208 + 100
    await bounded.close()


async def test_a_job_without_output_has_an_empty_log(world: World) -> None:
    answer = await world.http.get(f"/jobs/{(await world.post())['id']}/logs")
    assert (answer.status_code, answer.text) == (200, "")


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the server-sent events of a finished stream: id, event and the data lines as JSON."""
    events = []
    for block in answer.text.strip().split("\n\n"):
        event: dict[str, Any] = {"data": []}
        for line in block.split("\n"):
            field, _, value = line.partition(": ")
            if field == "data":
                event["data"].append(json.loads(value))
            else:
                event[field] = value
        events.append(event)
    return events


async def test_a_log_is_followed_or_not_and_nothing_between(world: World) -> None:
    job_id = (await world.post())["id"]
    for value in ("0", "false"):
        answer = await world.http.get(f"/jobs/{job_id}/logs?follow={value}")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    for value in ("", "no", "2", "%00"):
        answer = await world.http.get(f"/jobs/{job_id}/logs?follow={value}")
        assert answer.status_code == 400
        assert message_of(answer).startswith("follow must be 1 or 0")


async def test_a_finished_jobs_log_is_followed_to_its_end_and_resumed_by_event_id(
    world: World,
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one", "a\nb"], seq=1)
    await world.report(agent, lines=["two"], seq=2)
    await world.call_back(agent, FAILED)
    path = f"/jobs/{agent.job_id}/logs?follow=1"
    answer = await world.http.get(path)
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, second, end = events_of(answer)
    assert [line["text"] for line in first["data"]] == ["one", "a\nb"]
    assert first["data"][0] == {
        "at": "2026-01-01T00:00:00+00:00",
        "stream": "stdout",
        "text": "one",
        "attempt": 1,
    }
    last = {"status": "FAILED", "exit_code": 3}
    assert end == {"id": "1.2.end", "event": "end", "data": [last]}
    resumed = await world.http.get(path, headers={"Last-Event-ID": first["id"]})
    assert events_of(resumed) == [second, end]
    resumed = await world.http.get(path, headers={"Last-Event-ID": second["id"]})
    assert events_of(resumed) == [end]


async def test_a_resumed_long_log_says_what_was_left_out_meanwhile(world: World) -> None:
    agent = await world.running()
    bounded = world.again(LOG_LIMIT_BYTES="20")
    for seq, line in enumerate(["123456789", "one", "two", "three", "four"], 1):
        await bounded.report(agent, lines=[line], seq=seq)
    await world.call_back(agent, FAILED)
    seen: dict[str, list[str]] = {}
    for place in ("0.0", "1.1", "1.2", "1.3", "1.4"):
        headers = {"Last-Event-ID": place}
        answer = await world.http.get(f"/jobs/{agent.job_id}/logs?follow=1", headers=headers)
        events = events_of(answer)
        assert events.pop()["event"] == "end"
        seen[place] = [line["text"] for event in events for line in event["data"]]
        assert [event["id"] for event in events] == ["1.1", "1.5"][-len(events) :]
    assert seen["0.0"] == ["123456789", gap(3, 14), "four"]
    assert seen["1.1"] == [gap(3, 14), "four"]
    unknown = "--- some lines left out here: of a long log the beginning and the end are kept ---"
    assert seen["1.2"] == [unknown, "four"]
    assert seen["1.4"] == ["four"]
    await bounded.close()


async def test_a_wrong_event_id_is_a_400(world: World) -> None:
    path = f"/jobs/{(await world.post())['id']}/logs?follow=1"
    for wrong in ("x", "1", "1.x", "-1.1", "1.1.1", "9" * 30 + ".1", "1.1.ende", "1.end", ".end"):
        answer = await world.http.get(path, headers={"Last-Event-ID": wrong})
        assert answer.status_code == 400
        assert message_of(answer).startswith("Last-Event-ID must be")


async def test_two_attempts_cannot_share_one_token(world: World) -> None:
    one, two = await launched(world), await launched(world)
    await world.claim(one)
    answer = await world.claim(two, token=token_of(one, 1), instance=instance_of(two, 1))
    assert answer.status_code == 409
    assert message_of(answer) == "this token belongs to another attempt"


async def test_the_claims_answer_has_the_containers_number_of_gpus(world: World) -> None:
    job = await world.post(resources={"gpus": 2})
    await world.deliver(world.launched(job["id"]))
    assert (await world.claim(job["id"])).json()["job"]["gpus"] == 2
    other = await launched(world)
    assert "gpus" not in (await world.claim(other)).json()["job"]
