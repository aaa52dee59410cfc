"""The OpenAPI document and the API agree: routes, scopes, and every field of an answer.

What is answered anywhere in these tests is held against the document too: see `described.py`.
"""

from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]  # its stubs would be one lock entry more
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.routing import Route

from services.api.http.openapi.document import text
from services.api.keys import store as key_store
from services.api.keys.access import SCOPES, make_key
from shared.clock import VirtualClock
from tests.support.api.api_world import World, a_config
from tests.support.api.described import COMPONENTS, DOCUMENT, check, validator

KEY = "0f" * 32
RICH: dict[str, Any] = {
    "name": "nightly",
    "entrypoint": ["/bin/sh", "-c"],
    "command": ["echo"],
    "env_vars": {"A": 1},
    "labels": {"team": "data"},
    "timezone": "Europe/Berlin",
    "timeout_seconds": 60,
    "resources": {"vcpus": 2, "architecture": "arm64"},
    "spot_wait_seconds": 60,
    "retries": 1,
    "secret_env": {"LOGIN": "me:it"},
    "secrets": {"DB": "/prod/db"},
    "registry_auth": "LOGIN",
    "user": "1000",
    "working_dir": "/data",
    "shm_size_mib": 128,
    "init": True,
    "stop_signal": "SIGINT",
    "stop_grace_seconds": 10,
}


async def test_every_route_is_described_and_none_besides(world: World) -> None:
    assert isinstance(world.api.app, Starlette)
    served = {
        (route.path, method.lower())
        for route in world.api.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, found in DOCUMENT["paths"].items() for method in found}
    assert served == described


async def test_the_document_is_served_for_the_settings_of_the_process(world: World) -> None:
    short = world.again(MAX_LIFETIME_SECONDS="600")
    answer = await short.http.get("/openapi.json")
    assert (answer.status_code, answer.text) == (200, text(short.config.http, short.config.bounds))
    properties = answer.json()["components"]["schemas"]["JobRequest"]["properties"]
    assert properties["timeout_seconds"]["maximum"] == 600
    await short.close()


async def test_a_key_needs_the_scope_that_is_described(world: World) -> None:
    keys = {scope: make_key() for scope in SCOPES}
    async with world.ports.db.transaction() as tx:
        for scope, key in keys.items():
            await key_store.insert_key(tx, key.prefix, scope, scope, key.hashed)
    for path, methods in DOCUMENT["paths"].items():
        # A stream that has begun has no end.
        asked_path = "/events?after=x" if path == "/events" else path.replace("{id}", "1")
        for method, operation in methods.items():
            asked = [each["apiKey"][0] for each in operation["security"] if "apiKey" in each]
            for scope, key in keys.items():
                answer = await world.http.request(
                    method,
                    asked_path,
                    headers={"Authorization": f"Bearer {key.text}"},
                )
                too_little = any(SCOPES.index(scope) < SCOPES.index(each) for each in asked)
                assert (answer.status_code == 403) == too_little, (method, path, scope)
            unauthorized = await world.http.request(method, asked_path)
            unguarded = {} in operation["security"] or not operation["security"]
            assert unauthorized.status_code == 401 or (unguarded and not asked), (method, path)


async def waiting(world: World) -> int:
    job_id = int((await world.post(**RICH))["id"])
    await world.deliver(world.delayed(job_id))
    return job_id


async def running(world: World) -> int:
    return (await world.running(**RICH)).job_id


async def pulling(world: World) -> int:
    agent = await world.claimed((await world.post(**RICH))["id"])
    await world.report(agent, phase="pulling")
    await world.report(agent, detail="pulling 340 of 1,200 MB, 5 of 9 layers")
    return agent.job_id


async def done(world: World) -> int:
    agent = await world.running(**RICH)
    await world.call_back(agent, {"exit_code": 0})
    await world.deliver(world.terminated(agent.job_id))
    return agent.job_id


async def failed(world: World) -> int:
    agent = await world.running(**{**RICH, "retries": 0})
    await world.call_back(agent, {"failed": "", "error_message": "boom", "exit_code": 3})
    return agent.job_id


async def interrupted(world: World) -> int:
    agent = await world.running(**RICH)
    await world.deliver(world.warned(agent.job_id, kind="rebalance"))
    await world.deliver(world.warned(agent.job_id))
    await world.call_back(agent, {"schedule": "", "stopped": True, "exit_code": 143})
    await world.deliver(world.terminated(agent.job_id, spot=True))
    return agent.job_id


async def held(world: World) -> int:
    agent = await world.running(**RICH)
    world.clock.advance(61)
    await world.stage.sweep("end_silent")
    return agent.job_id


async def cancelled(world: World) -> int:
    job_id = int((await world.post(**RICH))["id"])
    await world.cancel(job_id)
    return job_id


async def refused(world: World) -> int:
    job_id = int((await world.post(**RICH))["id"])
    await world.deliver(world.refused(job_id))
    return job_id


async def not_booted(world: World) -> int:
    job_id = int((await world.post(**RICH))["id"])
    end = replace(world.terminated(job_id), console_output="docker-job: Docker does not run")
    await world.deliver(world.launched(job_id), end)
    return job_id


async def rerun(world: World) -> int:
    fields = {"secret_env": {"LOGIN": "me:it"}}
    answer = await world.http.post(f"/jobs/{await cancelled(world)}/rerun", json=fields)
    return int(answer.json()["id"])


async def of_a_key(world: World) -> int:
    job_id = await waiting(world)
    await world.stage.rows("UPDATE jobs SET created_by = '1f2e3d4c' RETURNING 1")
    return job_id


STATES = (
    *(waiting, pulling, running, done, failed, interrupted, held, cancelled, refused, not_booted),
    rerun,
    of_a_key,
)


async def test_every_field_of_a_job_in_any_state_is_described(
    world: World, clock: VirtualClock
) -> None:
    keeping = World(world.ports, clock, a_config(SECRETS_KEY=KEY))
    jobs = [await keeping.status(await state(keeping)) for state in STATES]
    await keeping.close()
    assert {job["status"] for job in jobs} == {
        "SCHEDULED", "RUNNING", "DONE", "FAILED", "CANCELLED",
    }  # fmt: skip
    for name in ("JobDetail", "Attempt"):
        schema = DOCUMENT["components"]["schemas"][name]["properties"]
        shown = jobs if name == "JobDetail" else [each for job in jobs for each in job["attempts"]]
        assert {field for each in shown for field in each} == set(schema)
        seen = {field for each in shown for field, value in each.items() if value is not None}
        assert seen == set(schema), "of a field that is always null the schema proves nothing"


async def test_what_is_not_described_is_noticed(world: World) -> None:
    job = await world.status((await world.post())["id"])
    detail = validator('{"$ref": "#/components/schemas/JobDetail"}')
    detail.validate(job)
    for wrong in (
        job | {"colour": "red"},
        job | {"status": "EATEN"},
        job | {"created_at": "today"},
        {name: value for name, value in job.items() if name != "phase"},
        job | {"attempts": [job["attempts"][0] | {"colour": "red"}]},
    ):
        assert not detail.is_valid(wrong)
    assert COMPONENTS["schemas"]["JobDetail"]["additionalProperties"] is False
    request = httpx.Request("GET", "http://api/healthz")
    with pytest.raises(AssertionError, match="418 is not described"):
        await check(httpx.Response(418, request=request))
    with pytest.raises(jsonschema.ValidationError):
        await check(httpx.Response(200, json={"status": "well"}, request=request))
