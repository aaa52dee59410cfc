"""Connection poolers: pgbouncer where it is installed, and a stub that answers as it does."""

import asyncio
import contextlib
import os
import pwd
import shutil
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from operations.wiring import SERVICES
from tests.conftest import PASSWORDS
from tests.support.run.ports import free_port
from tests.support.waiting import until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
OTHER_USER = "nobody"
"""pgbouncer refuses to run as root."""


def at_address(dsn: str, host: str, port: int) -> str:
    """Return *dsn* with another address, without TLS."""
    parts = urlsplit(dsn)
    login = parts.netloc.rpartition("@")[0]
    return f"postgresql://{login}@{host}:{port}{parts.path}?sslmode=disable"


@contextlib.contextmanager
def pgbouncer(admin_dsn: str, **settings: str) -> Iterator[int]:
    """Run pgbouncer before the server of *admin_dsn*; yield its port."""
    assert PROGRAM is not None
    parts = urlsplit(admin_dsn)
    query = parse_qs(parts.query)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="docker-job-pooler-") as name:
        directory = Path(name)
        logins = {service.NAME: PASSWORDS[service.NAME] for service in SERVICES}
        logins[unquote(parts.username or "")] = unquote(parts.password or "")
        users = directory / "users.txt"
        users.write_text("".join(f'"{user}" "{text}"\n' for user, text in logins.items()))
        chosen = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": str(users),
            **settings,
        }
        lines = [f"{key} = {value}" for key, value in chosen.items()]
        config = directory / "pgbouncer.ini"
        server = f"host={query['host'][0]} port={query['port'][0]}"
        config.write_text("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *lines, ""]))
        directory.chmod(0o755)
        user = pwd.getpwnam(OTHER_USER).pw_uid if os.geteuid() == 0 else None
        log = directory / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [PROGRAM, str(config)], user=user, stdout=output, stderr=output
            )
        try:
            until(lambda: process.poll() is not None or "process up" in log.read_text())
            assert process.poll() is None, log.read_text()
            yield port
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def refusing_pooler() -> AsyncIterator[int]:
    """Answer each startup message with pgbouncer's refusal; yield the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            [length] = struct.unpack("!i", await reader.readexactly(4))
            await reader.readexactly(length - 4)
            fields = ("SFATAL", "C08P01", "Munsupported startup parameter: search_path")
            body = b"".join(field.encode() + b"\0" for field in fields) + b"\0"
            writer.write(b"E" + struct.pack("!i", len(body) + 4) + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
