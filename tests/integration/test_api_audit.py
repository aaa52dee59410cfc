"""API keys over HTTP, and the audit trail of all that changes something."""

import asyncio
from typing import Any

import pytest
from asyncpg import RaiseError

from services.api.keys.access import REMEMBER_SECONDS
from shared.clock import VirtualClock
from tests.support.api.api_world import World, message_of
from tests.support.api.event_stream import following, serving

ADDRESS = "127.0.0.1"
DAY = 86_400
BODY = {"docker_image": "alpine", "scheduled_for": "now"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def make(world: World, by: str | None = None, **fields: str) -> dict[str, Any]:
    """Make a key over HTTP with the key *by*."""
    answer = await world.http.post("/keys", json=fields, headers=bearer(by) if by else {})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def trail(world: World, by: str, query: str = "") -> list[dict[str, Any]]:
    answer = await world.http.get(f"/audit{query}", headers=bearer(by))
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()
    return entries


async def test_a_key_made_over_http_works_at_once_and_its_text_is_shown_once(world: World) -> None:
    admin = await make(world, name="me", scope="admin")
    world.clock.advance(1)  # keys are listed in the order of their times
    ci = await make(world, admin["key"], name="ci", project="data")
    assert (ci["scope"], ci["project"], ci["prefix"]) == ("submit", "data", ci["key"].split("_")[1])
    posted = await world.http.post("/schedule", json=BODY, headers=bearer(ci["key"]))
    assert (posted.json()["project"], posted.json()["created_by"]) == ("data", ci["prefix"])
    assert (await world.http.get("/list")).status_code == 401, "the API is open no longer"
    listed = await world.http.get("/keys", headers=bearer(admin["key"]))
    assert [each["prefix"] for each in listed.json()] == [admin["prefix"], ci["prefix"]]
    for key in (admin, ci):
        assert key["key"].rpartition("_")[2] not in listed.text
        assert key["key"].rpartition("_")[2] not in repr(await trail(world, admin["key"]))


async def test_a_stream_without_a_key_ends_before_its_next_part_once_there_is_one(
    world: World,
) -> None:
    async with serving(world) as http, following(http) as events:
        await events.begun()
        admin = await make(world, name="me", scope="admin")
        await world.http.post("/schedule", json=BODY, headers=bearer(admin["key"]))
        with pytest.raises(EOFError):
            await events.upcoming()


async def test_the_first_key_and_the_last_one_are_an_admins(world: World) -> None:
    first = await world.http.post("/keys", json={"name": "ci", "scope": "submit"})
    assert first.status_code == 409
    assert "the first key must have the scope admin" in message_of(first)
    admin = await make(world, name="me", scope="admin")
    await make(world, admin["key"], name="ci")
    last = await world.http.delete(f"/keys/{admin['prefix']}", headers=bearer(admin["key"]))
    assert last.status_code == 409
    assert "is the last key of scope admin: make another one first" in message_of(last)
    other = await make(world, admin["key"], name="you", scope="admin")
    path = f"/keys/{admin['prefix']}"
    assert (await world.http.delete(path, headers=bearer(other["key"]))).status_code == 204
    assert (await world.http.delete(path, headers=bearer(other["key"]))).status_code == 404
    assert (await world.http.get("/list", headers=bearer(admin["key"]))).status_code == 401


async def test_two_admins_who_revoke_each_other_leave_one(world: World) -> None:
    one = await make(world, name="one", scope="admin")
    two = await make(world, one["key"], name="two", scope="admin")
    answers = await asyncio.gather(
        world.http.delete(f"/keys/{one['prefix']}", headers=bearer(two["key"])),
        world.http.delete(f"/keys/{two['prefix']}", headers=bearer(one["key"])),
    )
    assert sorted(each.status_code for each in answers) == [204, 409]


async def test_a_new_key_never_has_the_prefix_of_another_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though chance gives it again: its audit entries could not be told from the other's."""
    admin = await make(world, name="me", scope="admin")
    chance = iter([admin["prefix"], "a" * 64, "0badcafe", "b" * 64])
    monkeypatch.setattr("services.api.keys.access.secrets.token_hex", lambda _: next(chance))
    ci = await make(world, admin["key"], name="ci")
    assert ci["prefix"] == "0badcafe"
    assert (await world.http.get("/keys", headers=bearer(admin["key"]))).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body must be a JSON object"),
        ({}, "name is missing"),
        ({"name": " "}, "name must have 1 to 200 printable characters"),
        ({"name": "a\x1b[2J"}, "name must have 1 to 200 printable characters"),
        ({"name": 7}, "name must be a text"),
        ({"name": "ci", "scope": "root"}, "scope must be one of read, submit, admin"),
        ({"name": "ci", "project": "Data Team"}, "project must begin with a lower-case letter"),
        ({"name": "ci", "project": None}, "project must be a text"),
        ({"name": "ci", "key": "mine"}, "unknown field 'key': use name, scope, project"),
    ],
)
async def test_a_bad_body_makes_no_key(world: World, body: Any, message: str) -> None:
    answer = await world.http.post("/keys", json=body)
    assert (answer.status_code, message in message_of(answer)) == (400, True), answer.text
    assert await world.stage.rows("SELECT * FROM api_keys") == []


async def test_each_act_is_in_the_trail_with_who_where_what_and_when(
    world: World, clock: VirtualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = await make(world, name="me", scope="admin")
    key, headers = admin["key"], bearer(admin["key"])
    later = BODY | {"scheduled_for": "+1h"}
    job = (await world.http.post("/schedule", json=later, headers=headers)).json()["id"]
    array = await world.http.post("/schedule", json=[BODY, BODY], headers=headers)
    again = (await world.http.post(f"/jobs/{job}/rerun", headers=headers)).json()["id"]
    for _ in range(2):  # the repeat schedules nothing, and so is no act
        once = await world.http.post(
            "/schedule", json=BODY, headers=headers | {"Idempotency-Key": "k"}
        )
    await world.http.delete(f"/jobs/{job}", headers=headers)
    refused = await world.http.delete(f"/jobs/{job}", headers=headers)
    assert refused.status_code == 409
    removed = await world.http.delete(f"/jobs/{job}/record", headers=headers)
    assert removed.status_code == 204, removed.text
    other = await make(world, key, name="ci", scope="read", project="data")
    await world.http.delete(f"/keys/{other['prefix']}", headers=headers)
    entries = await trail(world, key)
    assert [(each["action"], each["job_id"], each["subject"]) for each in reversed(entries)] == [
        ("key.create", None, admin["prefix"]),
        ("job.schedule", job, None),
        *(("job.schedule", each["id"], None) for each in array.json()),
        ("job.rerun", again, None),
        ("job.schedule", once.json()["id"], None),
        ("job.cancel", job, None),
        ("job.remove", job, None),
        ("key.create", None, other["prefix"]),
        ("key.revoke", None, other["prefix"]),
    ]
    who = {(each["key"], each["key_name"], each["project"]) for each in entries[:-1]}
    assert who == {(admin["prefix"], "me", "default")}
    assert (entries[-1]["key"], entries[-1]["address"]) == (None, ADDRESS), "there was no key yet"
    assert {each["address"] for each in entries} == {ADDRESS}
    logged = capsys.readouterr()
    for action in {each["action"] for each in entries}:
        assert action in logged.out + logged.err
    print(f"{len(entries)} acts, of {len({each['action'] for each in entries})} kinds")


async def test_the_trail_is_filtered_and_read_page_by_page(
    world: World, clock: VirtualClock
) -> None:
    admin = await make(world, name="me", scope="admin")
    key, headers = admin["key"], bearer(admin["key"])
    ci = await make(world, key, name="ci", project="data")
    jobs = [
        (await world.http.post("/schedule", json=BODY, headers=bearer(each))).json()["id"]
        for each in (key, ci["key"], ci["key"])
    ]
    clock.advance(60)
    await world.http.delete(f"/jobs/{jobs[1]}", headers=headers)
    acts = {
        f"?job={jobs[1]}": ["job.cancel", "job.schedule"],
        f"?key={ci['prefix']}": ["job.schedule", "job.schedule"],
        "?project=data&action=job.schedule": ["job.schedule", "job.schedule"],
        "?since=30s": ["job.cancel"],
        "?until=30s&action=key.create": ["key.create", "key.create"],
        "?project=nobody": [],
    }
    for query, expected in acts.items():
        assert [each["action"] for each in await trail(world, key, query)] == expected, query
    seen, path = [], "/audit?limit=2&project=data"
    while path:
        answer = await world.http.get(path, headers=headers)
        seen += [each["id"] for each in answer.json()]
        path = answer.links.get("next", {}).get("url", "")
    everything = [each["id"] for each in await trail(world, key, "?project=data")]
    assert seen == everything == sorted(everything, reverse=True)


@pytest.mark.parametrize(
    "query",
    ["?job=x", "?job=0", "?limit=0", "?limit=1001", "?action=job", "?key=", "?cursor=-1", "?by=x"],
)
async def test_a_bad_query_of_the_trail_is_refused(world: World, query: str) -> None:
    answer = await world.http.get(f"/audit{query}")
    assert answer.status_code == 400
    assert query[1:].partition("=")[0] in message_of(answer)


async def test_the_apis_own_role_can_neither_change_nor_remove_an_entry(world: World) -> None:
    await make(world, name="me", scope="admin")
    attacks = (
        "UPDATE audit SET key_name = 'somebody else'",
        "UPDATE audit SET at = at - interval '1 year'",
        "DELETE FROM audit",
    )
    # The clock of the world is virtual; the trigger asks Postgres for the time.
    await world.stage.rows("INSERT INTO audit (at, action, address) VALUES (now(), 'x', '')")
    refused = 0
    for attack in attacks:
        with pytest.raises(RaiseError, match="the audit trail is append-only"):
            await world.stage.rows(attack)
        refused += 1
    print(f"{refused} of {len(attacks)} changes of the audit trail refused")
    assert len(await world.stage.rows("SELECT * FROM audit")) == 2


async def test_old_entries_go_after_their_days_if_a_setting_says_so(
    world: World, clock: VirtualClock
) -> None:
    await world.post()
    for days, left in ((None, 1), ("forever", 1), ("40", 0)):
        keeping = world.again(**({} if days is None else {"KEEP_AUDIT_DAYS": days}))
        clock.advance(41 * DAY)
        await keeping.stage.sweep("prune_audit")
        assert len(await world.stage.rows("SELECT * FROM audit")) == left, days
        await keeping.close()


async def test_pruning_goes_on_though_our_clock_is_ahead_of_the_databases(
    world: World, clock: VirtualClock
) -> None:
    """With the fewest days, entries at the edge are too young for the table's trigger."""
    await world.stage.rows(
        """INSERT INTO audit (at, action, address)
        SELECT now() - days * interval '1 day', 'job.cancel', '' FROM unnest('{31,29.9}'::float[])
            AS aged (days)"""
    )
    [found] = await world.stage.rows("SELECT now() AS now")
    clock.advance((found["now"] - clock.now()).total_seconds() + 7200)
    keeping = world.again(KEEP_AUDIT_DAYS="30")
    await keeping.stage.sweep("prune_audit")
    await keeping.close()
    assert len(await world.stage.rows("SELECT id FROM audit")) == 1


async def test_a_key_of_an_earlier_release_is_of_the_default_project(
    world: World, clock: VirtualClock
) -> None:
    ci = await make(world, name="me", scope="admin")
    await world.stage.rows("DELETE FROM key_projects")
    clock.advance(REMEMBER_SECONDS)
    about = await world.http.get("/about", headers=bearer(ci["key"]))
    assert about.json()["key"]["project"] == "default"
