"""`POST /jobs/{id}/rerun`: a job again, as it was or with other fields."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from services.api.jobs.columns import NAMES
from shared.clock import VirtualClock
from tests.support.api.api_world import World, a_config, message_of

KEY, OTHER_KEY = "0f" * 32, "e1" * 32
FULL: dict[str, Any] = {
    "docker_image": "registry.example.com/team/app:1.2",
    "name": "nightly",
    "timezone": "Europe/Berlin",
    "env_vars": {"A": "1", "B": ""},
    "entrypoint": ["/bin/sh", "-c"],
    "command": ["echo hello"],
    "labels": {"team": "data"},
    "timeout_seconds": 600,
    "resources": {"vcpus": 2, "memory_mib": 4096, "architecture": "arm64"},
    "capacity": "spot_then_on_demand",
    "spot_wait_seconds": 60,
    "retries": 2,
    "secrets": {"DB": "/prod/db"},
    "user": "1000:1000",
    "working_dir": "/data",
    "shm_size_mib": 128,
    "init": False,
    "stop_signal": "INT",
    "stop_grace_seconds": 5,
    "read_only": True,
}


@pytest.fixture
async def keeping(world: World) -> AsyncIterator[World]:
    """Make the API of a deployment that has a key for secrets."""
    keeping = World(world.ports, world.clock, a_config(SECRETS_KEY=KEY))
    yield keeping
    await keeping.close()


async def rerun(
    world: World, job_id: object, body: Any = None, key: str | None = None
) -> httpx.Response:
    return await world.http.post(
        f"/jobs/{job_id}/rerun",
        content=b"" if body is None else json.dumps(body),
        headers={} if key is None else {"Idempotency-Key": key},
    )


async def rerun_of(world: World, job_id: int, body: Any = None) -> dict[str, Any]:
    answer = await rerun(world, job_id, body)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/status/{job['id']}"
    return job


def given(job: dict[str, Any]) -> dict[str, Any]:
    return {name: job[name] for name in NAMES if name not in ("rerun_of", "scheduled_for")}


async def test_a_rerun_has_all_fields_of_the_old_job_and_is_due_now(
    world: World, clock: VirtualClock
) -> None:
    old = await world.post(**FULL)
    clock.advance(60)
    new = await rerun_of(world, old["id"])
    assert given(new) == given(old)
    assert new["id"] > old["id"]
    assert new["status"] == "SCHEDULED"
    assert new["scheduled_for"] == new["created_at"] != old["scheduled_for"]
    assert [each["number"] for each in new["attempts"]] == [1]
    assert await world.status(new["id"]) == new
    assert await world.published() == ["JobScheduled", "JobScheduled"]


async def test_every_document_says_of_which_job_it_is_a_rerun(world: World) -> None:
    old = await world.post()
    new = await rerun_of(world, old["id"])
    newest = await rerun_of(world, new["id"])
    assert [each["rerun_of"] for each in (old, new, newest)] == [None, old["id"], new["id"]]
    listed = (await world.http.get("/list")).json()
    assert [each["rerun_of"] for each in listed] == [new["id"], old["id"], None]
    assert (await world.status(new["id"]))["rerun_of"] == old["id"]


async def test_a_job_may_be_rerun_at_any_stage(world: World) -> None:
    scheduled = (await world.post(scheduled_for="+1h"))["id"]
    running = await world.running()
    done = await world.running()
    await world.call_back(done, {})
    cancelled = (await world.post())["id"]
    await world.cancel(cancelled)
    before = {each: await world.status(each) for each in (scheduled, done.job_id, cancelled)}
    for job_id in (scheduled, running.job_id, done.job_id, cancelled):
        assert (await rerun_of(world, job_id, {}))["rerun_of"] == job_id
    for job_id, shown in before.items():
        assert await world.status(job_id) == shown, "the old job is as it was"


async def test_an_override_replaces_the_whole_value_and_null_stands_for_the_default(
    world: World, clock: VirtualClock
) -> None:
    old = await world.post(**FULL)
    changes = {
        "docker_image": "alpine",
        "env_vars": {"C": 3},
        "labels": {},
        "resources": {"vcpus": 4},
        "retries": None,
        "timeout_seconds": None,
        "command": None,
        "init": None,
        "timezone": None,
        "scheduled_for": "+10m",
    }
    new = await rerun_of(world, old["id"], changes)
    defaults = {"retries": 0, "timezone": "UTC", "env_vars": {"C": "3"}, "scheduled_for": None}
    changed = changes | defaults
    assert given(new) == given(old) | {n: changed[n] for n in changes if n != "scheduled_for"}
    due_at = (clock.now() + timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    assert new["scheduled_for"] == due_at


async def test_a_time_of_null_is_now_and_a_time_of_day_is_in_the_old_jobs_zone(
    world: World,
) -> None:
    old = await world.post(timezone="Asia/Kolkata")
    now = await rerun_of(world, old["id"], {"scheduled_for": None})
    assert now["scheduled_for"] == now["created_at"]
    later = await rerun_of(world, old["id"], {"scheduled_for": "10:00"})
    assert later["timezone"] == "Asia/Kolkata"
    assert later["scheduled_for"].endswith("T04:30:00Z")


WRONG: list[tuple[Any, str]] = [
    ([], "the body must be empty, or a JSON object with the fields that change"),
    ("again", "the body must be empty, or a JSON object with the fields that change"),
    ({"retries": -1}, "retries must be"),
    ({"retires": 1}, "unknown field 'retires': the fields are docker_image"),
    ({"rerun_of": 1}, "unknown field 'rerun_of'"),
    ({"docker_image": None}, "docker_image field cannot be empty"),
    ({"scheduled_for": "yesterday"}, "scheduled_for 'yesterday' is not a time"),
    ({"secret_env": []}, "secret_env must be"),
]


@pytest.mark.parametrize(("body", "message"), WRONG)
async def test_a_wrong_override_is_refused_as_in_a_new_job(
    world: World, body: Any, message: str
) -> None:
    old = await world.post()
    answer = await rerun(world, old["id"], body)
    assert answer.status_code == 400
    assert message_of(answer).startswith(message)
    assert "is that of job" not in message_of(answer)
    assert len(await world.stage.rows("SELECT FROM jobs")) == 1


async def test_a_body_that_is_no_json_and_a_parameter_are_refused(world: World) -> None:
    old = await world.post()
    answer = await world.http.post(f"/jobs/{old['id']}/rerun", content=b"{")
    assert (answer.status_code, message_of(answer)[:21]) == (400, "the body is not JSON:")
    answer = await world.http.post(f"/jobs/{old['id']}/rerun?attempt=1")
    assert answer.status_code == 400
    assert "unknown parameter 'attempt'" in message_of(answer)


async def test_a_field_of_an_older_release_that_is_refused_today_is_named_with_the_way_out(
    world: World,
) -> None:
    old = await world.post(labels={"team": "data"})
    await world.stage.rows("""UPDATE jobs SET labels = '{"a:b": "c"}' RETURNING id""")
    answer = await rerun(world, old["id"])
    assert answer.status_code == 400
    assert message_of(answer).startswith("labels has the name 'a:b': a name has no colon")
    assert message_of(answer).endswith(
        f"labels is that of job {old['id']}: override it, or give null for its default"
    )
    new = await rerun_of(world, old["id"], {"labels": {"a": "c"}})
    assert new["labels"] == {"a": "c"}


async def test_a_field_that_does_not_go_with_an_override_is_named_as_the_old_jobs(
    world: World,
) -> None:
    old = await world.post(spot_wait_seconds=60)
    answer = await rerun(world, old["id"], {"capacity": "on_demand"})
    assert answer.status_code == 400
    assert "spot_wait_seconds is that of job" in message_of(answer)
    new = await rerun_of(world, old["id"], {"capacity": "on_demand", "spot_wait_seconds": None})
    assert (new["capacity"], new["spot_wait_seconds"]) == ("on_demand", None)


async def test_the_deployments_limits_count_for_a_rerun_too(world: World) -> None:
    old = await world.post(timeout_seconds=7200)
    strict = world.again(MAX_LIFETIME_SECONDS="3600")
    answer = await rerun(strict, old["id"])
    assert answer.status_code == 400
    assert message_of(answer).startswith("timeout_seconds must be")
    assert "timeout_seconds is that of job" in message_of(answer)
    await strict.close()


async def test_a_body_is_no_larger_than_that_of_a_new_job(world: World) -> None:
    old = await world.post()
    narrow = world.again(BODY_LIMIT_BYTES="1024")
    answer = await rerun(narrow, old["id"], {"env_vars": {"A": "x" * 1024}})
    assert answer.status_code == 413
    assert "1024 bytes" in message_of(answer)
    await narrow.close()


@pytest.mark.parametrize("job_id", ["99", "0", "x"])
async def test_there_is_no_rerun_of_a_job_that_is_not_there(world: World, job_id: str) -> None:
    for key in (None, "one"):
        answer = await rerun(world, job_id, {}, key)
        assert answer.status_code == 404
        assert message_of(answer).startswith(f"there is no job {job_id}" if job_id == "99" else "")


# -- secrets ---------------------------------------------------------------------------------------

SECRETS: dict[str, Any] = {"secret_env": {"TOKEN": "one", "LOGIN": "me:two"}}


async def claimed_secrets(world: World, job_id: int) -> dict[str, str]:
    await world.deliver(world.launched(job_id))
    found: dict[str, str] = (await world.claim(job_id)).json()["job"]["secret_env"]
    return found


async def test_values_that_are_still_held_are_copied_and_sealed_for_the_new_job(
    keeping: World,
) -> None:
    old = await keeping.post(**SECRETS, registry_auth="LOGIN")
    new = await rerun_of(keeping, old["id"])
    assert (new["secret_env"], new["registry_auth"]) == (["LOGIN", "TOKEN"], "LOGIN")
    assert await claimed_secrets(keeping, new["id"]) == SECRETS["secret_env"]
    assert await claimed_secrets(keeping, old["id"]) == SECRETS["secret_env"]
    rows = await keeping.stage.rows("SELECT sealed FROM job_secrets")
    assert len({bytes(row["sealed"]) for row in rows}) == 2


async def test_values_of_a_rotated_key_are_sealed_under_the_new_one(keeping: World) -> None:
    old = await keeping.post(**SECRETS)
    rotated = World(keeping.ports, keeping.clock, a_config(SECRETS_KEY=f"{OTHER_KEY} {KEY}"))
    new = await rerun_of(rotated, old["id"])
    await rotated.close()
    later = World(keeping.ports, keeping.clock, a_config(SECRETS_KEY=OTHER_KEY))
    assert await claimed_secrets(later, new["id"]) == SECRETS["secret_env"]
    answer = await rerun(later, old["id"])
    assert (answer.status_code, message_of(answer)) == (
        400,
        (
            f"secret_env: the values of LOGIN, TOKEN of job {old['id']} are sealed with a key that "
            "this API has not: give them again"
        ),
    )
    await later.close()


async def test_values_that_were_deleted_must_be_given_again_and_are_named(keeping: World) -> None:
    old = await keeping.post(**SECRETS)
    await keeping.cancel(old["id"])
    gone = f"were deleted when job {old['id']} ended: give them again"
    missing: list[tuple[Any, str]] = [
        (None, f"secret_env: the values of LOGIN, TOKEN {gone}"),
        ({"secret_env": {}}, f"secret_env: the values of LOGIN, TOKEN {gone}"),
        ({"secret_env": {"LOGIN": "x"}}, f"secret_env: the values of TOKEN {gone}"),
    ]
    for body, message in missing:
        answer = await rerun(keeping, old["id"], body)
        assert (answer.status_code, message_of(answer)) == (400, message)
    again = {"LOGIN": "me:three", "TOKEN": "four", "MORE": "5"}
    new = await rerun_of(keeping, old["id"], {"secret_env": again})
    assert await claimed_secrets(keeping, new["id"]) == again


async def test_given_values_go_over_held_ones_and_null_takes_none(keeping: World) -> None:
    old = await keeping.post(**SECRETS)
    new = await rerun_of(keeping, old["id"], {"secret_env": {"TOKEN": "three"}})
    assert await claimed_secrets(keeping, new["id"]) == {"TOKEN": "three", "LOGIN": "me:two"}
    bare = await rerun_of(keeping, old["id"], {"secret_env": None})
    assert bare["secret_env"] == []


async def test_no_value_of_a_secret_is_in_an_answer(keeping: World) -> None:
    old = await keeping.post(secret_env={"TOKEN": "canary-1f2e"}, registry_auth=None)
    for body in (None, {"env_vars": {"TOKEN": "x"}}, {"registry_auth": "TOKEN"}):
        assert "canary" not in (await rerun(keeping, old["id"], body)).text


# -- Idempotency-Key -------------------------------------------------------------------------------


async def test_a_repeated_key_gets_the_first_answer_even_after_the_old_job_is_removed(
    world: World, clock: VirtualClock
) -> None:
    old = await world.post()
    first = await rerun(world, old["id"], {"retries": 1}, "again")
    await world.cancel(old["id"])
    clock.advance(7200)
    removed = await world.http.delete(f"/jobs/{old['id']}/record")
    assert removed.status_code == 204, removed.text
    repeated = await rerun(world, f"00{old['id']}", {"retries": 1}, "again")
    assert (repeated.status_code, repeated.content) == (201, first.content)
    assert repeated.headers["location"] == first.headers["location"]
    assert len(await world.stage.rows("SELECT FROM jobs")) == 1


async def test_a_key_is_of_one_job_and_one_body(world: World) -> None:
    one, other = (await world.post())["id"], (await world.post())["id"]
    assert (await rerun(world, one, {}, "again")).status_code == 201
    for job_id, body in ((other, {}), (one, {"retries": 1})):
        answer = await rerun(world, job_id, body, "again")
        assert (answer.status_code, message_of(answer)[:30]) == (
            409,
            "Idempotency-Key was used befor",
        )
    scheduled = {"docker_image": "alpine", "scheduled_for": "now"}
    answer = await world.http.post(
        "/schedule", json=scheduled, headers={"Idempotency-Key": "again"}
    )
    assert answer.status_code == 409
    assert len(await world.stage.rows("SELECT FROM jobs")) == 3


async def test_a_key_of_a_refused_rerun_is_free_again(world: World) -> None:
    old = await world.post()
    assert (await rerun(world, old["id"], {"retries": -1}, "again")).status_code == 400
    assert (await rerun(world, 99, {}, "again")).status_code == 404
    assert (await rerun(world, old["id"], {}, "again")).status_code == 201
