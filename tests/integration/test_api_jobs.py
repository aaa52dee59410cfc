"""Over HTTP: scheduling, listing, looking at and cancelling jobs."""

import asyncio
from typing import Any

import pytest

from shared.clock import VirtualClock
from shared.events.events import JobScheduled
from shared.events.requirements import Requirements, Resources
from tests.support.api.api_world import World, message_of

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CURL = '{ "docker_image": "alpine", "scheduled_for": "10:00", "env_vars": { "KEY": "VALUE" } }'


async def test_the_curl_of_the_first_description_works_word_for_word(world: World) -> None:
    answer = await world.http.post("/schedule", content=CURL, headers=FORM)
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/status/{job['id']}"
    assert job["scheduled_for"] == "2026-01-01T10:00:00Z"
    assert job["env_vars"] == {"KEY": "VALUE"}
    assert (job["status"], job["phase"]) == ("SCHEDULED", "scheduled")
    assert (await world.http.get(answer.headers["location"])).json() == job
    assert answer.text.endswith("\n")


async def test_an_accepted_job_has_an_attempt_and_its_fact_in_the_outbox(world: World) -> None:
    job = await world.post(timeout_seconds=60, labels={"team": "a"})
    [fact] = await world.stage.published(JobScheduled)
    assert (fact.job_id, fact.attempt, fact.due_at) == (job["id"], 1, world.clock.now())
    assert fact.requirements.max_lifetime_seconds == 3660
    [attempt] = (await world.status(job["id"]))["attempts"]
    assert (attempt["number"], attempt["phase"]) == (1, "launching")


async def test_every_field_comes_back_as_it_was_given(world: World) -> None:
    given: dict[str, Any] = {
        "docker_image": "python:3.13-slim",
        "scheduled_for": "+2h",
        "timezone": "Europe/Berlin",
        "env_vars": {"A": "€😀", "N": 1, "B": True, "F": 1.5},
        "entrypoint": ["env", "A=b"],
        "command": ["sh", "-c", "echo 'a'\n"],
        "labels": {"team": "data", "é": "ü"},
        "timeout_seconds": 90,
        "name": "nightly 🌙",
        "resources": {"vcpus": 2, "architecture": "arm64", "disk_gib": 50},
        "capacity": "spot_then_on_demand",
        "spot_wait_seconds": 600,
        "retries": 2,
        "user": "1000:users",
        "working_dir": "/srv/a b",
        "shm_size_mib": 256,
        "init": False,
        "stop_signal": "SIGRTMIN+3",
        "stop_grace_seconds": 60,
        "read_only": True,
    }
    job = await world.status((await world.post(**given))["id"])
    expected = {**given, "scheduled_for": "2026-01-01T02:00:00Z"}
    expected["env_vars"] = {"A": "€😀", "N": "1", "B": "true", "F": "1.5"}
    assert {name: job[name] for name in given} == expected
    [listed] = (await world.http.get("/list")).json()
    assert {name: listed[name] for name in given} == expected
    [fact] = await world.stage.published(JobScheduled)
    assert fact.requirements == Requirements(
        max_lifetime_seconds=3750,
        resources=Resources(vcpus=2, architecture="arm64", disk_gib=50),
        capacity="spot_then_on_demand",
        spot_wait_seconds=600,
    )


async def test_the_two_promised_messages_are_the_whole_body(world: World) -> None:
    for body, field in [
        ('{"scheduled_for": "now"}', "docker_image"),
        ('{"docker_image": "", "scheduled_for": "now"}', "docker_image"),
        ('{"docker_image": "alpine"}', "scheduled_for"),
        ('{"docker_image": "a", "scheduled_for": ""}', "scheduled_for"),
    ]:
        answer = await world.http.post("/schedule", content=body, headers=FORM)
        assert answer.status_code == 400
        assert answer.json() == {"message": f"{field} field cannot be empty"}


# In one test, as the other long lists below: a database of its own for each would take too long.
BAD_BODIES = [
    b"",
    b"docker_image=alpine&scheduled_for=now",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 900 + b"]" * 900,
    b'{"docker_image": "alpine", "scheduled_for": "now", "name": "\\ud800"}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "name": "\\u0000"}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "labels": {"\\ud800": ""}}',
    b'{"docker_image": "alpine\\u0000", "scheduled_for": "now"}',
    b'{"docker_image": "alpine", "scheduled_for": "\\u0000"}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "command": ["\\u0000"]}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "timezone": "\\u0000"}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "env_vars": {"A": "\\u0000"}}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "env_vars": {"\\ud800": ""}}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "\\u0000": 1}',
    b'{"docker_image": "alpine", "scheduled_for": "now", "name": "\xed\xa0\x80"}',
    b'{"docker_image": "--privileged", "scheduled_for": "now"}',
    b'{"docker_image": "alpine", "scheduled_for": "2020-01-01T00:00Z"}',
]


async def test_a_body_that_cannot_be_taken_is_a_400_and_leaves_no_row(world: World) -> None:
    for body in BAD_BODIES:
        answer = await world.http.post("/schedule", content=body)
        assert answer.status_code == 400, body[:100]
        assert message_of(answer)
    assert await world.rows() == {name: [] for name in await world.rows()}


async def test_a_body_over_the_limit_is_a_413_whether_or_not_it_declares_its_length(
    world: World,
) -> None:
    small = world.again(BODY_LIMIT_BYTES="1024")

    async def undeclared() -> Any:
        for _ in range(20):
            yield b" " * 100

    for content in (b" " * 1025, undeclared()):
        answer = await small.http.post("/schedule", content=content)
        assert answer.status_code == 413
        assert message_of(answer) == "the body is larger than 1024 bytes"
    fitting = CURL.encode().ljust(1024)
    assert (await small.http.post("/schedule", content=fitting)).status_code == 201
    await small.close()


# -- many at once


async def test_50_posts_at_once_give_50_jobs_each_with_its_attempt_and_its_fact(
    world: World,
) -> None:
    jobs = await asyncio.gather(*(world.post(name=f"job {n}") for n in range(50)))
    assert len({job["id"] for job in jobs}) == 50
    rows = await world.rows()
    assert len(rows["jobs"]) == len(rows["attempts"]) == 50
    names = {job["id"]: job["name"] for job in jobs}
    assert {row["id"]: row["name"] for row in rows["jobs"]} == names
    facts = await world.stage.published(JobScheduled)
    assert sorted(fact.job_id for fact in facts) == sorted(names)


async def test_a_body_that_is_refused_fails_no_neighbour_of_its_group(world: World) -> None:
    bad = b'{"docker_image": "alpine", "scheduled_for": "now", "name": "\\ud800"}'
    posts = [world.http.post("/schedule", content=CURL) for _ in range(20)]
    posts.insert(10, world.http.post("/schedule", content=bad))
    statuses = [answer.status_code for answer in await asyncio.gather(*posts)]
    assert statuses == [201] * 10 + [400] + [201] * 10
    assert len((await world.rows())["jobs"]) == 20


async def test_an_array_is_scheduled_in_order_all_of_it(world: World) -> None:
    bodies = [{"docker_image": "alpine", "scheduled_for": "now", "name": n} for n in "abc"]
    answer = await world.http.post("/schedule", json=bodies)
    assert answer.status_code == 201
    assert [job["name"] for job in answer.json()] == ["a", "b", "c"]
    ids = [job["id"] for job in answer.json()]
    assert ids == sorted(set(ids))
    assert await world.published() == ["JobScheduled"] * 3


async def test_of_an_array_with_one_wrong_job_none_is_scheduled(world: World) -> None:
    right = {"docker_image": "alpine", "scheduled_for": "now"}
    answer = await world.http.post("/schedule", json=[right, {**right, "docker_image": ""}])
    assert answer.status_code == 400
    expected = "job [1]: docker_image field cannot be empty; none was scheduled"
    assert message_of(answer) == expected
    assert (await world.rows())["jobs"] == []


@pytest.mark.parametrize("wrong", ["null", "7", '"alpine"', "[]", "[{}]"])
async def test_what_is_no_job_in_an_array_is_named(world: World, wrong: str) -> None:
    answer = await world.http.post("/schedule", content=f"[{CURL}, {wrong}]")
    assert answer.status_code == 400
    assert message_of(answer) == "job [1]: it must be a JSON object; none was scheduled"
    assert (await world.rows())["jobs"] == []


async def test_numbers_are_passed_on_to_the_container_as_they_are_written(world: World) -> None:
    numbers = ["-0", "-0.0", "1e400", "3.10", "1" * 5000, "18446744073709551616"]
    variables = ", ".join(f'"N{place}": {text}' for place, text in enumerate(numbers))
    body = f'{{"docker_image": "alpine", "scheduled_for": "now", "env_vars": {{{variables}}}}}'
    answer = await world.http.post("/schedule", content=body)
    assert answer.status_code == 201, answer.text
    job = await world.status(answer.json()["id"])
    assert job["env_vars"] == {f"N{place}": text for place, text in enumerate(numbers)}


async def test_a_field_that_is_given_twice_is_refused(world: World) -> None:
    body = '{"docker_image": "alpine", "scheduled_for": "now", "docker_image": "debian"}'
    answer = await world.http.post("/schedule", content=body)
    assert answer.status_code == 400
    assert message_of(answer) == "'docker_image' is given twice in one object: give it once"


async def test_the_zone_of_a_job_is_kept_as_iana_writes_it(world: World) -> None:
    job = await world.post(timezone="utc", scheduled_for="2026-06-01T10:00:00,5")
    assert (job["timezone"], job["scheduled_for"]) == ("UTC", "2026-06-01T10:00:00.500000Z")


async def test_an_array_has_1_to_1000_jobs(world: World) -> None:
    for count in (0, 1001):
        answer = await world.http.post("/schedule", json=[{}] * count)
        assert answer.status_code == 400
        assert message_of(answer).startswith("an array must hold 1 to 1000 jobs")


# -- Idempotency-Key


def keyed(world: World, key: str = "key-1", body: str = CURL) -> Any:
    return world.http.post("/schedule", content=body, headers={"Idempotency-Key": key})


async def test_the_same_key_and_body_give_the_first_answer_again(world: World) -> None:
    first = await keyed(world)
    before = await world.rows()
    second = await keyed(world)
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["location"] == first.headers["location"]
    assert await world.rows() == before


async def test_a_repeat_gets_the_first_answer_though_its_time_is_past(
    world: World, clock: VirtualClock
) -> None:
    body = '{"docker_image": "alpine", "scheduled_for": "2026-01-01T00:01:00Z"}'
    first = await keyed(world, body=body)
    clock.advance(3600)
    second = await keyed(world, body=body)
    assert (second.status_code, second.content) == (201, first.content)


async def test_the_same_key_with_another_body_is_a_409(world: World) -> None:
    await keyed(world)
    before = await world.rows()
    answer = await keyed(world, body=CURL.replace("alpine", "debian"))
    assert answer.status_code == 409
    assert message_of(answer).startswith("Idempotency-Key was used before with another body")
    assert await world.rows() == before


async def test_of_20_requests_at_once_with_one_key_there_is_one_job(world: World) -> None:
    answers = await asyncio.gather(*(keyed(world) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    rows = await world.rows()
    assert len(rows["jobs"]) == len(rows["outbox"]) == len(rows["idempotency_keys"]) == 1


async def test_of_two_bodies_at_once_with_one_key_one_is_refused(world: World) -> None:
    other = CURL.replace("alpine", "debian")
    answers = await asyncio.gather(*(keyed(world, body=body) for body in (CURL, other)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert len((await world.rows())["jobs"]) == 1


async def test_a_refused_body_uses_up_no_key(world: World) -> None:
    assert (await keyed(world, body="{}")).status_code == 400
    assert (await keyed(world)).status_code == 201


@pytest.mark.parametrize(
    "key", ["a b", "\u00e4\u00d6", "\N{SNOWMAN}", "!\"#$%&'()*,/:;<=>?@[\\]^`{|}~"]
)
async def test_a_key_may_have_any_visible_characters(world: World, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    answers = [await world.http.post("/schedule", content=CURL, headers=headers) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert len((await world.rows())["jobs"]) == 1


async def test_a_key_is_short_and_has_no_control_characters(world: World) -> None:
    for key in ("", "x" * 256, "tab\tkey", "del\x7f"):
        answer = await keyed(world, key)
        assert answer.status_code == 400
        assert message_of(answer).startswith("Idempotency-Key must be")


async def test_an_array_takes_no_key(world: World) -> None:
    answer = await keyed(world, body=f"[{CURL}]")
    assert answer.status_code == 400
    assert message_of(answer).startswith("Idempotency-Key goes with a single job")


async def test_keys_are_forgotten_after_a_week(world: World, clock: VirtualClock) -> None:
    await keyed(world)
    clock.advance(6 * 86_400)
    await world.stage.sweep("prune_keys")
    assert len((await world.rows())["idempotency_keys"]) == 1
    clock.advance(2 * 86_400)
    await world.stage.sweep("prune_keys")
    assert (await world.rows())["idempotency_keys"] == []


# -- /status


NO_IDS = ["1", "0", "-1", "abc", "1.5", "9" * 19, "9" * 30, "%00", "1%20", "%F0%9F%98%80"]


async def test_an_unknown_id_is_a_404(world: World) -> None:
    for job_id in NO_IDS:
        for method, path in (
            ("GET", "/status/{}"),
            ("DELETE", "/jobs/{}"),
            ("GET", "/jobs/{}/logs"),
        ):
            answer = await world.http.request(method, path.format(job_id))
            assert answer.status_code == 404, job_id
            assert message_of(answer).startswith("there is no job ")


async def test_an_id_that_is_too_large_is_called_that(world: World) -> None:
    for job_id in (str(2**63), "9" * 5000, "0" * 30 + "9" * 30):
        answer = await world.http.get(f"/status/{job_id}")
        assert answer.status_code == 404
        assert message_of(answer).endswith(": no id is so large")
    last = await world.http.get(f"/status/{2**63 - 1}")
    assert message_of(last) == f"there is no job {2**63 - 1}"


async def test_a_status_shows_all_that_happened(world: World, clock: VirtualClock) -> None:
    job_id = (await world.post(scheduled_for="+2s"))["id"]
    assert (await world.status(job_id))["phase"] == "scheduled"
    clock.advance(4)
    due = await world.status(job_id)
    assert (due["phase"], due["waiting_until"]) == ("launching", None)
    assert due["waiting_because"] == "due 2 s ago; no launch reported yet"
    [listed] = (await world.http.get("/list")).json()
    assert (listed["phase"], listed["waiting_because"]) == (due["phase"], due["waiting_because"])
    clock.advance(1)
    await world.deliver(world.delayed(job_id, message="no capacity in 3 pools"))
    waiting = await world.status(job_id)
    assert (waiting["phase"], waiting["waiting_because"]) == ("waiting", "no capacity in 3 pools")
    clock.advance(4)
    agent = await world.claimed(job_id)
    clock.advance(5)
    await world.report(agent, phase="pulling")
    clock.advance(6)
    await world.report(agent, phase="running")
    running = await world.status(job_id)
    assert (running["status"], running["phase"]) == ("RUNNING", "running")
    assert (running["runtime"], running["waiting_because"]) == ("docker", None)
    assert running["spot_instance_request_id"] == f"sir-{job_id}-1"
    clock.advance(7)
    await world.call_back(agent, {"failed": "", "error_message": "boom", "exit_code": 3})
    clock.advance(8)
    await world.deliver(world.terminated(job_id))
    done = await world.status(job_id)
    assert (done["status"], done["exit_code"], done["error_message"]) == ("FAILED", 3, "boom")
    [attempt] = done["attempts"]
    assert (attempt["cause"], attempt["exit_code"]) == ("failed", 3)
    assert attempt["instance_id"] == f"i-{job_id}-1"
    assert (attempt["billed_seconds"], attempt["cost_usd"]) == (61, 0.25)
    assert [(each["phase"], each["seconds"]) for each in attempt["phases"]] == [
        ("scheduled", 2.0),
        ("launching", 3.0),
        ("waiting", 4.0),
        ("booting", 5.0),
        ("pulling", 6.0),
        ("running", 7.0),
    ]


async def test_a_status_is_of_one_time_however_the_job_moves(world: World) -> None:
    """Read in two statements it would now and then show a job with an attempt that is over."""
    agents = [await world.running() for _ in range(10)]

    async def look(job_id: int) -> None:
        for _ in range(6):
            job = await world.status(job_id)
            assert job["attempt"] == len(job["attempts"])

    stopped = {"schedule": "", "stopped": True}
    await asyncio.gather(
        *(look(agent.job_id) for agent in agents),
        *(world.call_back(agent, stopped) for agent in agents),
    )


# -- cancelling


async def scheduled(world: World) -> int:
    return int((await world.post(scheduled_for="+1h"))["id"])


async def due(world: World) -> int:
    return int((await world.post())["id"])


async def delayed(world: World) -> int:
    job_id = await due(world)
    await world.deliver(world.delayed(job_id))
    return job_id


async def booting(world: World) -> int:
    job_id = await due(world)
    await world.deliver(world.launched(job_id))
    return job_id


async def running(world: World) -> int:
    return (await world.running()).job_id


async def interrupted(world: World) -> int:
    agent = await world.running()
    await world.call_back(agent, {"schedule": ""})
    return agent.job_id


async def held(world: World) -> int:
    agent = await world.running()
    world.clock.advance(61)
    await world.stage.sweep("end_silent")
    return agent.job_id


STAGES: list[Any] = [scheduled, due, delayed, booting, running, interrupted, held]


async def test_a_job_is_cancelled_at_any_stage_and_only_once(world: World) -> None:
    for stage in STAGES:
        job_id = await stage(world)
        already = len(await world.published())
        answer = await world.cancel(job_id)
        assert answer.status_code == 200, stage
        job = answer.json()
        assert (job["status"], job["phase"]) == ("CANCELLED", "cancelled")
        assert job["waiting_because"] is None
        assert job["attempts"][-1]["cause"] == "cancelled"
        ends = ["AttemptEnded"] * (2 if stage is interrupted else 1)
        assert (await world.published())[already:] == ["JobCancelled", *ends, "JobFinished"]
        before = await world.rows()
        again = await world.cancel(job_id)
        assert again.status_code == 409
        assert message_of(again) == f"job {job_id} is already CANCELLED and cannot be cancelled"
        assert await world.rows() == before


async def test_what_comes_after_a_cancel_changes_neither_status_nor_outbox(world: World) -> None:
    for stage in STAGES:
        job_id = await stage(world)
        await world.cancel(job_id)
        jobs, outbox = (await world.rows())["jobs"], await world.published()
        attempt = len((await world.status(job_id))["attempts"])
        await world.deliver(
            world.delayed(job_id, attempt),
            world.launched(job_id, attempt),
            world.refused(job_id, attempt),
            *(world.terminated(job_id, number) for number in range(1, attempt + 1)),
        )
        world.clock.advance(10_000)
        await world.stage.sweep("end_silent")
        assert (await world.rows())["jobs"] == jobs, stage
        assert await world.published() == outbox


async def test_a_finished_job_is_not_cancelled(world: World) -> None:
    callbacks: dict[str, dict[str, str]] = {
        "DONE": {},
        "FAILED": {"failed": "", "error_message": "x"},
    }
    for status, callback in callbacks.items():
        agent = await world.running()
        await world.call_back(agent, callback)
        before = await world.rows()
        answer = await world.cancel(agent.job_id)
        assert answer.status_code == 409
        message = f"job {agent.job_id} is already {status} and cannot be cancelled"
        assert message_of(answer) == message
        assert await world.rows() == before


async def test_of_two_cancels_at_once_one_is_a_409(world: World) -> None:
    job_id = await running(world)
    answers = await asyncio.gather(world.cancel(job_id), world.cancel(job_id))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert (await world.published()).count("JobFinished") == 1


async def test_a_cancel_and_a_final_callback_at_once_leave_one_end(world: World) -> None:
    agents = [await world.running() for _ in range(8)]
    answers = await asyncio.gather(
        *(world.cancel(agent.job_id) for agent in agents),
        *(world.call_back(agent, {}) for agent in agents),
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 8 + [409] * 8
    assert (await world.published()).count("JobFinished") == 8
    assert (await world.published()).count("AttemptEnded") == 8


# -- methods and paths


async def test_another_method_is_a_405_that_names_the_right_one(world: World) -> None:
    for method, path, allowed in [
        ("POST", "/list", ["GET", "HEAD"]),
        ("GET", "/schedule", ["POST"]),
        ("PUT", "/status/1", ["GET", "HEAD"]),
        ("GET", "/jobs/1", ["DELETE"]),
        ("POST", "/callback/1", ["PUT"]),
        ("OPTIONS", "/list", ["GET", "HEAD"]),
        ("GET", "/agent/claim", ["POST"]),
    ]:
        answer = await world.http.request(method, path)
        assert answer.status_code == 405
        assert sorted(answer.headers["allow"].split(", ")) == allowed
        assert message_of(answer) == f"Method not allowed: use {answer.headers['allow']}"


async def test_an_unknown_path_is_a_404(world: World) -> None:
    for path in ("/", "/jobs", "/jobs/1/nothing", "/%F0%9F%98%80"):
        answer = await world.http.get(path)
        assert answer.status_code == 404
        assert message_of(answer) == f"Not found: {answer.request.url.path}"


async def test_head_is_answered_wherever_get_is(world: World) -> None:
    agent = await world.running()
    paths = ["/list", f"/status/{agent.job_id}", "/healthz", "/readyz"]
    logs = f"/jobs/{agent.job_id}/logs"
    for path in [*paths, logs, f"{logs}?follow=1"]:
        assert (await world.http.head(path)).status_code == 200
