"""Dead letters over HTTP: what the services have reported, and what is asked of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.api.keys import commands as key_commands
from shared.clock import VirtualClock
from shared.events.cloudevents import new_id
from shared.events.events import DeadLetterDropAsked, DeadLetterRedriveAsked, DeadLettersReported
from shared.events.letters import ReportedLetter
from shared.messaging import parked
from shared.messaging.parked import REPORT, FailedEvent
from tests.support.api.api_world import World, message_of
from tests.support.rows.messages import as_message, wrapped

START = datetime(2026, 1, 1, tzinfo=UTC)
NO_LETTER = "3f2b7c9e-8a55-4d0e-9a53-3b1f3d3c0a11"


def letter(seconds: int = 0, **fields: Any) -> ReportedLetter:
    known: dict[str, Any] = {
        "event_id": new_id(),
        "event": "JobCancelled",
        "place": "parked",
        "state": "dead",
        "error": "ValueError: no",
        "body": '[{"id": 1}]',
        "body_bytes": 5000,
        "tries": 6,
        "job_id": 7,
        "since": START + timedelta(seconds=seconds),
    }
    return ReportedLetter(**known | fields)


def report(
    service: str, *letters: ReportedLetter, sequence: int = 1, total: int | None = None
) -> DeadLettersReported:
    return DeadLettersReported(
        service=service,
        sequence=sequence,
        reported_at=START + timedelta(seconds=sequence),
        total=len(letters) if total is None else total,
        letters=letters,
    )


async def listed(world: World, query: str = "") -> dict[str, Any]:
    answer = await world.http.get(f"/deadletters{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def ids(world: World, query: str = "") -> list[str]:
    return [each["event_id"] for each in (await listed(world, query))["letters"]]


async def test_where_no_service_has_reported_the_list_is_empty(world: World) -> None:
    assert await listed(world) == {"as_of": {}, "total": 0, "letters": []}


async def test_the_letters_of_all_services_are_listed_newest_first(world: World) -> None:
    old, new, middle = letter(1), letter(3), letter(2, state="waiting", tries=2)
    await world.deliver(report("scheduler", new, old, total=12), report("launcher", middle))
    found = await listed(world)
    assert found["as_of"] == {
        "launcher": "2026-01-01T00:00:01Z",
        "scheduler": "2026-01-01T00:00:01Z",
    }
    assert found["total"] == 13
    assert [each["event_id"] for each in found["letters"]] == [
        new.event_id, middle.event_id, old.event_id
    ]  # fmt: skip
    assert found["letters"][1] == {
        "event_id": middle.event_id,
        "service": "launcher",
        "place": "parked",
        "state": "waiting",
        "event": "JobCancelled",
        "job_id": 7,
        "tries": 2,
        "error": "ValueError: no",
        "since": "2026-01-01T00:00:02Z",
    }
    assert await ids(world, "?limit=2") == [new.event_id, middle.event_id]


async def test_service_and_event_narrow_the_list(world: World) -> None:
    one, other, third = letter(1), letter(2), letter(3, event="JobScheduled")
    await world.deliver(report("launcher", one), report("scheduler", third, other))
    assert await ids(world, "?service=launcher") == [one.event_id]
    assert await ids(world, "?event=JobScheduled") == [third.event_id]
    assert await ids(world, "?event=JobCancelled&service=scheduler") == [other.event_id]
    assert (await listed(world, "?event=JobScheduled"))["total"] == 1


async def test_one_letter_is_shown_with_the_beginning_of_its_content(world: World) -> None:
    one = letter()
    await world.deliver(report("launcher", one))
    answer = await world.http.get(f"/deadletters/{one.event_id}")
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["event_id"], shown["service"]) == (one.event_id, "launcher")
    assert (shown["body"], shown["body_bytes"]) == ('[{"id": 1}]', 5000)


async def test_a_later_report_replaces_the_one_before_and_never_the_other_way_round(
    world: World,
) -> None:
    first, second = letter(), letter()
    await world.deliver(report("reaper", second, sequence=5), report("reaper", first, sequence=4))
    assert await ids(world) == [second.event_id]
    await world.deliver(report("reaper", sequence=6))
    assert await listed(world) == {
        "as_of": {"reaper": "2026-01-01T00:00:06Z"}, "total": 0, "letters": []
    }  # fmt: skip


async def test_of_several_reports_in_one_batch_the_last_counts(world: World) -> None:
    first, second = letter(), letter()
    batch = [report("reaper", second, sequence=2), report("reaper", first, sequence=1)]
    await world.api.service.inbox.apply([wrapped(each) for each in batch])
    assert await ids(world) == [second.event_id]


async def test_a_report_deletes_the_reports_that_are_dead(world: World) -> None:
    old = as_message(wrapped(report("scheduler")))
    async with world.ports.db.transaction() as tx:
        body = FailedEvent(wrapped(report("scheduler")).id, old.name, old.body, "Undecodable: new")
        await parked.bury(tx, [body])
    await world.deliver(report("launcher"))
    assert await world.stage.rows("SELECT * FROM parked") == []


async def test_the_api_reports_its_own_letters_by_the_same_way(world: World) -> None:
    event = world.delayed(999)
    await world.api.service.inbox.settle([wrapped(event)])
    await world.stage.sweep(REPORT)
    [own] = await world.stage.published(DeadLettersReported)
    await world.deliver(own)
    [shown] = (await listed(world, "?service=api"))["letters"]
    assert (shown["event"], shown["job_id"], shown["tries"]) == ("LaunchDelayed", 999, 1)
    assert "UnknownJob" in shown["error"]


# -- asking ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/redrive", DeadLetterRedriveAsked),
        ("DELETE", "", DeadLetterDropAsked),
    ],
)
async def test_what_is_asked_is_published_with_the_name_of_the_key(
    world: World,
    clock: VirtualClock,
    method: str,
    path: str,
    kind: type[DeadLetterRedriveAsked | DeadLetterDropAsked],
) -> None:
    one = letter()
    await world.deliver(report("launcher", one))
    answer = await world.http.request(method, f"/deadletters/{one.event_id}{path}")
    assert answer.status_code == 202, answer.text
    assert answer.json() == {
        "event_id": one.event_id, "service": "launcher", "asked_at": "2026-01-01T00:00:00Z"
    }  # fmt: skip
    key = await a_key(world, "ana")
    clock.advance(10)
    headers = {"Authorization": f"Bearer {key}"}
    answer = await world.http.request(
        method, f"/deadletters/{one.event_id}{path}?service=launcher", headers=headers
    )
    assert answer.status_code == 202, "asking twice is harmless"
    asked = await world.stage.published(kind)
    assert [(each.service, str(each.event_id)) for each in asked] == [
        ("launcher", one.event_id)
    ] * 2
    assert [each.asked_by for each in asked] == [None, "ana"]
    trail = (await world.http.get("/audit?limit=3", headers=headers)).json()
    action = "deadletter.redrive" if path else "deadletter.drop"
    assert [(each["action"], each["key_name"], each["subject"]) for each in reversed(trail)] == [
        (action, None, one.event_id),
        ("key.create", None, key.split("_")[1]),
        (action, "ana", one.event_id),
    ]


async def a_key(world: World, name: str) -> str:
    printed: list[str] = []
    command = key_commands.parser().parse_args(["create", "--name", name, "--scope", "admin"])
    assert await key_commands.run(world.ports.db, command, printed.append) == 0
    return printed[0]


async def test_an_event_that_several_services_have_is_asked_of_each_or_of_the_named_one(
    world: World,
) -> None:
    one = letter()
    await world.deliver(report("launcher", one), report("scheduler", one))
    answer = await world.http.post(f"/deadletters/{one.event_id}/redrive")
    assert answer.json()["service"] == "launcher, scheduler"
    answer = await world.http.delete(f"/deadletters/{one.event_id}?service=scheduler")
    assert answer.json()["service"] == "scheduler"
    redriven = await world.stage.published(DeadLetterRedriveAsked)
    assert [each.service for each in redriven] == ["launcher", "scheduler"]
    assert [each.service for each in await world.stage.published(DeadLetterDropAsked)] == [
        "scheduler"
    ]


async def test_a_letter_in_the_broker_needs_the_operators_command(world: World) -> None:
    one = letter(place="broker", tries=None)
    await world.deliver(report("launcher", one))
    for verb, answer in (
        ("redrive", await world.http.post(f"/deadletters/{one.event_id}/redrive")),
        ("drop", await world.http.delete(f"/deadletters/{one.event_id}")),
    ):
        assert answer.status_code == 409
        message = message_of(answer)
        assert "launcher.dead" in message
        assert f"docker compose run --rm deadletters {verb} {one.event_id}" in message
    assert await world.stage.published(DeadLetterRedriveAsked) == []


async def test_an_unknown_id_is_a_404(world: World) -> None:
    one = letter()
    await world.deliver(report("launcher", one))
    for method, path in (
        ("GET", f"/deadletters/{NO_LETTER}"),
        ("DELETE", f"/deadletters/{NO_LETTER}"),
        ("POST", f"/deadletters/{NO_LETTER}/redrive"),
        ("GET", "/deadletters/no-uuid"),
        ("GET", f"/deadletters/{one.event_id}?service=reaper"),
    ):
        answer = await world.http.request(method, path)
        assert answer.status_code == 404, path
        assert "no dead letter of" in message_of(answer)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("service=nobody", "service must be one of api, launcher, reaper, scheduler"),
        ("limit=0", "limit must be a whole number from 1 to 400"),
        ("limit=401", "limit must be a whole number from 1 to 400"),
        ("limit=x", "limit must be a whole number from 1 to 400"),
        ("state=dead", "unknown parameter 'state': use service, event or limit"),
    ],
)
async def test_a_bad_parameter_is_named(world: World, query: str, message: str) -> None:
    answer = await world.http.get(f"/deadletters?{query}")
    assert (answer.status_code, message_of(answer)) == (400, message)
