"""The settings of TLS, and plain HTTP beside it: for agents of an earlier release, until a time."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from services.api.http.plain import PlainHttp, for_agents_until, read_plain
from shared.runtime.tls import read_certificate
from shared.settings import EXIT_SETTING, BadSetting, Settings
from tests.integration.test_api_processes import start, started
from tests.support.api.api_world import World
from tests.support.run.ports import free_port
from tests.support.servers.tls_files import TlsFiles


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path / "tls")


async def test_the_second_port_serves_agents_alone_and_them_until_its_time(world: World) -> None:
    agent = await world.claimed((await world.post())["id"])
    now = [datetime(2026, 12, 1, tzinfo=UTC)]
    until = now[0] + timedelta(days=2)
    app = for_agents_until(world.api.app, until, lambda: now[0])
    transport = httpx.ASGITransport(app)
    refused = 0
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        report = {"phase": "running", "logs": None}
        path = f"/agent/jobs/{agent.job_id}/report"
        assert (await http.post(path, json=report, headers=agent.headers)).status_code == 200
        others = (
            ("POST", "/schedule"),
            ("GET", "/list"),
            ("GET", f"/status/{agent.job_id}"),
            ("GET", f"/jobs/{agent.job_id}/logs"),
            ("GET", "/agent"),
            ("GET", "//agent/x"),
            ("GET", "/callbacks/1"),
            ("DELETE", "/jobs/1"),
            ("GET", "/"),
        )
        for method, other in others:
            answer = await http.request(method, other, headers={"Authorization": "Bearer djk_x_y"})
            assert answer.status_code == 426, other
            assert "use HTTPS" in answer.json()["message"]
            refused += 1
        now[0] = until
        assert (await http.post(path, json=report, headers=agent.headers)).status_code == 426
        assert (await http.get("/healthz")).status_code == 200
    print(f"{refused} of {len(others)} routes of users refused in clear")


def settings(**values: object) -> Settings:
    return Settings({f"DOCKER_JOB_{name}": str(value) for name, value in values.items()})


def test_the_settings_of_tls_say_what_is_wrong(files: TlsFiles, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    other = TlsFiles(tmp_path / "other")
    assert read_certificate(settings()) is None
    assert read_certificate(settings(TLS_CERTIFICATE_FILE=empty, TLS_KEY_FILE=empty)) is None
    for values, message in (
        ({"TLS_CERTIFICATE_FILE": files.chain}, "TLS_KEY_FILE is not, or its file is empty"),
        ({"TLS_CERTIFICATE_FILE": empty, "TLS_KEY_FILE": files.key}, "CERTIFICATE_FILE is not"),
        (
            {"TLS_CERTIFICATE_FILE": files.chain, "TLS_KEY_FILE": other.key},
            "cannot be used: KEY_VALUES_MISMATCH",
        ),
        (
            {"TLS_CERTIFICATE_FILE": tmp_path / "none", "TLS_KEY_FILE": files.key},
            "none: No such file",
        ),
    ):
        with pytest.raises(BadSetting, match=message):
            read_certificate(settings(**values))


def test_plain_http_beside_tls_is_a_time_or_open() -> None:
    until = datetime(2026, 12, 31, 12, tzinfo=UTC)
    assert read_plain(settings(), tls=True) is None
    assert read_plain(settings(PLAIN_HTTP="open"), tls=True) == PlainHttp(8080, None)
    timed = settings(PLAIN_HTTP="2026-12-31T12:00:00Z", PLAIN_PORT=81)
    assert read_plain(timed, tls=True) == PlainHttp(81, until)
    with pytest.raises(BadSetting, match="there is no certificate"):
        read_plain(settings(PLAIN_HTTP="open"), tls=False)
    for wrong in ("yes", "2026-12-31", "2026-12-31T12:00:00"):
        with pytest.raises(BadSetting, match="must be open, or the time"):
            read_plain(settings(PLAIN_HTTP=wrong), tls=True)


def test_both_processes_serve_tls_and_agents_in_clear_on_the_port_beside(
    shared_database: str, files: TlsFiles
) -> None:
    plain, until = free_port(), datetime.now(UTC) + timedelta(hours=1)
    given = {
        "TLS_CERTIFICATE_FILE": str(files.chain),
        "TLS_KEY_FILE": str(files.key),
        "API_URL": "https://127.0.0.1:1",
        "PLAIN_HTTP": until.isoformat(),
        "PLAIN_PORT": str(plain),
    }
    with started(shared_database, **given) as api:
        for _ in range(20):
            answer = httpx.get(f"https://127.0.0.1:{api.port}/healthz", verify=files.client)
            assert answer.status_code == 200
        assert httpx.get(f"http://127.0.0.1:{plain}/list").status_code == 426
        claim = httpx.post(f"http://127.0.0.1:{plain}/agent/claim", json={})
        assert claim.status_code in (400, 401, 422)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{api.port}/healthz")
        assert api.end() == 0


def test_the_api_does_not_start_where_agents_would_be_sent_to_plain_http(
    shared_database: str, files: TlsFiles
) -> None:
    given = {
        "TLS_CERTIFICATE_FILE": str(files.chain),
        "TLS_KEY_FILE": str(files.key),
        "API_URL": "http://api:8000",
        "PORT": str(free_port()),
    }
    process = start(shared_database, given, errors=subprocess.PIPE)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == EXIT_SETTING
    assert "DOCKER_JOB_API_URL is http://api:8000: with DOCKER_JOB_TLS_CERTIFICATE_FILE" in errors
