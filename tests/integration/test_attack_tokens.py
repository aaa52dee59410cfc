"""Forged, stolen and replayed tokens on every route of agents, and agents' tokens on all others."""

import base64
import hashlib
import itertools
import secrets
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from shared import tokens
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, Agent, World, message_of, token_of

STOPPED = {"schedule": "", "stopped": True, "exit_code": 143}
REPORTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/agent/jobs/{id}/report", {"phase": "stopping"}),
    ("PUT", "/callback/{id}", {"exit_code": 0}),
    ("PUT", "/callback/{id}", {"failed": "", "error_message": "forged", "exit_code": 1}),
    ("PUT", "/callback/{id}", STOPPED),
)
REFUSED = {400, 401, 403, 409}


def forged(agent: Agent, other: Agent, older: Agent) -> dict[str, list[tuple[str, str]]]:
    """Return the headers of callers that are not *agent*, the current one of its job."""
    token, good = agent.token, tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 2)
    basic = base64.b64encode(f"agent:{token}".encode()).decode()
    texts = {
        "empty": "",
        "random": secrets.token_hex(32),
        "zeros": "0" * 64,
        "the hash that the database has": tokens.token_hash(token).hex(),
        "another job's": other.token,
        "an older attempt's": older.token,
        "the own bootstrap token": good,
        "a bootstrap token of attempt 3": tokens.bootstrap_token(
            TOKEN_KEY, DEPLOYMENT, agent.job_id, 3
        ),
        "a bootstrap token without a key": tokens.bootstrap_token("", DEPLOYMENT, agent.job_id, 2),
        "a plain hash in place of an HMAC": hashlib.sha256(
            f"bootstrap/{DEPLOYMENT}/{agent.job_id}/2".encode()
        ).hexdigest(),
        "cut by one": token[:-1],
        "longer by one": f"{token}0",
        "in capitals": token.upper(),
        "with a NUL": f"{token}%00",
        "in quotes": f'"{token}"',
        "twice": f"{token} {token}",
        "with a comma": f"{token}, {token}",
        "a wildcard": "%",
        "SQL": "' OR '1'='1",
        "a JSON Web Token of no algorithm": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
        "a made-up API key": "djk_" + "a" * 40,
    }
    headers = {
        name: [("Authorization", f"Bearer {text}")]
        for name, text in texts.items()
    }  # fmt: skip
    return headers | {
        "none": [],
        "another scheme": [("Authorization", f"Basic {basic}")],
        "no scheme": [("Authorization", token)],
        "a cookie": [("Cookie", f"token={token}; Authorization=Bearer {token}")],
        "a header of another name": [("X-Authorization", f"Bearer {token}")],
        "a proxy's header": [("Proxy-Authorization", f"Bearer {token}")],
        "two headers": [
            ("Authorization", f"Bearer {other.token}"), ("Authorization", f"Bearer {token}"),
        ],
        "the job named in a header": [
            ("Authorization", f"Bearer {other.token}"), ("X-Original-URL", f"/callback/{other}"),
        ],
    }  # fmt: skip


async def current(world: World) -> tuple[Agent, Agent, Agent]:
    """Return the agent of a job's second attempt, of another job, and of the first attempt."""
    older = await world.running()
    await world.call_back(older, STOPPED)
    agent = await world.claimed(older.job_id, 2)
    await world.report(agent, phase="running")
    return agent, await world.running(), older


async def test_no_forged_token_speaks_for_an_attempt(world: World) -> None:
    agent, other, older = await current(world)
    before = await world.rows()
    sent = 0
    for (name, headers), (method, path, body) in itertools.product(
        forged(agent, other, older).items(), REPORTS
    ):
        answer = await world.http.request(
            method, path.format(id=agent.job_id), json=body, headers=headers
        )
        assert answer.status_code in REFUSED, (name, answer.text)
        assert agent.token not in answer.text
        sent += 1
    for query in (f"?token={agent.token}", f"?access_token={agent.token}"):
        for method, path, body in REPORTS:
            url = path.format(id=agent.job_id) + query
            assert (await world.http.request(method, url, json=body)).status_code in REFUSED
            sent += 1
    assert await world.rows() == before
    print(f"{sent} of {sent} calls with a forged token refused")
    assert (await world.call_back(agent, {})).json()["status"] == "DONE", "the real one counts"


SPELLINGS = ["0{}", "+{}", "{}.0", "{}%20", "%20{}", "{}%00", "{}/", "{}e0"]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_other_spelling_of_a_job_id_gets_a_token_past_its_job(
    world: World, spelling: str
) -> None:
    agent, other, _ = await current(world)
    before = await world.rows()
    for method, path, body in REPORTS:
        url = path.format(id=spelling.format(agent.job_id))
        answer = await world.http.request(method, url, json=body, headers=other.headers)
        assert answer.status_code in REFUSED | {404}, (url, answer.text)
    assert await world.rows() == before


async def test_no_forged_or_replayed_token_claims_an_attempt(world: World) -> None:
    agent, other, older = await current(world)
    waiting = (await world.post())["id"]
    await world.deliver(world.launched(waiting))
    before = await world.rows()
    own = {
        "replayed": tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 2),
        "replayed of the first attempt": tokens.bootstrap_token(
            TOKEN_KEY, DEPLOYMENT, agent.job_id, 1
        ),
    }
    sent = 0
    for name, headers in forged(agent, other, older).items():
        body = {
            "job_id": waiting, "attempt": 1, "instance_id": f"i-{waiting}-1",
            "token": "ab" * 32, "runtime": "docker",
        }  # fmt: skip
        answer = await world.http.post("/agent/claim", json=body, headers=headers)
        assert answer.status_code in REFUSED, (name, answer.text)
        sent += 1
    for attempt, bearer in zip((2, 1), own.values(), strict=True):
        thief = token_of(agent.job_id, attempt, salt="a thief")
        answer = await world.claim(agent.job_id, attempt, token=thief, bearer=bearer)
        assert answer.status_code in REFUSED, answer.text
        sent += 1
    # A token that is bound to one attempt is bound to no other.
    bearer = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, waiting, 1)
    answer = await world.claim(waiting, token=agent.token, bearer=bearer)
    assert answer.status_code in REFUSED, answer.text
    assert await world.rows() == before
    print(f"{sent + 1} of {sent + 1} claims with a forged or replayed token refused")
    assert (await world.claim(waiting)).status_code == 200, "the real one counts"


async def test_a_job_id_of_another_type_or_size_claims_nothing(world: World) -> None:
    waiting = (await world.post())["id"]
    await world.deliver(world.launched(waiting))
    before = await world.rows()
    bearer = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, waiting, 1)
    wrong: tuple[object, ...] = (
        str(waiting), [waiting], {"id": waiting}, True, None, -waiting, waiting + 2**64, 1.5
    )  # fmt: skip
    for job_id, field in itertools.product(wrong, ("job_id", "attempt")):
        body = {
            "job_id": waiting, "attempt": 1, "instance_id": f"i-{waiting}-1",
            "token": "ab" * 32, "runtime": "docker", field: job_id,
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {bearer}"}
        answer = await world.http.post("/agent/claim", json=body, headers=headers)
        assert answer.status_code in REFUSED, (field, job_id, answer.text)
        assert message_of(answer)
    assert await world.rows() == before


REFUSED_IN_THE_END = {"/events": "/events?after=x"}
"""A stream that has begun has no end."""


async def test_an_agents_token_opens_no_route_of_users(world: World) -> None:
    """An agent's token is no API key, and is refused as one while the API needs none, too."""
    agent, _, _ = await current(world)
    bearer = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, agent.job_id, 2)
    before = await world.rows()
    assert isinstance(world.api.app, Starlette)
    routes = [
        (method, route.path)
        for route in world.api.app.routes
        if isinstance(route, Route) and not route.path.startswith(("/agent/", "/callback/"))
        for method in (route.methods or set()) - {"HEAD"}
    ]
    answers = []
    for (method, path), token in itertools.product(routes, (agent.token, bearer)):
        answer = await world.http.request(
            method,
            REFUSED_IN_THE_END.get(path, path).replace("{id}", str(agent.job_id)),
            json={} if method in ("POST", "PUT") else None,
            headers={"Authorization": f"Bearer {token}"},
        )
        answers.append((method, path, answer.status_code))
    assert await world.rows() == before
    opened = [each for each in answers if each[2] < 400]
    print(f"{len(answers) - len(opened)} of {len(answers)} refused; open: {sorted(set(opened))}")
    assert {path for _, path, _ in opened} <= {"/healthz", "/readyz", "/openapi.json"}
