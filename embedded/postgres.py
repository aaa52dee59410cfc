"""A Postgres server of our own, from the binaries of a wheel: started, adopted, recovered, stopped.

The wheel, and the reason to run none of its own code: docs/adr/0001-embedded-postgres.md. The files
are described in `postgres_cluster`, user, socket and processes in `postgres_host`.

The server is in a session of its own: neither Ctrl-C nor the end of this process reaches it, and
the next start adopts it. All calls block; from a coroutine use `asyncio.to_thread`. The caller
of `start` and `stop` holds `embedded.data_dir.lock_data_dir`, so that no other process starts or
stops the same cluster meanwhile.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from embedded.data_dir import make_private_dir
from embedded.postgres_cluster import SUPERUSER, Cluster, failure
from embedded.postgres_host import (
    PORT,
    SOCKET_NAME,
    EmbeddedPostgresError,
    ServerUser,
    binaries,
    choose_socket_dir,
    make_socket_dir,
    own_environment,
    processes_in,
    server_user,
)
from shared.files import private

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

START_SECONDS: Final = 120  # crash recovery replays up to max_wal_size, on a slow disk too
FAST_STOP_SECONDS: Final = 20
IMMEDIATE_STOP_SECONDS: Final = 10
ORPHAN_SECONDS: Final = 10
QUERY_SECONDS: Final = 30
POLL_SECONDS: Final = 0.02
DATABASE: Final = "postgres"


class EmbeddedPostgres:
    """One cluster and its server. A failure is an `EmbeddedPostgresError` of one sentence."""

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        """Change nothing yet. `durable=False`, for tests, is faster and survives no power cut."""
        self._cluster = Cluster(data_dir.resolve(), durable)
        self._socket_dir = choose_socket_dir(self._cluster.directory)
        self._server: subprocess.Popen[bytes] | None = None
        self.version = ""  # "18.4", known after `start`
        self.adopted = False  # whether `start` found the server running

    def start(self) -> str:
        """Start or adopt the server; return the superuser's DSN, for asyncpg, once it answers.

        The server may be a new one, on a new cluster or on the existing one (after a crash it
        recovers first), or the one that an earlier process of ours left running.
        """
        try:
            bin_dir = binaries()
            self.refuse_foreign()
            make_private_dir(self._cluster.directory)
            if not self._adopt(bin_dir):
                self._start_server(bin_dir, server_user(self._cluster.pgdata))
            return self.dsn()
        except OSError as error:
            message = f"The embedded Postgres cannot use {self._cluster.directory}: {error}."
            raise EmbeddedPostgresError(message) from error

    def refuse_foreign(self) -> None:
        """Raise `EmbeddedPostgresError` if the cluster is of another major version or unreadable.

        Changes nothing.
        """
        self._cluster.refuse_foreign()

    def attach(self) -> str | None:
        """Return the DSN of the server on our cluster if one runs and answers.

        Starts and stops nothing: another process may be using it, and may have started it with
        other settings than ours.
        """
        if self._postmaster_pid() is None or not self._is_ready():
            return None
        self._socket_dir = Path(self._pid_file_lines()[4].strip())
        return self.dsn() if self._answers(binaries()) else None

    def dsn(
        self, user: str = SUPERUSER, password: str | None = None, database: str = DATABASE
    ) -> str:
        """Return the address of `database` for a login role; by default the superuser's."""
        secret = self._cluster.password if password is None else password
        query = urlencode({"host": str(self._socket_dir), "port": PORT}, safe="/")
        login = f"{quote(user, safe='')}:{quote(secret, safe='')}"
        return f"postgresql://{login}@/{quote(database)}?{query}"

    def stop(self) -> None:
        """Stop the server and wait until it has ended; do nothing if none runs.

        Fast (sessions are cut, a checkpoint is written); after `FAST_STOP_SECONDS` immediate (the
        next start recovers from the log); then killed, which loses nothing either.
        """
        for number, seconds in (
            (signal.SIGINT, FAST_STOP_SECONDS),
            (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS),
            (signal.SIGKILL, IMMEDIATE_STOP_SECONDS),
        ):
            pid = self._postmaster_pid()
            if pid is None:
                return
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            if _wait_until(lambda: self._postmaster_pid() is None, seconds):
                return

    def _postmaster_pid(self) -> int | None:
        """Return the pid of the server on our cluster, or None if there is none.

        postmaster.pid alone proves nothing: after a crash it stays, and its number may by now
        belong to another process (Postgres itself then refuses to start if that has the same
        user). Only a process whose working directory is the cluster is our server.
        """
        if self._server is not None and self._server.poll() is None:
            return self._server.pid
        self._server = None  # `poll` has waited for it: an ended child is no zombie any more
        lines = self._pid_file_lines()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        return pid if processes_in(self._cluster.pgdata, [pid]) else None

    def _pid_file_lines(self) -> list[str]:
        """Read postmaster.pid: pid, directory, start time, port, socket, address, key, state."""
        try:
            return (self._cluster.pgdata / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _is_ready(self) -> bool:
        return [line.strip() for line in self._pid_file_lines()[7:8]] == ["ready"]

    def _adopt(self, bin_dir: Path) -> bool:
        """Adopt a server that runs on our cluster with our settings and answers on our socket.

        It may still be recovering or stopping: wait for either. One that runs but has other
        settings (they changed since), or does not answer (its socket was moved or removed), is
        stopped, to be started again. Returns True if one was adopted.
        """
        self.adopted = False
        if self._postmaster_pid() is None:
            return False
        _wait_until(lambda: self._postmaster_pid() is None or self._is_ready(), START_SECONDS)
        if self._postmaster_pid() is not None:
            self.adopted = self._has_our_settings(bin_dir) and self._answers(bin_dir)
            if not self.adopted:
                self.stop()
        return self.adopted

    def _has_our_settings(self, bin_dir: Path) -> bool:
        """Compare postmaster.opts, the server's command line with each argument in quotes."""
        options = "".join(
            f' "{option}"' for option in self._cluster.server_options(self._socket_dir)
        )
        return (
            self._cluster.pgdata / "postmaster.opts"
        ).read_text().strip() == f"{bin_dir}/postgres{options}"

    def _answers(self, bin_dir: Path) -> bool:
        """Return True if the server on our socket accepts our password and has our cluster."""
        query = "SHOW data_directory; SHOW server_version"
        command: list[str | Path] = [
            *(bin_dir / "psql", "-XAtw", "-h", self._socket_dir, "-p", str(PORT)),
            *("-U", SUPERUSER, "-d", DATABASE, "-c", query),
        ]
        environment = own_environment() | {"PGPASSWORD": self._cluster.password}
        try:
            answer = subprocess.check_output(
                command,
                env=environment,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=QUERY_SECONDS,
            )
        except subprocess.SubprocessError:
            return False
        directory, self.version = answer.splitlines()
        return Path(directory) == self._cluster.pgdata

    def _start_server(self, bin_dir: Path, user: ServerUser) -> None:
        pgdata, log_file = self._cluster.pgdata, self._cluster.log_file
        user.admit(self._cluster.directory.parent, self._cluster.directory)
        if not pgdata.exists():
            self._cluster.make(bin_dir, user)
        make_socket_dir(self._socket_dir, user)
        user.prove_access(bin_dir, pgdata, self._socket_dir)
        self._clear_stale_locks()
        self._cluster.rotate_log()
        options = self._cluster.server_options(self._socket_dir)
        with open(log_file, "ab", opener=private) as log:
            log_offset = log_file.stat().st_size
            self._server = user.spawn([bin_dir / "postgres", *options], output=log)
        _wait_until(lambda: self._has_ended() or self._is_ready(), START_SECONDS)
        if self._has_ended() or not self._is_ready() or not self._answers(bin_dir):
            self.stop()
            raise failure("The embedded Postgres did not start", log_file, log_offset)

    def _has_ended(self) -> bool:
        return self._server is None or self._server.poll() is not None

    def _clear_stale_locks(self) -> None:
        """Wait for the children of a dead postmaster (see `_adopt`), then remove its locks.

        The children of a killed server end by themselves, but not at once, and hold the shared
        memory until then. Removing the pid file disables Postgres' own check for them, so they
        must have ended first. The socket's lock holds a pid too, and Postgres refuses to start
        while a process, or a zombie, has that number.
        """
        pgdata = self._cluster.pgdata
        pid_file, socket = pgdata / "postmaster.pid", self._socket_dir / SOCKET_NAME
        stale = [pid_file, socket, socket.with_name(f"{SOCKET_NAME}.lock")]
        if not any(path.exists() for path in stale):
            return
        if not _wait_until(lambda: not processes_in(pgdata), ORPHAN_SECONDS):
            for pid in processes_in(pgdata):
                os.kill(pid, signal.SIGKILL)
            _wait_until(lambda: not processes_in(pgdata), ORPHAN_SECONDS)
        for path in stale:
            path.unlink(missing_ok=True)


def _wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
