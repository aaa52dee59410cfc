"""Keys see and change the jobs of their own project alone: on every route, in every stream."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from services.api.jobs import stats, totals
from services.api.jobs.costs import WASTED
from services.api.keys import store as key_store
from services.api.keys.access import REMEMBER_SECONDS, make_key
from shared.clock import VirtualClock
from shared.postgres.pool import connect
from tests.integration.test_api_keys import revoke
from tests.support.api.api_world import World, message_of
from tests.support.api.event_stream import following, serving
from tests.support.api.many_jobs import fill_unexpectedly, plan_of
from tests.support.api.projects import OURS, THEIRS, Scene, bearer, two_projects, value_of

ONE, MANY, NONE, ADMIN, AGENT, OPEN = "one job", "many jobs", "no job", "admin", "agent", "open"
SHOWS = {
    ("GET", "/list"): MANY,
    ("GET", "/events"): MANY,
    ("GET", "/stats"): MANY,
    ("GET", "/totals"): MANY,
    ("GET", "/instances"): MANY,
    ("GET", "/status/{id}"): ONE,
    ("GET", "/jobs/{id}/logs"): ONE,
    ("DELETE", "/jobs/{id}"): ONE,
    ("POST", "/jobs/{id}/rerun"): ONE,
    ("DELETE", "/jobs/{id}/record"): ADMIN,
    ("POST", "/schedule"): NONE,
    ("POST", "/plan"): NONE,
    ("GET", "/about"): NONE,
    ("GET", "/quotas"): NONE,  # of the key alone: see `test_api_job_quotas.py`
    ("GET", "/keys"): ADMIN,
    ("POST", "/keys"): ADMIN,
    ("DELETE", "/keys/{prefix}"): ADMIN,
    ("GET", "/audit"): ADMIN,
    ("GET", "/deadletters"): ADMIN,
    ("GET", "/deadletters/{event_id}"): ADMIN,
    ("POST", "/deadletters/{event_id}/redrive"): ADMIN,
    ("DELETE", "/deadletters/{event_id}"): ADMIN,
    ("PUT", "/callback/{id}"): AGENT,
    ("POST", "/agent/claim"): AGENT,
    ("POST", "/agent/jobs/{id}/report"): AGENT,
    ("GET", "/agent/agent.py"): OPEN,
    ("GET", "/agent/builds/{sha256}"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/openapi.json"): OPEN,
}
"""What each route shows or changes; `admin`: for that scope alone, see `test_api_keys.py`."""

ONE_JOB: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/status/{id}", {}),
    ("HEAD", "/status/{id}", {}),
    ("GET", "/status/000{id}", {}),
    ("GET", "/status/{id}?a=1", {}),
    ("GET", "/jobs/{id}/logs", {}),
    ("HEAD", "/jobs/{id}/logs", {}),
    ("GET", "/jobs/{id}/logs?follow=1", {}),
    ("GET", "/jobs/{id}/logs?attempt=1&tail=1", {}),
    ("GET", "/jobs/{id}/logs?attempt=7", {}),
    ("GET", "/jobs/{id}/logs?follow=1", {"headers": {"Last-Event-ID": "1.1.end"}}),
    ("DELETE", "/jobs/{id}", {}),
    ("POST", "/jobs/{id}/rerun", {}),
    ("POST", "/jobs/{id}/rerun", {"json": {"retries": 2}}),
    ("POST", "/jobs/{id}/rerun", {"json": {"retries": "x"}}),
    ("POST", "/jobs/{id}/rerun", {"json": []}),
    ("POST", "/jobs/{id}/rerun", {"headers": {"Idempotency-Key": "once"}}),
    ("DELETE", "/jobs/{id}/record", {}),
]
MANY_JOBS = [
    *(
        "/list",
        "/list?limit=all",
        "/list?limit=1",
        "/list?by=finished",
        "/list?by=finished&limit=1",
    ),
    *("/list?q=theirs", "/list?name=name-of-theirs", "/list?image=image-of-theirs"),
    *("/list?label=team:label-of-theirs", "/list?status=RUNNING,DONE&q=of", "/list?cursor=4"),
    *("/instances", "/instances?limit=1", "/totals", "/stats", "/stats?by=status"),
    *("/stats?by=image", "/stats?by=label:team", "/stats?by=project", "/stats?by=created_by"),
]
SCOPES = ("read", "submit")


@pytest.fixture
async def scene(world: World) -> Scene:
    return await two_projects(world)


@pytest.fixture
async def served(scene: Scene) -> AsyncIterator[Any]:
    async with serving(scene.world) as http:
        yield http


async def test_a_route_that_is_added_must_be_listed_here(world: World) -> None:
    assert world.routes == set(SHOWS)
    plain = {(method, path.partition("?")[0].replace("000", "")) for method, path, _ in ONE_JOB}
    assert {each for each, shows in SHOWS.items() if shows == ONE} <= plain
    asked = {("GET", path.partition("?")[0]) for path in (*MANY_JOBS, "/events")}
    assert asked == {each for each, shows in SHOWS.items() if shows == MANY}


async def test_another_projects_job_is_answered_as_an_unknown_one_and_nothing_is_written(
    scene: Scene,
) -> None:
    before = await scene.world.rows()
    sent = 0
    for scope, (method, path, more) in itertools.product(SCOPES, ONE_JOB):
        for job_id in (scene.running[THEIRS].job_id, scene.done[THEIRS]):
            answers = []
            for each in (job_id, 999_999):
                key = scene.keys[OURS, scope]
                answer = await scene.call(key, method, path.replace("{id}", str(each)), **more)
                headers = sorted(set(answer.headers) - {"content-length"})
                text = answer.text.replace(str(each), "{id}")
                answers.append((answer.status_code, headers, text))
            theirs, unknown = answers
            assert theirs == unknown, (scope, method, path)
            assert theirs[0] in (403, 404), (scope, method, path)
            if theirs[0] == 404 and method != "HEAD":
                assert "there is no job {id}" in theirs[2]
            sent += 1
    assert await scene.world.rows() == before
    print(f"{sent} of {sent} calls of another project's job were answered as of an unknown one")


async def test_the_answer_does_not_wait_for_a_lock_of_that_job(
    scene: Scene, database_url: str
) -> None:
    """How long it takes would tell that the job exists."""
    job_id = scene.running[THEIRS].job_id
    conn = await connect(database_url)
    try:
        async with conn.transaction(), asyncio.timeout(10):
            await conn.fetch("SELECT FROM api.jobs WHERE id = $1 FOR UPDATE", job_id)
            answer = await scene.call(scene.keys[OURS, "submit"], "DELETE", f"/jobs/{job_id}")
            assert answer.status_code == 404
    finally:
        await conn.close()


async def test_a_key_sees_and_changes_the_jobs_of_its_own_project(scene: Scene) -> None:
    job_id = scene.running[OURS].job_id
    for scope in ("read", "submit", "admin"):
        for path in (f"/status/{job_id}", f"/jobs/{job_id}/logs"):
            assert (await scene.call(scene.keys[OURS, scope], "GET", path)).status_code == 200
    submit = scene.keys[OURS, "submit"]
    rerun = await scene.call(submit, "POST", f"/jobs/{job_id}/rerun")
    assert (rerun.status_code, rerun.json()["project"]) == (201, OURS)
    assert (await scene.call(submit, "DELETE", f"/jobs/{job_id}")).status_code == 200


async def test_an_admin_sees_and_changes_the_jobs_of_all(scene: Scene) -> None:
    admin = scene.keys[OURS, "admin"]
    listed = await scene.get(admin, "/list")
    assert {each["project"] for each in listed} == {OURS, THEIRS}
    job_id = scene.running[THEIRS].job_id
    rerun = await scene.call(admin, "POST", f"/jobs/{job_id}/rerun")
    assert (rerun.status_code, rerun.json()["project"]) == (201, THEIRS), "with its values"
    assert rerun.json()["created_by"] == admin.split("_")[1]
    assert (await scene.call(admin, "DELETE", f"/jobs/{job_id}")).status_code == 200
    done = scene.done[THEIRS]
    assert (await scene.call(admin, "DELETE", f"/jobs/{done}/record")).status_code == 204


async def test_no_body_can_choose_the_project_or_the_key(scene: Scene) -> None:
    submit, job_id = scene.keys[OURS, "submit"], scene.running[OURS].job_id
    before = await scene.world.rows()
    refused = 0
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    fields = ({"project": THEIRS}, {"created_by": "1f2e3d4c"}, {"rerun_of": scene.done[THEIRS]})
    for given in fields:
        answers = (
            await scene.call(submit, "POST", "/schedule", json={**body, **given}),
            await scene.call(submit, "POST", f"/jobs/{job_id}/rerun", json=given),
            await scene.call(submit, "POST", f"/schedule?project={THEIRS}", json={}),
        )
        refused += sum(answer.status_code == 400 for answer in answers)
    assert await scene.world.rows() == before
    print(f"{refused} of {3 * len(fields)} bodies that choose an owner refused")
    assert refused == 3 * len(fields)


async def test_without_a_key_nothing_is_shown(scene: Scene) -> None:
    job_id = scene.running[OURS].job_id
    calls = [(method, path.replace("{id}", str(job_id)), more) for method, path, more in ONE_JOB]
    calls += [("GET", path, {}) for path in (*MANY_JOBS, "/events")]
    refused = 0
    for method, path, more in calls:
        refused += (await scene.call(None, method, path, **more)).status_code == 401
    print(f"{refused} of {len(calls)} calls without a key refused")
    assert refused == len(calls)


@pytest.mark.parametrize("scope", SCOPES)
async def test_no_list_has_a_job_of_another_project(scene: Scene, scope: str) -> None:
    theirs_prefix = scene.keys[THEIRS, "submit"].split("_")[1]
    found = 0
    for path in MANY_JOBS:
        key, url, text = scene.keys[OURS, scope], path, ""
        for _ in range(20):
            answer = await scene.call(key, "GET", url)
            assert answer.status_code == 200, (path, answer.text)
            text += answer.text + answer.headers.get("link", "").replace(path, "")
            if "next" not in answer.links:
                break
            url = answer.links["next"]["url"]
        assert "next" not in answer.links, path
        for hidden in ("of-theirs", '"theirs"', theirs_prefix, f"i-{scene.done[THEIRS]}-"):
            assert hidden not in text.replace(path.partition("?")[2], ""), (path, hidden)
        found += OURS in text
    assert found >= 8
    print(f"0 of {len(MANY_JOBS)} lists show another project's job to {scope}")


@pytest.mark.parametrize("scope", SCOPES)
async def test_counts_and_costs_are_those_of_the_own_project(scene: Scene, scope: str) -> None:
    key, admin = scene.keys[OURS, scope], scene.keys[OURS, "admin"]
    assert (await scene.get(key, "/stats"))["total"]["jobs"] == 1
    assert [each["jobs"] for each in await scene.get(key, "/totals")] == [1]
    assert len(await scene.get(key, "/instances")) == 1
    assert (await scene.get(admin, "/stats"))["total"]["jobs"] == 2
    assert [each["jobs"] for each in await scene.get(admin, "/totals")] == [2]
    assert len(await scene.get(admin, "/instances")) == 2
    for path in ("/list", "/stats", "/totals", "/instances"):
        of_admin = await scene.get(admin, f"{path}?project={OURS}")
        own = await scene.get(key, path)
        if path == "/list":
            own, of_admin = ([each["id"] for each in jobs] for jobs in (own, of_admin))
        assert own == of_admin, path


async def test_another_projects_filter_is_refused_alike_whether_there_is_one_or_not(
    scene: Scene,
) -> None:
    sent = 0
    for scope, path in itertools.product(
        SCOPES, ("list", "stats", "totals", "instances", "events")
    ):
        for project in (THEIRS, "nobody"):
            answer = await scene.call(scene.keys[OURS, scope], "GET", f"/{path}?project={project}")
            assert (answer.status_code, message_of(answer)) == (
                403,
                "project must be ours: this API key sees the jobs of no other project",
            )
            sent += 1
    assert (await scene.get(scene.keys[OURS, "admin"], "/list?project=nobody")) == []
    print(f"{sent} of {sent} filters by another project refused")


async def test_the_links_of_a_filtered_list_keep_the_project(scene: Scene) -> None:
    admin = scene.keys[OURS, "admin"]
    for path in ("/list", "/instances"):
        await scene.post(scene.keys[THEIRS, "submit"], THEIRS)
        url, found = f"{path}?project={THEIRS}&limit=1", []
        while True:
            answer = await scene.call(admin, "GET", url)
            found += answer.json()
            if "next" not in answer.links:
                break
            url = answer.links["next"]["url"]
        assert {each.get("job_name", each.get("name")) for each in found} == {"name-of-theirs"}


async def test_a_follower_gets_the_changes_of_its_own_project_and_so_does_a_replay(
    scene: Scene, served: Any
) -> None:
    reader = scene.keys[OURS, "read"]
    served.headers.update(bearer(reader))
    theirs = scene.running[THEIRS].job_id
    async with following(served) as events:
        began = await events.begun()
        for project in (THEIRS, OURS, THEIRS, OURS):
            await scene.post(scene.keys[project, "submit"], project)
        live = await events.take(2)
    async with following(served, after=began) as events:
        await events.begun()
        replayed = await events.take(2)
    assert live == replayed
    assert {each["name"] for each in live} == {"name-of-ours"}
    async with following(served, job=[str(theirs), str(scene.running[OURS].job_id)]) as events:
        await events.begun()
        for project in (THEIRS, OURS):
            agent = scene.running[project]
            await scene.world.call_back(agent, {})
        [change] = await events.take(1)
    assert change["name"] == "name-of-ours"


async def test_an_admin_follows_all_projects_or_one(scene: Scene, served: Any) -> None:
    served.headers.update(bearer(scene.keys[OURS, "admin"]))
    async with following(served, project=THEIRS) as one, following(served) as every:
        await one.begun()
        await every.begun()
        for project in (OURS, THEIRS):
            await scene.post(scene.keys[project, "submit"], project)
        assert [each["name"] for each in await one.take(1)] == ["name-of-theirs"]
        assert len(await every.take(2)) == 2


@pytest.mark.parametrize("path", ["/events", "/jobs/{id}/logs?follow=1"])
async def test_a_stream_ends_before_its_next_part_once_its_key_is_revoked(
    scene: Scene, served: Any, path: str
) -> None:
    agent, key = scene.running[OURS], scene.keys[OURS, "read"]
    url = path.replace("{id}", str(agent.job_id))
    async with (
        asyncio.timeout(30),
        served.stream("GET", url, headers=bearer(key)) as answer,
    ):
        parts = answer.aiter_text()
        assert "id: " in await anext(parts)
        await revoke(scene.world, key)
        scene.world.clock.advance(REMEMBER_SECONDS)
        await scene.world.report(agent, lines=["later"], seq=2)
        await scene.world.call_back(agent, {})
        assert [part async for part in parts] == []


# -- the values of env_vars


async def test_a_read_key_sees_the_names_of_variables_with_null_for_each_value(
    scene: Scene,
) -> None:
    reader, submit = scene.keys[OURS, "read"], scene.keys[OURS, "submit"]
    job_id = scene.running[OURS].job_id
    for path in (f"/status/{job_id}", "/list", "/list?limit=all", "/list?by=finished"):
        for key, value in ((reader, None), (submit, value_of(OURS))):
            found = await scene.get(key, path)
            for job in found if isinstance(found, list) else [found]:
                assert job["env_vars"] == {"VARIABLE": value}, path
    for path in (f"/status/{scene.done[THEIRS]}", "/list?project=theirs"):
        found = await scene.get(scene.keys[OURS, "admin"], path)
        assert value_of(THEIRS) in str(found), "an admin sees the values of all"


async def test_no_route_shows_a_value_to_a_read_key(scene: Scene, served: Any) -> None:
    reader, job_id = scene.keys[OURS, "read"], scene.running[OURS].job_id
    calls = [(method, path.replace("{id}", str(job_id)), more) for method, path, more in ONE_JOB]
    calls += [("GET", path, {}) for path in (*MANY_JOBS, "/about", "/deadletters", "/readyz")]
    calls = [call for call in calls if "follow" not in call[1]]  # one that goes on has no end
    for method, path, more in calls:
        answer = await scene.call(reader, method, path, **more)
        assert "value-of" not in answer.text, (method, path)
    served.headers.update(bearer(reader))
    async with following(served) as events:
        await events.begun()
        await scene.post(scene.keys[OURS, "submit"], OURS)
        assert "value-of" not in str(await events.take(1))
    print(f"0 of {len(calls) + 1} answers to a read key have a value of a variable")


# -- Idempotency-Key


async def test_idempotency_keys_of_two_api_keys_are_apart(world: World) -> None:
    body = {"docker_image": "alpine", "scheduled_for": "now"}
    once = {"Idempotency-Key": "once"}
    keyless = [await world.http.post("/schedule", json=body, headers=once) for _ in range(2)]
    assert len({each.json()["id"] for each in keyless}) == 1
    scene = await two_projects(world)
    made = {}
    for project, scope in itertools.product((OURS, THEIRS), ("submit", "admin")):
        key = scene.keys[project, scope]
        answers = [
            await scene.call(key, "POST", "/schedule", json=body, headers=once) for _ in range(2)
        ]
        assert answers[0].content == answers[1].content
        made[project, scope] = answers[0].json()["id"]
    assert len({*made.values(), keyless[0].json()["id"]}) == 5
    print(f"{len(made)} keys got {len(set(made.values()))} jobs for one Idempotency-Key")


async def test_idempotency_keys_are_apart_for_requests_at_once_too(scene: Scene) -> None:
    keys = [scene.keys[project, "submit"] for project in (OURS, THEIRS)]

    async def post(key: str) -> tuple[str, int, str]:
        headers = {"Idempotency-Key": "at once"}
        answer = await scene.post(key, OURS if key == keys[0] else THEIRS, headers=headers)
        assert answer.status_code == 201, answer.text
        return key, answer.json()["id"], answer.json()["project"]

    found = set(await asyncio.gather(*(post(key) for key in keys * 10)))
    assert len(found) == 2, "ten requests each, one job each"
    assert {(key, project) for key, _, project in found} == {(keys[0], OURS), (keys[1], THEIRS)}


async def test_another_body_under_another_keys_idempotency_key_is_no_conflict(
    scene: Scene,
) -> None:
    """A 409 would show that the other project uses the key."""
    once = {"Idempotency-Key": "guessed"}
    await scene.post(scene.keys[THEIRS, "submit"], THEIRS, headers=once)
    answer = await scene.post(scene.keys[OURS, "submit"], OURS, headers=once)
    assert (answer.status_code, answer.json()["project"]) == (201, OURS)
    again = await scene.post(scene.keys[OURS, "submit"], OURS, retries=3, headers=once)
    assert again.status_code == 409


async def test_a_repeated_rerun_gets_the_first_answer_though_the_old_job_is_removed(
    scene: Scene,
) -> None:
    once = {"Idempotency-Key": "again"}
    path = f"/jobs/{scene.done[OURS]}/rerun"
    first, other = scene.keys[OURS, "submit"], scene.keys[THEIRS, "submit"]
    made = await scene.call(first, "POST", path, headers=once)
    admin = scene.keys[OURS, "admin"]
    removed = await scene.call(admin, "DELETE", f"/jobs/{scene.done[OURS]}/record")
    assert (made.status_code, removed.status_code) == (201, 204)
    repeated = await scene.call(first, "POST", path, headers=once)
    assert (repeated.status_code, repeated.content) == (201, made.content)
    assert (await scene.call(other, "POST", path, headers=once)).status_code == 404


async def test_a_row_of_the_release_before_answers_keys_of_the_default_project_alone(
    world: World,
) -> None:
    """It does not have whose it is, and all jobs of that release are of that project."""
    once = {"Idempotency-Key": "old"}
    body = {"docker_image": "alpine", "scheduled_for": "+1h"}
    keys = {}
    for project in ("default", OURS):
        keys[project] = make_key()
        async with world.ports.db.transaction() as tx:
            await key_store.insert_key(
                tx, keys[project].prefix, project, "submit", keys[project].hashed, project
            )
    headers = {each: {"Authorization": f"Bearer {keys[each].text}", **once} for each in keys}
    first = await world.http.post("/schedule", json=body, headers=headers["default"])
    # As the release before has written it; it had no columns for whose the job is.
    await world.stage.rows(
        "UPDATE idempotency_keys SET key = 'old', created_at = created_at + interval '1 s' "
        "RETURNING 1"
    )
    again = await world.http.post("/schedule", json=body, headers=headers["default"])
    assert (again.status_code, again.json()) == (201, first.json()), "no second job"
    other = await world.http.post("/schedule", json=body, headers=headers[OURS])
    assert other.json()["id"] != first.json()["id"], "of another project: a job of its own"
    changed = body | {"docker_image": "debian"}
    new = await world.http.post("/schedule", json=changed, headers=headers["default"])
    assert (new.status_code, new.json()["id"]) == (201, other.json()["id"] + 1)


async def test_a_row_of_a_caller_without_a_key_answers_no_key(
    world: World, clock: VirtualClock
) -> None:
    once = {"Idempotency-Key": "old"}
    body = {"docker_image": "alpine", "scheduled_for": "+1h"}
    first = await world.http.post("/schedule", json=body, headers=once)
    clock.advance(10)
    key = make_key()
    async with world.ports.db.transaction() as tx:
        await key_store.insert_key(tx, key.prefix, "me", "submit", key.hashed)
    headers = {"Authorization": f"Bearer {key.text}", **once}
    again = await world.http.post("/schedule", json=body, headers=headers)
    assert again.json()["id"] != first.json()["id"]


# -- sums of removed jobs


async def test_removed_jobs_count_for_their_own_project(scene: Scene) -> None:
    world, admin = scene.world, scene.keys[OURS, "admin"]
    paths = ("/stats", "/stats?by=status", "/totals")
    keys = [scene.keys[OURS, "read"], scene.keys[THEIRS, "read"], admin]

    async def counted() -> list[Any]:
        found = []
        for key, path in itertools.product(keys, paths):
            answer = await scene.get(key, path)
            if isinstance(answer, dict):
                answer = [
                    (each["key"], each["jobs"], each["cost_usd"], each["saved_usd"])
                    for each in answer["groups"]
                ]
            found.append(answer)
        return found

    before = await counted()
    for job_id in scene.done.values():
        answer = await scene.call(admin, "DELETE", f"/jobs/{job_id}/record")
        assert answer.status_code == 204
    assert await counted() == before
    assert len(await world.stage.rows("SELECT * FROM project_totals")) == 2
    by_project = (await scene.get(admin, "/stats?by=project"))["groups"]
    assert [(each["key"], each["jobs"]) for each in by_project] == [(OURS, 1), (THEIRS, 1)]


async def test_what_the_release_before_has_removed_counts_for_the_project_default(
    scene: Scene,
) -> None:
    admin = scene.keys[OURS, "admin"]
    assert (await scene.call(admin, "DELETE", f"/jobs/{scene.done[OURS]}/record")).is_success
    await scene.world.stage.rows("UPDATE daily_totals SET jobs = jobs + 5 RETURNING 1")
    groups = (await scene.get(admin, "/stats?by=project"))["groups"]
    assert [(each["key"], each["jobs"]) for each in groups] == [
        ("default", 5),
        (OURS, 1),
        (THEIRS, 1),
    ]
    assert [each["jobs"] for each in await scene.get(admin, "/totals?project=default")] == [5]
    assert [each["jobs"] for each in await scene.get(scene.keys[OURS, "read"], "/totals")] == [1]


# -- many jobs of others


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_counts_of_a_project_read_none_of_the_many_jobs_of_others(
    fresh_world: World, database_url: str, mode: str
) -> None:
    """Of 100,000 jobs 100 are in the project `rare`; Postgres assumes that all are in one."""
    await fill_unexpectedly(database_url, 100_000)
    times = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    days = tuple(each.date() for each in times)
    for sql, args in (
        (
            stats.COUNT_FINISHED_OF_PROJECT,
            (*times, "image", None, sorted(WASTED), stats.MOST_GROUPS, "rare"),
        ),
        (totals.LOAD_PROJECT_TOTALS, (*days, "rare")),
    ):
        plan = await plan_of(fresh_world, sql, *args, mode=mode)
        scans = [node for node in plan if "Scan" in node["Node Type"]]
        of_jobs = [node for node in scans if node.get("Relation Name") == "jobs"]
        assert {each.get("Index Name") for each in of_jobs} == {"jobs_finished_by_project"}
        read = max(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in scans
        )
        assert read <= 100, (sql, read)
