"""The API over TLS: real handshakes, real agents, and who is refused."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.types import ASGIApp

from services.api.http.server import bind, http_server
from shared import tokens
from shared.runtime import tls as tls_module
from shared.runtime.tls import LOOK_SECONDS, MOST_HANDSHAKES, Certificate
from tests.support.agent_file import agent_file
from tests.support.api.api_world import DEPLOYMENT, TOKEN_KEY, World, instance_of
from tests.support.servers.tls_files import TlsFiles


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path / "tls")


@contextlib.asynccontextmanager
async def served(app: ASGIApp, certificate: Certificate | None) -> AsyncIterator[int]:
    """Return the port at which *app* is served."""
    with bind("127.0.0.1", 0) as sock:
        server = http_server(app, certificate=certificate)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield sock.getsockname()[1]
        finally:
            server.stop()
            await serving


def client(port: int, trust: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust)


async def test_who_has_the_authority_is_served_and_who_has_not_refuses(
    world: World, files: TlsFiles, tmp_path: Path
) -> None:
    other = TlsFiles(tmp_path / "other")
    async with served(world.api.app, files.certificate) as port:
        async with client(port, files.client) as http:
            made = await http.post(
                "/schedule", json={"docker_image": "alpine", "scheduled_for": "now"}
            )
            assert made.status_code == 201
            assert (await http.get("/readyz")).status_code == 200
        for trust, why in (
            (other.client, "CERTIFICATE_VERIFY_FAILED"),
            (ssl.create_default_context(), "CERTIFICATE_VERIFY_FAILED"),
        ):
            async with client(port, trust) as http:
                with pytest.raises(httpx.ConnectError, match=why):
                    await http.get("/readyz")
    named = TlsFiles(tmp_path / "named", "jobs.example.com")
    async with served(world.api.app, named.certificate) as port, client(port, named.client) as http:
        with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
            await http.get("/readyz")


async def test_neither_plain_http_nor_an_old_version_of_tls_is_answered(
    world: World, files: TlsFiles
) -> None:
    refused = 0
    async with served(world.api.app, files.certificate) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in await reader.read()
        writer.close()
        refused += 1
        old = files.client
        with warnings.catch_warnings(action="ignore"):
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old, server_hostname="127.0.0.1")
        refused += 1
    print(f"{refused} of 2 probes refused")


async def test_a_connection_over_tls_costs_some_tens_of_kib(world: World, files: TlsFiles) -> None:
    """2,000 are served at once: with asyncio's own buffers they would take 500 MiB."""
    count = 100
    async with served(world.api.app, files.certificate) as port:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        opened = [
            await asyncio.open_connection("127.0.0.1", port, ssl=files.client) for _ in range(count)
        ]
        kept = sum(
            trace.size for trace in tracemalloc.take_snapshot().traces if trace.size >= 262_144
        )
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        clients = count * 262_144  # the tests' own ends have asyncio's buffers
        print(f"{count} connections: {(after - before) // 1024} KiB, {kept // 1024} in large parts")
        assert kept < clients * 1.5
        for _, writer in opened:
            writer.transport.abort()


async def test_clients_that_stall_in_the_handshake_keep_nobody_out(
    world: World, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = MOST_HANDSHAKES + 60
    async with served(world.api.app, files.certificate) as port, client(port, files.client) as http:
        stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(sent)]
        assert (await http.get("/readyz")).status_code == 200
        ended = [reader for reader, _ in stalled if await is_ended(reader)]
        print(f"{len(ended)} of {sent} stalled handshakes ended, {sent - len(ended)} under way")
        assert sent - len(ended) <= MOST_HANDSHAKES
        assert all(each is reader for each, (reader, _) in zip(ended, stalled, strict=False))
        for _, writer in stalled:
            writer.close()


async def is_ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.01):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


async def test_a_slow_handshake_has_its_time(
    world: World, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "HANDSHAKE_SECONDS", 0.2)
    async with served(world.api.app, files.certificate) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


async def test_a_refused_body_gets_its_answer_and_a_follower_its_lines(
    world: World, files: TlsFiles
) -> None:
    agent = await world.running()
    await world.report(agent, lines=["one"], seq=1)
    await world.call_back(agent, {})
    async with served(world.api.app, files.certificate) as port, client(port, files.client) as http:
        large = await http.post("/schedule", content=b"x" * 5_000_000)
        assert large.status_code == 413
        async with http.stream("GET", f"/jobs/{agent.job_id}/logs?follow=1") as stream:
            assert "one" in "".join([line async for line in stream.aiter_lines()])


async def test_a_renewed_certificate_is_served_by_the_running_api_and_a_broken_one_is_not(
    world: World, files: TlsFiles
) -> None:
    now = [0.0]
    certificate = Certificate(files.chain, files.key, lambda: now[0])

    async def serial(port: int) -> object:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=files.client)
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return found

    async with served(world.api.app, certificate) as port:
        first = await serial(port)
        renewed = datetime.now(UTC) + timedelta(days=1)
        for each in (files.chain, files.key):
            each.unlink()
        TlsFiles(files.directory, now=renewed - timedelta(days=1), keep=True)
        assert await serial(port) == first, "the files are looked at seldom"
        now[0] += LOOK_SECONDS
        second = await serial(port)
        assert second != first
        files.key.chmod(0o600)
        files.key.write_text("half a")
        now[0] += LOOK_SECONDS
        assert await serial(port) == second
        print("2 of 2 certificates served, 1 of 1 broken ones not")


class AgentOverTls:
    """The agent as a process, of the first attempt of a job that is launched."""

    def __init__(self, directory: Path, url: str, job_id: int, **env: str) -> None:
        directory.mkdir()
        self._stderr = directory / "stderr"
        bearer = tokens.bootstrap_token(TOKEN_KEY, DEPLOYMENT, job_id, 1)
        environment = {
            "PATH": os.environ["PATH"],
            "DOCKER_JOB_API_URL": url,
            "DOCKER_JOB_JOB_ID": str(job_id),
            "DOCKER_JOB_ATTEMPT": "1",
            "DOCKER_JOB_INSTANCE_ID": instance_of(job_id, 1),
            "DOCKER_JOB_BOOTSTRAP_TOKEN": bearer,
            "DOCKER_JOB_MAX_LIFETIME_SECONDS": "60",
            "DOCKER_JOB_RUNTIME": "simulated",
            "DOCKER_JOB_INSTANCE_DIR": str(directory),
        }
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(agent_file())], env=environment | env, stderr=stderr
            )

    @property
    def log(self) -> str:
        return self._stderr.read_text()

    async def until_logged(self, text: str) -> None:
        async with asyncio.timeout(30):
            while text not in self.log:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)

    async def wait(self) -> int:
        return await asyncio.to_thread(self.process.wait, 40)


async def test_an_agent_claims_and_ends_its_job_over_tls(
    world: World, files: TlsFiles, tmp_path: Path
) -> None:
    async with served(world.api.app, files.certificate) as port:
        for number, how in enumerate(("API_CA", "API_CA_FILE")):
            job_id = (await world.post())["id"]
            await world.deliver(world.launched(job_id))
            trust = files.ca if how == "API_CA" else str(files.ca_file)
            url = f"https://127.0.0.1:{port}"
            given = {f"DOCKER_JOB_{how}": trust}
            agent = AgentOverTls(tmp_path / str(number), url, job_id, **given)
            assert await agent.wait() == 0, agent.log
            assert (await world.status(job_id))["status"] == "DONE", agent.log


async def test_an_agent_sends_no_token_to_an_api_that_it_cannot_verify_and_goes_on_trying(
    world: World, files: TlsFiles, tmp_path: Path
) -> None:
    others = TlsFiles(tmp_path / "other")
    wrong_name = TlsFiles(tmp_path / "named", "jobs.example.com")
    expired = TlsFiles(tmp_path / "expired", now=datetime.now(UTC) - timedelta(days=500))
    refused = 0
    for files_, trust, reason in (
        (files, others.ca, "unable to get local issuer certificate"),
        (files, "", "certificate verify failed"),
        (wrong_name, wrong_name.ca, "IP address mismatch"),
        (expired, expired.ca, "certificate has expired"),
    ):
        job_id = (await world.post())["id"]
        await world.deliver(world.launched(job_id))
        async with served(world.api.app, files_.certificate) as port:
            url, home = f"https://127.0.0.1:{port}", tmp_path / f"agent{refused}"
            agent = AgentOverTls(home, url, job_id, DOCKER_JOB_API_CA=trust)
            try:
                await agent.until_logged(reason)
                await agent.until_logged('"tries": 3')
                assert agent.process.poll() is None, "it goes on"
            finally:
                agent.process.kill()
                await agent.wait()
        assert (await world.status(job_id))["status"] == "SCHEDULED"
        refused += 1
    print(f"{refused} of 4 servers refused, 0 claims")


def test_the_port_of_tls_is_free_again_when_the_server_has_stopped(files: TlsFiles) -> None:
    async def once() -> int:
        async def app(scope: object, receive: object, send: object) -> None: ...

        async with served(app, files.certificate) as port:
            return port

    port = asyncio.run(once())
    with socket.create_server(("127.0.0.1", port)):
        pass
