"""Two replicas of the API behind a proxy, beside the other services on a real broker.

Each service is a process of its own. Instances are local agents with the simulated runtime, and
reach the API through the proxy too.

    with two_replicas(postgres_server, template_database, brokers.best()) as system:
        system.schedule(...)       # through the proxy, as `ApiClient`
        system.proxy.only = 0      # new connections go to the first replica; None: by turns
        system.kill(0)             # kill -9; its connections are cut, new ones go to the other
        system.start(0)
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx

from operations.migrate import service_dsn
from operations.wiring import PUBLISHES, TOPOLOGY
from shared.bus.rabbitmq import declare, service_url
from tests.conftest import PASSWORDS, at_database, at_server, clone_of
from tests.support.run.ports import free_port
from tests.support.run.state import ROOT, this_run
from tests.support.servers.rabbitmq_kinds import RabbitServer
from tests.support.servers.rabbitmq_server import fresh_vhost
from tests.support.servers.tcp_proxy import TcpProxy
from tests.support.systems.api_client import ApiClient
from tests.support.systems.embedded_system import agents_below
from tests.support.waiting import until

WORKERS = ("scheduler", "launcher", "reaper")
REPLICAS = 2
START_SECONDS = 60

FAST = {
    "RUNTIME": "simulated",
    "HEARTBEAT_SECONDS": "1",
    "METADATA_POLL_SECONDS": "0.2",
    "COMPUTE_URL": "process://",
    "DEPLOYMENT": "two-replicas",
    "TOKEN_KEY": "a" * 64,
    "SECRETS_KEY": "0f" * 32,
}

MAKE_DUE = "UPDATE api.attempts SET due_at = now() WHERE job_id = $1"


class TwoReplicas(ApiClient):
    """The system, by the address of its proxy. *settings* are of all services."""

    def __init__(self, database_url: str, bus_url: str, **settings: str) -> None:
        this_run().start_keeper()  # which ends it if this worker does not
        self.data_dir = Path(tempfile.mkdtemp(prefix="docker-job-replicas-"))
        self.ports = [free_port() for _ in range(REPLICAS)]
        self.proxy = TcpProxy(self.ports)
        super().__init__(f"http://127.0.0.1:{self.proxy.port}")
        self.database_url = database_url
        self._bus_url = bus_url
        self._settings = {"API_URL": self.address, "DATA_DIR": str(self.data_dir), **FAST}
        self._settings |= settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self) -> None:
        """Start every service; return when all of them are ready."""
        for replica in range(REPLICAS):
            self._start_replica(replica)
        for name in WORKERS:
            self._start(name, name, READY_FILE=str(self._ready_file(name)))
        for replica in range(REPLICAS):
            self._await_replica(replica)
        for name in WORKERS:
            until(self._ready_file(name).exists, START_SECONDS, f"{name} starts: {self.log(name)}")

    def start(self, replica: int) -> None:
        """Start a replica of the API (again); return when it is ready."""
        self._start_replica(replica)
        self._await_replica(replica)

    def make_due(self, job_id: int) -> None:
        """Let the API alone take the job's attempt for due: no instance of it is launched."""

        async def update() -> None:
            conn = await asyncpg.connect(self.database_url)
            await conn.execute(MAKE_DUE, job_id)
            await conn.close()

        asyncio.run(update())

    def kill(self, replica: int) -> None:
        """End a replica of the API by `kill -9`, with all of its connections."""
        process = self._processes[f"api-{replica}"]
        process.kill()
        process.wait(10)

    def replica_address(self, replica: int) -> str:
        """Return the address of one replica, past the proxy."""
        return f"http://127.0.0.1:{self.ports[replica]}"

    def log(self, name: str) -> Path:
        """Return the log file of a process: `api-0`, `scheduler`, …."""
        return self.data_dir / f"{name}.log"

    def close(self) -> None:
        """End everything, however the test left it."""
        self.http.close()
        for process in self._processes.values():
            process.kill()
            process.wait(10)
        self.proxy.close()
        for pid in agents_below(self.data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _start_replica(self, replica: int) -> None:
        port = str(self.ports[replica])
        self._start(f"api-{replica}", "api", PORT=port, API_PROCESSES="1")

    def _await_replica(self, replica: int) -> None:
        address, name = self.replica_address(replica), f"api-{replica}"

        def answers() -> bool:
            assert self._processes[name].poll() is None, self.log(name).read_text()[-4000:]
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{address}/readyz").status_code == 200
            return False

        until(answers, START_SECONDS, f"{name} starts: {self.log(name)}")

    def _ready_file(self, name: str) -> Path:
        return self.data_dir / f"{name}.ready"

    def _start(self, name: str, service: str, **more: str) -> None:
        settings = {
            "DATABASE_URL": service_dsn(self.database_url, service, PASSWORDS[service]),
            "BUS_URL": service_url(self._bus_url, service, PASSWORDS[service]),
            **self._settings,
            **more,
        }
        inherited = {key: text for key, text in os.environ.items() if "DOCKER_JOB" not in key}
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}"],
                cwd=ROOT,
                env=inherited | {f"DOCKER_JOB_{key}": text for key, text in settings.items()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


@contextlib.contextmanager
def two_replicas(
    postgres_server: str, template_database: str, broker: RabbitServer, **settings: str
) -> Iterator[TwoReplicas]:
    """Run the system on a database and a virtual host of its own, until the block is left."""
    assert broker.management_url is not None, "users are made on the broker"
    name = f"replicas_{uuid.uuid4().hex[:12]}"
    asyncio.run(at_server(postgres_server, clone_of(template_database, name)))
    try:
        with fresh_vhost(broker) as bus_url:
            asyncio.run(declare(bus_url, broker.management_url, TOPOLOGY, PUBLISHES, PASSWORDS))
            system = TwoReplicas(at_database(postgres_server, name), bus_url, **settings)
            try:
                system.start_all()
                yield system
            finally:
                system.close()
    finally:
        asyncio.run(at_server(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))
