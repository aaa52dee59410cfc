"""TLS of an HTTP server: the certificate from files that are read again, and bounded handshakes.

asyncio's servers accept any number of connections that have sent nothing, give each handshake a
minute, and keep the certificate that they began with. Here a handshake has `HANDSHAKE_SECONDS`, of
too many the oldest ends, and each connection gets the files' present certificate.
"""

import asyncio
import contextlib
import errno
import ssl
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from pathlib import Path
from socket import socket

from shared.log import get_logger
from shared.settings import PREFIX, BadSetting, Settings

HANDSHAKE_SECONDS = 10.0
MOST_HANDSHAKES = 256
"""Under way at once, in one process: each holds some 50 KiB. Beyond it the oldest one ends, so that
clients that stall keep nobody out."""

READ_BYTES = 16_384
"""The most bytes that are read at once: a record of TLS (RFC 8446, 5.1). asyncio's protocol keeps a
buffer of 256 KiB for each connection [CPython 3.13, `SSLProtocol.max_size`]: of 2,000, 500 MiB."""

LOOK_SECONDS = 10.0
"""How often the files are looked at, when connections come."""

BACKLOG = 2048
NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
ACCEPT_PAUSE_SECONDS = 0.1

Seen = tuple[int, int, int, int]


class Certificate:
    """The server's certificate: PEM files of the chain and of its key, read again when changed."""

    def __init__(self, chain: Path, key: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._files, self._clock = (chain, key), clock
        self._seen, self._looked_at = self._look(), clock()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        New files that cannot be used change nothing: they may be half written.
        """
        now = self._clock()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            with contextlib.suppress(OSError):
                self._read_again(self._look())
        return self._context

    def _read_again(self, seen: Seen) -> None:
        if seen == self._seen:
            return
        log = get_logger(part="tls")
        try:
            self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            log.warning("the new certificate cannot be used", error=str(error))
            return
        self._seen = seen
        log.info("a new certificate is served")

    def _look(self) -> Seen:
        first, second = (each.stat() for each in self._files)
        return first.st_mtime_ns, first.st_ino, second.st_mtime_ns, second.st_ino

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files, password="")  # a key with a passphrase is an error
        return context


def read_certificate(settings: Settings) -> Certificate | None:
    """Read `TLS_CERTIFICATE_FILE` and `TLS_KEY_FILE`; None: plain HTTP. Raises `BadSetting`.

    An empty file counts as none: compose always mounts one.
    """
    names = ("TLS_CERTIFICATE_FILE", "TLS_KEY_FILE")
    chain, key = (_file(settings, name) for name in names)
    if chain is None and key is None:
        return None
    if chain is None or key is None:
        given, missing = names if key is None else reversed(names)
        raise BadSetting(
            f"{PREFIX}{given} is set and {PREFIX}{missing} is not, or its file is empty: TLS needs "
            "the certificate and its key"
        )
    try:
        return Certificate(chain, key)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(
            f"{PREFIX}{names[0]} {chain} and {PREFIX}{names[1]} {key} cannot be used: "
            f"{getattr(error, 'reason', None) or error}. They must be PEM: the certificate with "
            "its chain, and its own private key without a passphrase"
        ) from None


def _file(settings: Settings, name: str) -> Path | None:
    text = settings.text(name)
    if text is None:
        return None
    try:
        return Path(text) if Path(text).stat().st_size else None
    except OSError as error:
        raise BadSetting(f"{PREFIX}{name} names {text}: {error.strerror}") from None


class SmallTls(SSLProtocol):
    """asyncio's TLS of a connection, with a buffer of `READ_BYTES`."""

    max_size = READ_BYTES


class TlsListener:
    """Accepts connections on a socket, and makes protocols of those whose handshake succeeds."""

    def __init__(
        self, sock: socket, certificate: Certificate, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._sock, self._certificate, self._protocol = sock, certificate, protocol
        self._handshakes: dict[asyncio.Task[None], None] = {}  # the oldest first
        sock.settimeout(0)
        sock.listen(BACKLOG)
        self._accepting = asyncio.create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more, and end the handshakes that are under way."""
        for task in (self._accepting, *self._handshakes):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait for the end of all that `close` has ended."""
        await asyncio.gather(self._accepting, *self._handshakes, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._sock)
            except OSError as error:  # a client that has left, or no descriptors
                if error.errno in NO_DESCRIPTORS:
                    await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            if len(self._handshakes) >= MOST_HANDSHAKES:
                next(iter(self._handshakes)).cancel()
            task = asyncio.create_task(self._shake_hands(connection))
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))

    async def _shake_hands(self, connection: socket) -> None:
        loop = asyncio.get_running_loop()
        shaken = loop.create_future()
        tls = SmallTls(
            loop,
            self._protocol(),
            self._certificate.context(),
            shaken,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,  # type: ignore[arg-type]  # typeshed: int
            ssl_shutdown_timeout=HANDSHAKE_SECONDS,
        )
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: tls, connection)
            try:
                await shaken
            except BaseException:
                transport.abort()
                raise
        except OSError:  # no TLS, no trust, too slow, or gone: ssl's errors and TimeoutError too
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
