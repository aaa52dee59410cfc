"""The agent before the real API, and what stands between them: only the API's answers count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared import tokens
from tests.integration.test_agent import AgentProcess
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, Agent, instance_of
from tests.support.api.served_world import ServedWorld
from tests.support.servers.proxy import Page, Proxy
from tests.support.waiting import until

MARK = "X-Docker-Job-Answer"
STALE = (("Content-Type", "application/json"), (MARK, "f" * 32), ("Age", "30"))

GATEWAY = [
    Page(401, '{"message": "Unauthorized"}'),  # AWS API Gateway's forms
    Page(403, '{"message": "Forbidden"}'),
    Page(403, '{"message": "Missing Authentication Token"}'),
    Page(404, '{"message": "Not Found"}'),
    Page(400, '{"message": "Bad Request"}'),
    Page(413, '{"message": "Request Too Long"}'),
    Page(405, '{"message": "Method not allowed"}'),
    Page(421, '{"message": "Misdirected Request"}'),
    Page(200, '{"success": true, "login": "/portal"}'),  # a captive portal
    Page(200, "{}"),
    Page(307, "{}", (("Location", "/elsewhere"),)),
    Page(200, '{"id": 7, "status": "DONE"}', STALE),  # a cache
    Page(403, '{"message": "unknown token"}', STALE),
    Page(502, "<html>Bad Gateway</html>", (("Content-Type", "text/html"),)),
    Page(429, '{"message": "Too Many Requests"}'),
]
STOPS = [
    Page(409, '{"message": "over", "stop": true, "cause": "lost"}', STALE),
    Page(409, '{"message": "over", "stop": true, "cause": "lost"}'),
]


@contextmanager
def started(
    served: ServedWorld, proxy: Proxy, directory: Path, **env: str
) -> Iterator[tuple[int, AgentProcess]]:
    """Launch a job's instance behind *proxy*; give the job and its agent."""
    job_id = served.do(served.world.post(env_vars=env))["id"]
    served.do(served.world.deliver(served.world.launched(job_id)))
    with proxy.serving():
        agent = AgentProcess(
            proxy,
            directory,
            DOCKER_JOB_JOB_ID=str(job_id),
            DOCKER_JOB_INSTANCE_ID=instance_of(job_id, 1),
            DOCKER_JOB_BOOTSTRAP_TOKEN=tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, 1),
        )
        try:
            yield job_id, agent
        finally:
            agent.process.kill()
            agent.wait()


def status_of(served: ServedWorld, job_id: int) -> dict[str, Any]:
    return served.do(served.world.status(job_id))


def wait_for(served: ServedWorld, job_id: int, holds: Callable[[dict[str, Any]], bool]) -> None:
    until(lambda: holds(status_of(served, job_id)))


@pytest.mark.parametrize("kind", ["claim", "callback"])
@pytest.mark.parametrize("part", range(5))
def test_a_gateway_that_answers_instead_of_the_api_decides_nothing(
    served: ServedWorld, tmp_path: Path, kind: str, part: int
) -> None:
    proxy = Proxy(served.base_url)
    proxy.pages[kind] = GATEWAY[part::5] + (STOPS[:1] if kind == "claim" else STOPS[part % 2 :][:1])
    with started(served, proxy, tmp_path / "i", SIMULATE_EXIT_CODE="3") as (job_id, agent):
        assert agent.wait() == 0
        job = status_of(served, job_id)
    assert proxy.pages[kind] == []
    assert (job["status"], job["exit_code"], job["attempt"]) == ("FAILED", 3, 1), agent.log


@pytest.mark.parametrize("health", [GATEWAY[1], GATEWAY[13], Page(503, "{}"), GATEWAY[8]])
def test_a_gateway_that_refuses_everything_for_a_while_costs_no_claim(
    served: ServedWorld, tmp_path: Path, health: Page
) -> None:
    """Covers the first answer of all: nothing was marked yet."""
    proxy = Proxy(served.base_url)
    forbidden = Page(403, '{"message": "Forbidden"}')
    proxy.pages = {"claim": [forbidden] * 4, "healthz": [health] * 2}
    with started(served, proxy, tmp_path / "i") as (job_id, agent):
        assert agent.wait() == 0
        assert status_of(served, job_id)["status"] == "DONE", agent.log


def test_a_gateway_that_answers_reports_neither_stops_a_container_nor_loses_lines(
    served: ServedWorld, tmp_path: Path
) -> None:
    proxy = Proxy(served.base_url)
    env = {"SIMULATE_SECONDS": "2", "SIMULATE_OUTPUT": "kept"}
    with started(served, proxy, tmp_path / "i", **env) as (job_id, agent):
        wait_for(served, job_id, lambda job: job["phase"] == "running")
        proxy.pages["report"] = [*GATEWAY[:2], *STOPS]
        assert agent.wait() == 0
        job = status_of(served, job_id)
        logs = served.do(served.world.logs(job_id))
    assert proxy.pages["report"] == []
    assert job["status"] == "DONE", agent.log
    assert logs.splitlines()[-1] == "kept"


def test_the_apis_own_refusal_counts_behind_a_gateway_too(
    served: ServedWorld, tmp_path: Path
) -> None:
    proxy = Proxy(served.base_url, prefix="/docker-job")
    with started(served, proxy, tmp_path / "i", SIMULATE_SECONDS="60") as (job_id, agent):
        wait_for(served, job_id, lambda job: job["phase"] == "running")
        served.do(served.world.cancel(job_id))
        assert agent.wait() == 0
    assert "over" in agent.reason


def test_a_refused_claim_ends_the_agent(served: ServedWorld, tmp_path: Path) -> None:
    proxy = Proxy(served.base_url)
    with started(served, proxy, tmp_path / "i") as (_, agent):
        agent.process.kill()
        agent.wait()
        wrong = AgentProcess(
            proxy, tmp_path / "j", DOCKER_JOB_JOB_ID="999", DOCKER_JOB_INSTANCE_ID="i-9"
        )
        assert wrong.wait() == 0
    assert wrong.reason == "the claim was refused with status 401"


@pytest.mark.parametrize("spoilt", ["Authorization", "half the body"])
@pytest.mark.parametrize("kind", ["claim", "report", "callback"])
def test_a_call_that_was_damaged_on_its_way_ends_nothing(
    served: ServedWorld, tmp_path: Path, kind: str, spoilt: str
) -> None:
    """The API refuses such a call itself, with its mark."""
    proxy = Proxy(served.base_url)
    proxy.spoils[kind] = [spoilt] * 2
    env = {"SIMULATE_SECONDS": "1", "SIMULATE_OUTPUT": "kept", "SIMULATE_EXIT_CODE": "3"}
    with started(served, proxy, tmp_path / "i", **env) as (job_id, agent):
        assert agent.wait() == 0
        job = status_of(served, job_id)
        logs = served.do(served.world.logs(job_id))
    assert proxy.spoils[kind] == []
    assert (job["status"], job["exit_code"], job["attempt"]) == ("FAILED", 3, 1), agent.log
    assert "kept" in logs.splitlines()


# -- an API that is older, or behind a gateway that takes out the mark


def test_an_older_api_is_understood_without_its_mark(served: ServedWorld, tmp_path: Path) -> None:
    proxy = Proxy(served.base_url, hides=(MARK,))
    with started(served, proxy, tmp_path / "i", SIMULATE_EXIT_CODE="3") as (job_id, agent):
        assert agent.wait() == 0
        assert status_of(served, job_id)["exit_code"] == 3


def test_the_refusal_of_an_older_api_ends_a_claim(served: ServedWorld, tmp_path: Path) -> None:
    proxy = Proxy(served.base_url, hides=(MARK,))
    with proxy.serving():
        agent = AgentProcess(
            proxy, tmp_path / "i", DOCKER_JOB_JOB_ID="999", DOCKER_JOB_INSTANCE_ID="i-9"
        )
        assert agent.wait() == 0
    assert agent.reason == "the claim was refused with status 401"
    assert proxy.forwarded == ["claim", "healthz"]


def test_an_older_api_stops_a_container(served: ServedWorld, tmp_path: Path) -> None:
    proxy = Proxy(served.base_url, hides=(MARK,))
    with started(served, proxy, tmp_path / "i", SIMULATE_SECONDS="60") as (job_id, agent):
        wait_for(served, job_id, lambda job: job["phase"] == "running")
        served.do(served.world.cancel(job_id))
        assert agent.wait() == 0
    assert "over" in agent.reason


@pytest.mark.parametrize("kind", ["report", "callback"])
def test_a_gateway_before_an_older_api_is_outlasted(
    served: ServedWorld, tmp_path: Path, kind: str
) -> None:
    proxy = Proxy(served.base_url, hides=(MARK,))
    with started(served, proxy, tmp_path / "i", SIMULATE_SECONDS="1") as (job_id, agent):
        wait_for(served, job_id, lambda job: job["phase"] == "running")
        proxy.pages[kind] = GATEWAY[:4]
        assert agent.wait() == 0
        assert status_of(served, job_id)["status"] == "DONE", agent.log
    assert proxy.pages[kind] == []


# -- the API's side


def asked(served: ServedWorld, method: str, path: str, **headers: str) -> httpx.Response:
    return httpx.request(method, served.base_url + path, headers=headers, timeout=20)


def test_the_api_returns_the_mark_with_every_answer(served: ServedWorld) -> None:
    agent: Agent = served.do(served.world.running())
    bearer = agent.headers
    for method, path, headers, status in (
        ("POST", f"/agent/jobs/{agent.job_id}/report", bearer, 400),
        ("POST", "/agent/jobs/999/report", bearer, 403),
        ("POST", "/agent/jobs/999/report", {}, 401),
        ("PUT", "/callback/x", bearer, 404),
        ("POST", "/agent/claim", {}, 401),
        ("GET", "/agent/claim", {}, 405),
        ("GET", "/agent/nowhere", {}, 404),
        ("GET", "/healthz", {}, 200),
        ("GET", "/agent/agent.py", {}, 200),
    ):
        answer = asked(served, method, path, **headers, **{"X-Docker-Job-Call": "a1B2-_"})
        assert (answer.status_code, answer.headers[MARK]) == (status, "a1B2-_"), path
        assert MARK not in asked(served, method, path, **headers).headers


@pytest.mark.parametrize("mark", ["", "a b", "a\tb", "<script>", "a" * 129, "a,b", "\xe4"])
def test_what_is_no_mark_is_not_returned(served: ServedWorld, mark: str) -> None:
    raw = [(b"X-Docker-Job-Call", mark.encode("latin-1"))]
    answer = httpx.get(f"{served.base_url}/healthz", headers=raw)
    assert answer.status_code == 200
    assert MARK not in answer.headers
