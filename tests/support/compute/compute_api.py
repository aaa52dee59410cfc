"""A small API for agents: answers claims, records reports and callbacks.

`FakeApi` is the API without HTTP, which virtual agents may call directly; `serve` puts it on a real
socket for real agents.
"""

import asyncio
import hashlib
import json
import re
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from agent.build import build

SETTINGS = {
    "heartbeat_seconds": 5,
    "stop_grace_seconds": 1,
    "interruption_margin_seconds": 30,
    "metadata_poll_seconds": 0.05,
    "log_batch_seconds": 0.05,
    "log_limit_bytes": 1048576,
    "error_tail_lines": 20,
}

CALL_SECONDS = 20.0


ARN = re.compile(r"<Arn>[^<]*assumed-role/[^/<]+/(i-[0-9a-f]+)</Arn>")


class FakeApi:
    """The calls of agents, by job, and the settings of the answers."""

    def __init__(self) -> None:
        self.url = "http://api.invalid"
        self.env_vars: dict[int, dict[str, str]] = {}
        self.timeout_seconds: dict[int, float] = {}
        self.claims: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self.reports: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self.callbacks: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self.image = "debian:trixie-slim"
        self.command: dict[int, list[str]] = {}
        self.failures: list[int] = []  # statuses to answer the next calls with
        self.host_services = True
        self.free_seconds: float | None = None  # of the free first hour; None: an older API's
        self.over: set[int] = set()  # jobs whose attempt is over
        self.interrupted: set[int] = set()  # jobs whose attempt had ended so before its claim
        self.sts_url = ""  # the STS of agents that identify by role
        self.assigned: dict[str, tuple[int, int]] = {}  # job and attempt of those instances
        self.agent = build()
        self.other_agents: list[bytes] = []  # of other releases, which are served by their hash
        self.has_builds = True  # False: an API of a release that serves one agent alone
        self.cuts_off = 0  # downloads of the agent whose connection breaks half way
        self.requests = 0
        self._called = asyncio.Condition()

    async def call(self, method: str, url: str, token: str, body: Any) -> tuple[int, bytes]:
        """Serve one call of an agent (the transport of virtual agents)."""
        self.requests += 1
        path = url.removeprefix(self.url)
        body = json.loads(json.dumps(body))
        if "identity" in body:
            body |= {"instance_id": await self._identify(body["identity"])}
        status, answer = self._answer(f"{method} {path}", token, body)
        async with self._called:
            self._called.notify_all()
        return status, json.dumps(answer).encode()

    async def close(self) -> None:
        """Do nothing."""

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until *holds*; it is checked after each call."""
        async with asyncio.timeout(CALL_SECONDS), self._called:
            await self._called.wait_for(lambda: bool(holds()))

    def lines(self, job_id: int) -> list[str]:
        """Return the text of every log line of a job."""
        batches = [each["logs"] for each in self.reports[job_id] if each.get("logs")]
        return [line["text"] for batch in batches for line in batch["lines"]]

    def _settings(self) -> dict[str, Any]:
        free = {"free_if_interrupted_within_seconds": self.free_seconds}
        given = {**SETTINGS, "host_services": self.host_services}
        return given if self.free_seconds is None else given | free

    def find_agent(self, path: str) -> bytes | None:
        """Return the agent at a path: this release's, or the one of a hash."""
        if path == "/agent/agent.py":
            return self.agent
        found = {
            hashlib.sha256(each).hexdigest(): each for each in (self.agent, *self.other_agents)
        }
        return found.get(path.removeprefix("/agent/builds/")) if self.has_builds else None

    def _answer(self, call: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.failures:
            return self.failures.pop(0), {"message": "staged"}
        if call == "POST /agent/claim":
            return self._claim(token, body)
        job_id = int(call.removesuffix("/report").rpartition("/")[2])
        if job_id in self.over:
            return 409, {"message": "over", "stop": True, "cause": "cancelled"}
        if token not in [each["token"] for each in self.claims[job_id]]:
            return 401, {"message": "unknown token"}
        (self.reports if call.startswith("POST") else self.callbacks)[job_id].append(body)
        return 200, {}

    async def _identify(self, proof: dict[str, Any]) -> str:
        """Return the instance whose role signed this, by STS; empty: unknown to STS."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.sts_url, data=proof["body"], headers=proof["headers"]) as answer,
        ):
            found = ARN.search(await answer.text())
            return found.group(1) if found else ""

    def _claim(self, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if "identity" in body:
            if body["instance_id"] not in self.assigned:
                return 202, {"wait": "unknown yet", "retry_seconds": 0.05}
            body["job_id"], body["attempt"] = self.assigned[body["instance_id"]]
        elif token != f"bootstrap-{body['job_id']}":
            return 401, {"message": "unknown token"}
        job_id = body["job_id"]
        self.claims[job_id].append(body)
        if job_id in self.interrupted or body.get("interrupted"):
            over = {"message": "over", "stop": True, "cause": "interrupted"}
            return 409, over | ({"settings": self._settings()} if self.free_seconds else {})
        job = {
            "id": job_id,
            "docker_image": self.image,
            "command": self.command.get(job_id),
            "env_vars": self.env_vars.get(job_id, {}),
            "timeout_seconds": self.timeout_seconds.get(job_id),
        }
        return 200, {
            "job": job,
            "attempt": body["attempt"],
            "instance_id": body["instance_id"],
            "settings": self._settings(),
        }


async def cut_off(request: web.Request, body: bytes) -> None:
    """Answer with half of *body*, and break the connection."""
    answer = web.StreamResponse()
    answer.content_length = len(body)
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()


@asynccontextmanager
async def serve(api: FakeApi, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeApi]:
    """Serve *api* on a free port of 127.0.0.1, by HTTPS with *tls*; set its `url`."""

    async def handle(request: web.Request) -> web.Response:
        if request.path.startswith("/agent/") and request.method == "GET":
            found = api.find_agent(request.path)
            if found is None:
                return web.json_response({"message": "not found"}, status=404)
            if api.cuts_off:
                api.cuts_off -= 1
                await cut_off(request, found)
            return web.Response(body=found)
        if request.path == "/healthz":
            return web.json_response({"status": "alive"})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        body = json.loads(await request.read())
        status, answer = await api.call(request.method, api.url + request.path, token, body)
        return web.Response(status=status, body=answer, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    api.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
    try:
        yield api
    finally:
        await runner.cleanup()
