"""A registry with one image, which can be slow, away, or in need of a login.

It speaks the part of the distribution API that a pull needs, over plain HTTP: engines take that
from an address of 127.0.0.0/8. https://distribution.github.io/distribution/spec/api/
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import platform
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
NAME = "team/app"
PRINTED = "hello from a layer"
PIECES = 100
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Blob(NamedTuple):
    """A content of the registry."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    def described(self) -> dict[str, object]:
        """Return its descriptor in a manifest."""
        return {"mediaType": self.media_type, "size": len(self.content), "digest": self.digest}


class SlowRegistry:
    """The registry; a test changes its attributes while it serves."""

    def __init__(self, layer_bytes: int = 3_000_000) -> None:
        self.away = False  # connections end without an answer
        self.hangs_at = ""  # the part of a path at which it says nothing more
        self.pause_seconds = 0.0  # before each hundredth of a layer
        self.login = ""  # user:password that it asks for
        self.error: tuple[int, str] | None = None  # of manifests: status, code (a page without)
        self.other_platform = False
        self.requests: list[str] = []
        self.cut = threading.Event()  # a client has gone away while it got a layer
        self.released = threading.Event()  # from all waits, at the end
        tar = _layer(layer_bytes)
        layer = Blob(gzip.compress(tar, 1), LAYER)
        config = Blob(_config(tar), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.described()}
        body = {**manifest, "layers": [layer.described()]}
        self.manifest = Blob(json.dumps(body).encode(), MANIFEST)
        self._blobs = {each.digest: each for each in (layer, config)}
        self._server = _Server(self)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.image = f"{self.host}/{NAME}:1"

    @contextmanager
    def serving(self) -> Iterator[SlowRegistry]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def find(self, path: str) -> Blob | None:
        """Return the content at a path of the API."""
        kind, _, reference = path.removeprefix(f"/v2/{NAME}/").partition("/")
        if kind == "blobs":
            return self._blobs.get(reference)
        if kind != "manifests":
            return None
        named = self._for_another_platform() if self.other_platform else self.manifest
        found = [each for each in (named, self.manifest) if each.digest == reference]
        return named if reference in ("1", "latest") else next(iter(found), None)

    def _for_another_platform(self) -> Blob:
        entry = {**self.manifest.described(), "platform": {"os": "linux", "architecture": "s390x"}}
        listed = {"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": [entry]}
        return Blob(json.dumps(listed).encode(), MANIFEST_LIST)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: SlowRegistry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry

    def handle_error(self, *_args: object) -> None:
        """Pass over a client that has gone away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, _Server)
        self._registry = self.server.registry

    def handle_one_request(self) -> None:
        if self._registry.away:
            self.close_connection = True
            return
        super().handle_one_request()

    def do_GET(self) -> None:
        registry = self._registry
        registry.requests.append(f"{self.command} {self.path}")
        if registry.hangs_at and registry.hangs_at in self.path:
            registry.released.wait()
        if not self._is_logged_in():
            self._fail(401, "UNAUTHORIZED")
        elif self.path == "/v2/":
            self._answer(200, Blob(b"{}", "application/json"))
        elif registry.error and "/manifests/" in self.path:
            self._fail(*registry.error)
        elif (found := registry.find(self.path)) is None:
            self._fail(404, "MANIFEST_UNKNOWN")
        else:
            self._answer(200, found)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _is_logged_in(self) -> bool:
        login = self._registry.login
        given = base64.b64encode(login.encode()).decode()
        return not login or self.headers.get("Authorization") == f"Basic {given}"

    def _fail(self, status: int, code: str) -> None:
        errors = {"errors": [{"code": code, "message": "as the test says"}]}
        body = json.dumps(errors).encode() if code else b"<html>not found</html>"
        self._answer(status, Blob(body, "application/json" if code else "text/html"))

    def _answer(self, status: int, blob: Blob) -> None:
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
        self.send_header("Content-Length", str(len(blob.content)))
        self.send_header("Content-Type", blob.media_type)
        self.send_header("Docker-Content-Digest", blob.digest)
        self.end_headers()
        if self.command != "HEAD":
            self._send(blob)

    def _send(self, blob: Blob) -> None:
        is_layer = blob.media_type == LAYER
        size = max(1, len(blob.content) // PIECES) if is_layer else len(blob.content)
        try:
            for start in range(0, len(blob.content), size):
                if is_layer:
                    self._registry.released.wait(self._registry.pause_seconds)
                self.wfile.write(blob.content[start : start + size])
                self.wfile.flush()
        except OSError:
            self.close_connection = True
            self._registry.cut.set()

    def send_error(self, *_args: object, **_kwargs: object) -> None:
        self.close_connection = True  # the engine tries TLS first

    def log_message(self, *_args: object) -> None:
        pass


def _config(tar: bytes) -> bytes:
    config = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]},
        "history": [{"created_by": "a test"}],
    }
    return json.dumps(config).encode()


def _layer(size: int) -> bytes:
    """Return a layer with a program, and with bytes that no compression makes fewer."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content, mode in (
            ("hello", _program(), 0o755),
            ("data", os.urandom(size), 0o644),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _program() -> bytes:
    """Return an executable without libraries that prints `PRINTED` and exits with 0."""
    text = PRINTED.encode() + b"\n"
    if platform.machine() == "x86_64":
        machine = 62
        code = bytes.fromhex("b801000000 bf01000000 488d3513000000 ba") + struct.pack(
            "<I", len(text)
        )
        code += bytes.fromhex("0f05 b83c000000 31ff 0f05")
        code += b"\x90" * (19 + 17 - len(code))
    else:
        machine = 183
        words = [0xD2800020, 0x100000E1, 0xD2800002 | len(text) << 5, 0xD2800808]
        words += [0xD4000001, 0xD2800000, 0xD2800BA8, 0xD4000001]
        code = b"".join(struct.pack("<I", word) for word in words)
    start, headers = 0x400000, 64 + 56
    length = headers + len(code) + len(text)
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, start + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, length, length, 0x10000)
    return elf + code + text
