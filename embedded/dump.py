"""A dump of the database, by Postgres' own programs: written, verified, loaded."""

import contextlib
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from embedded.backup_file import BackupError, refuse_altered, tables_listed
from embedded.postgres_host import binaries, own_environment
from embedded.tables import NEEDED, Table, missing_tables
from operations.migrate import schemas
from operations.wiring import SERVICES
from shared.postgres.migrations import read_migrations

PLAIN = ("--no-owner", "--no-privileges")
"""Roles are the server's, not the database's: the migration makes them and their grants."""

Applied = dict[tuple[str, str], str]
"""The checksums of migrations, by schema and source."""


async def write(dsn: str, beside: Path, descriptor: int) -> None:
    """Dump the database of *dsn* to the open file *beside*."""
    # By name: to a standard output that is a file pg_dump writes the list twice. It inherits the
    # descriptor, and with it the lock, in case it outlives us.
    flags = ("--format=custom", *PLAIN, f"--file={beside}")
    await _program("pg_dump", dsn, *flags, held=(descriptor,))


async def load(dsn: str, file: Path) -> None:
    """Load a dump into the empty database of *dsn*."""
    name = urlsplit(dsn).path.removeprefix("/")
    await _program("pg_restore", dsn, "--exit-on-error", *PLAIN, f"--dbname={name}", file)


async def verify(file: Path, needed: AbstractSet[Table] = NEEDED) -> None:
    """Read all of a dump. Raises `BackupError` if it is incomplete or lacks a *needed* table."""
    refuse_altered(file)
    listing = await _read(file, "--list")
    missing = missing_tables(needed, tables_listed(listing))
    if missing is not None:
        raise BackupError(f"{file} is not a backup of docker-job: {missing}")
    # The list is at the start: only reading all of it shows that nothing is cut off.
    await _read(file, "--file=/dev/null")


async def refuse_other_release(file: Path) -> None:
    """Raise `BackupError` if the dump has migrations that this release does not have.

    Also where it records none: the tables would then be created a second time.
    """
    flags = ("--data-only", "--schema=migrations", "--table=applied", "--file=-")
    applied = dict(_applied(await _read(file, *flags)))
    if {schema for schema, _ in applied} != {service.NAME for service in SERVICES}:
        raise BackupError(f"{file} is not a backup of docker-job: it does not list its migrations")
    ours = known_migrations()
    for (schema, source), checksum in sorted(applied.items()):
        if (schema, source) not in ours:
            raise BackupError(
                f"{file} was saved by a newer release of docker-job (this one does not have the "
                f"migration {source} of {schema}): update docker-job, then restore it"
            )
        if checksum != ours[schema, source]:
            raise BackupError(
                f"{file} was saved by another docker-job (its migration {source} of {schema} is "
                "not the same as here): restore it with the one that saved it"
            )


def known_migrations() -> Applied:
    """Return the migrations of this release."""
    return {
        (schema.name, each.source): each.checksum
        for schema in schemas({service.NAME: "" for service in SERVICES})
        for each in read_migrations(schema)
    }


async def _read(file: Path, *flags: str) -> str:
    """Run pg_restore on a dump, without a database. Raises `BackupError` that names the file."""
    try:
        return await _program("pg_restore", "", *flags, file)
    except BackupError as error:
        raise BackupError(f"{file} is not a whole backup of docker-job ({error})") from error


def _applied(script: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Read the rows of `migrations.applied` in a dump's script: a COPY, its rows, a full stop."""
    _, copy, rest = script.partition("\nCOPY migrations.applied (")
    columns, _, rows = rest.partition(") FROM stdin;\n")
    names = columns.split(", ")
    for line in rows.partition("\n\\.")[0].splitlines() if copy else ():
        row = dict(zip(names, line.split("\t"), strict=False))
        yield (row.get("schema", ""), row.get("source", "")), row.get("checksum", "")


async def _program(name: str, dsn: str, *arguments: str | Path, held: tuple[int, ...] = ()) -> str:
    """Run one of Postgres' programs on the database of *dsn*; return its output.

    The login is in its environment. It inherits the descriptors *held*.
    """
    process = await create_subprocess_exec(
        binaries() / name,
        *arguments,
        env=own_environment() | _login(dsn),
        pass_fds=held,
        umask=0o077,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        printed, errors = await process.communicate()
    finally:
        if process.returncode is None:  # this process is being stopped
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BackupError(_reason(name, errors.decode(errors="replace")))
    return printed.decode(errors="replace")


def _login(dsn: str) -> dict[str, str]:
    parts = urlsplit(dsn)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    return {
        "PGHOST": query.get("host", parts.hostname or "localhost"),
        "PGPORT": query.get("port", str(parts.port or 5432)),
        "PGUSER": unquote(parts.username or "postgres"),
        "PGPASSWORD": unquote(parts.password or ""),
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
    }


def _reason(program: str, errors: str) -> str:
    """Return a program's first error, with its detail, in one line."""
    lines = errors.strip().splitlines() or [f"{program}: no reason given"]
    # Of two versions that do not fit only the detail names them.
    details = [each for each in lines[1:2] if "detail:" in each]
    return "; ".join([lines[0], *(each.partition("detail:")[2].strip() for each in details)])
