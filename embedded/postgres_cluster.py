"""The files and settings of the embedded Postgres, and the creation of a cluster in one step.

superuser-password   0600, belongs to the user that runs docker-job; written before the cluster
pgdata/              the cluster, belongs to the user that the server runs as
run/                 the socket, unless the path is too long for one (see `postgres_host`)
server.log           the server's log: no statement, no value, no row
initdb-*/            a cluster in creation; leftovers of a crash are removed before the next
"""

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded.postgres_host import PORT, POSTGRES_MAJOR, EmbeddedPostgresError, ServerUser
from shared.files import private, sync_directory, write_whole

SUPERUSER: Final = "postgres"
LOG_KEEP_BYTES: Final = 1 << 20

# The whole embedded system stays under 350 MB, and one small host serves one small database.
SETTINGS: Final = {
    "listen_addresses": "",  # reachable by the socket alone
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "48MB",
    "work_mem": "4MB",
    "maintenance_work_mem": "32MB",
    "huge_pages": "off",
    "jit": "off",  # the queries are short: compiling them costs more than it saves
    "io_method": "sync",  # 18's default keeps three more processes for asynchronous reads
    "max_parallel_workers_per_gather": "0",  # needs /dev/shm, which is 64 MB in a container
    "autovacuum_max_workers": "2",
    "wal_level": "minimal",  # an embedded database is not replicated
    "max_wal_senders": "0",
    "wal_buffers": "4MB",
    "min_wal_size": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # LOG, FATAL and PANIC alone: an error may quote a value (its client gets it anyway).
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
# Survives a kill -9 but no power cut: for tests alone.
NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster in its directory."""

    directory: Path  # absolute and resolved
    durable: bool

    @property
    def pgdata(self) -> Path:
        """The directory of the server's files."""
        return self.directory / "pgdata"

    @property
    def log_file(self) -> Path:
        """The server's log."""
        return self.directory / "server.log"

    @property
    def password(self) -> str:
        """The superuser's password."""
        return self._password_file.read_text().strip()

    @property
    def _password_file(self) -> Path:
        return self.directory / "superuser-password"

    def server_options(self, socket_dir: Path) -> list[str]:
        """Build the server's arguments, with all settings: an old cluster gets new ones."""
        settings = SETTINGS | ({} if self.durable else NOT_DURABLE)
        settings |= {"unix_socket_directories": str(socket_dir)}
        return ["-D", str(self.pgdata), *(f"--{name}={value}" for name, value in settings.items())]

    def refuse_foreign(self) -> None:
        """Raise `EmbeddedPostgresError` if it is of another major version or unreadable."""
        try:
            if not self.pgdata.exists():
                return
            found = (self.pgdata / "PG_VERSION").read_text().strip()
            self._password_file.read_text()
        except OSError as error:
            message = (
                f"{error.filename} cannot be read ({error.strerror}): run docker-job as the user "
                f"that made {self.directory}, or set DOCKER_JOB_DATA_DIR to another directory."
            )
            raise EmbeddedPostgresError(message) from error
        if found != str(POSTGRES_MAJOR):
            message = (
                f"{self.pgdata} was made by Postgres {found}, and this docker-job brings "
                f"Postgres {POSTGRES_MAJOR}: move the data with pg_dump, or set "
                "DOCKER_JOB_DATA_DIR to a new directory."
            )
            raise EmbeddedPostgresError(message)

    def make(self, bin_dir: Path, user: ServerUser) -> None:
        """Make the cluster beside its place and move it there in one step.

        If it is killed before the move, there is no cluster, and the next start removes the
        leftovers (an initdb that still runs then finds its directory removed and ends). If it is
        killed after it, all is complete: the password was on disk before, and initdb syncs its
        files.
        """
        for remains in self.directory.glob("initdb-*"):
            shutil.rmtree(remains, ignore_errors=True)
        if not self._password_file.exists():
            write_whole(self._password_file, f"{secrets.token_hex(32)}\n".encode())
        workshop = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.directory))
        draft, password, log = workshop / "pgdata", workshop / "password", workshop / "log"
        draft.mkdir(mode=0o700)
        # A copy, which the server's user may read.
        write_whole(password, f"{self.password}\n".encode())
        user.give(workshop, draft, password)
        user.prove_access(bin_dir, draft)
        command: list[str | Path] = [
            *(bin_dir / "initdb", "-D", draft, "-U", SUPERUSER, f"--pwfile={password}"),
            *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--encoding=UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            *("--data-checksums", "--no-instructions", *([] if self.durable else ["--no-sync"])),
        ]
        with open(log, "wb", opener=private) as output:
            failed = user.spawn(command, output=output).wait() != 0
        if failed:
            raise failure("The embedded Postgres could not make its database", log)
        draft.rename(self.pgdata)
        sync_directory(self.directory)
        shutil.rmtree(workshop, ignore_errors=True)

    def rotate_log(self) -> None:
        """Keep one older log beside the current one, each of about `LOG_KEEP_BYTES`."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_KEEP_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))


def failure(what: str, log: Path, offset: int = 0) -> EmbeddedPostgresError:
    """Build the error of *what*, with the last error line of *log* after *offset*."""
    lines = log.read_bytes()[offset:].decode("utf-8", "replace").splitlines() or [
        "its log is empty"
    ]
    errors = [
        line.partition(mark)[2] for line in lines for mark in ("FATAL:", "error:") if mark in line
    ]
    return EmbeddedPostgresError(f"{what}: {(errors or lines)[-1].strip()} (see {log}).")
