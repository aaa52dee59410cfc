"""A way to a server that cuts connections where a test says, in threads: for clients that block."""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PATIENCE = 20.0


class CuttingWire:
    """Carries TCP connections to a port of this machine.

    `passes`: for each connection to come, how many bytes of the server's answers the client gets
    before the connection is reset; connections beyond the list are carried whole. With 0 the
    server gets the request and handles it, and its answer is lost.
    """

    def __init__(self, target: int) -> None:
        self.passes: list[int] = []
        self.connections = 0
        self.cut = 0
        self._target = target
        self._carried: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def lead_to(self, target: int) -> None:
        """Carry connections to another port from now on."""
        self._target = target

    def cut_now(self) -> None:
        """End every connection."""
        for client in tuple(self._carried):
            self.cut += 1
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def carrying(self) -> Iterator["CuttingWire"]:
        thread = threading.Thread(target=self._accept)
        thread.start()
        try:
            yield self
        finally:
            self._listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self.connections += 1
                left = self.passes.pop(0) if self.passes else None
                threading.Thread(target=self._carry, args=(client, left), daemon=True).start()

    def _carry(self, client: socket.socket, left: int | None) -> None:
        """Carry both ways in one thread: a socket that another one reads cannot be reset."""
        with (
            suppress(OSError),  # nothing listens there, or one side has ended
            client,
            socket.create_connection(("127.0.0.1", self._target), PATIENCE) as server,
            self._noted(client),
        ):
            while True:
                readable, _, _ = select.select([client, server], [], [], PATIENCE)
                if client in readable:
                    request = client.recv(65_536)
                    if not request:
                        return
                    server.sendall(request)
                if server in readable:
                    data = server.recv(65_536)
                    if left is not None and len(data) > left:
                        client.sendall(data[:left])
                        self._reset(client)
                        return
                    if not data:
                        return
                    client.sendall(data)
                    left = None if left is None else left - len(data)

    @contextmanager
    def _noted(self, client: socket.socket) -> Iterator[None]:
        self._carried.add(client)
        try:
            yield
        finally:
            self._carried.discard(client)

    def _reset(self, client: socket.socket) -> None:
        """End the connection as a process does that is killed."""
        self.cut += 1
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def cutting_wire(port: int, passes: list[int] | None = None) -> Iterator[CuttingWire]:
    """Carry connections to *port* during the block."""
    wire = CuttingWire(port)
    wire.passes = passes or []
    with wire.carrying():
        yield wire
