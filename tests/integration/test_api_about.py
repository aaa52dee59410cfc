"""`GET /about`: the release, the clock, the limits, and the caller's key."""

import pytest

from services.api.keys import store as key_store
from services.api.keys.access import REMEMBER_SECONDS, make_key
from shared.clock import VirtualClock
from shared.version import VERSION
from tests.support.api.api_world import World, message_of


async def test_it_says_what_a_client_needs_to_know(world: World) -> None:
    answer = await world.http.get("/about")
    assert answer.json() == {
        "version": VERSION,
        "now": "2026-01-01T00:00:00Z",
        "key": None,
        "compute": None,
        "registries_refused": ["loopback", "link-local", "private"],
        "timezone": "UTC",
        "limits": {
            "max_lifetime_seconds": 86_400,
            "jobs_of_a_request": 1000,
            "jobs_of_a_page": 1000,
            "body_bytes": 4_194_304,
            "log_bytes": 1_048_576,
            "requests_per_second": None,
            "requests_at_once": None,
        },
    }


async def test_it_has_the_deployments_settings(world: World, clock: VirtualClock) -> None:
    other = world.again(
        COMPUTE_URL="ec2://eu-west-1",
        TIMEZONE="Europe/Berlin",
        MAX_LIFETIME_SECONDS="600",
        LOG_LIMIT_BYTES="2048",
        REQUESTS_PER_SECOND="2.5",
    )
    clock.advance(1.5)
    found = (await other.http.get("/about")).json()
    assert (found["compute"], found["timezone"]) == ("ec2", "Europe/Berlin")
    assert found["now"] == "2026-01-01T00:00:01.500000Z"
    limits = found["limits"]
    assert (limits["max_lifetime_seconds"], limits["log_bytes"]) == (600, 2048)
    assert (limits["requests_per_second"], limits["requests_at_once"]) == (2.5, 200)
    await other.close()


@pytest.mark.parametrize("scope", ["read", "submit", "admin"])
async def test_a_caller_sees_the_name_and_scope_of_its_own_key(
    world: World, clock: VirtualClock, scope: str
) -> None:
    keys = {name: make_key() for name in (scope, "another")}
    async with world.ports.db.transaction() as tx:
        for name, key in keys.items():
            await key_store.insert_key(tx, key.prefix, name, scope, key.hashed)
    clock.advance(REMEMBER_SECONDS)
    answer = await world.http.get("/about", headers={"Authorization": f"Bearer {keys[scope].text}"})
    assert answer.json()["key"] == {"name": scope, "scope": scope, "project": "default"}
    for text in (None, make_key().text):
        headers = {} if text is None else {"Authorization": f"Bearer {text}"}
        assert (await world.http.get("/about", headers=headers)).status_code == 401


async def test_a_parameter_is_refused(world: World) -> None:
    answer = await world.http.get("/about?verbose=1")
    assert (answer.status_code, message_of(answer)) == (
        400,
        "unknown parameter 'verbose': this route has none",
    )
