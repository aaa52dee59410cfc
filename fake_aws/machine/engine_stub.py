"""The Engine API of the simulated containers, on stdin and stdout: `docker system dial-stdio`.

It knows the version, the machine, the creation of a container, an image's inspection and its pull;
all else is a 404. `docker_stub.py` does the work. No registry has the image `no-such-image`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import docker_stub  # type: ignore[import-not-found]  # from beside this file: python -I finds none
import hardware  # type: ignore[import-not-found]

MISSING = "no-such-image"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def __init__(self) -> None:
        self.rfile = io.BufferedReader(io.FileIO(0, closefd=False))
        self.wfile = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
        self.client_address = ("stdin", 0)
        self.close_connection = False

    def do_GET(self) -> None:
        """Answer for the version, the machine and for images: each image is here."""
        path = urlsplit(self.path).path
        if path == "/version":
            self.answer(200, {"Version": "0.0-rehearsal"})
        elif path == "/info":
            limits = dict.fromkeys(
                ("MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota"), True
            )
            machine = {"NCPU": os.cpu_count(), "MemTotal": hardware.memory_bytes()}
            runtimes = ("runc", "nvidia") if hardware.gpus() is not None else ("runc",)
            known = {"Runtimes": {each: {"path": each} for each in runtimes}}
            self.answer(200, {**machine, **limits, **known})
        elif path.startswith("/images/") and path.endswith("/json") and MISSING not in path:
            self.answer(200, {"Id": "sha256:" + "0" * 64, "RepoTags": [], "Config": {}})
        else:
            self.answer(404, {"message": "page not found"})

    def do_POST(self) -> None:
        """Create a container, or simulate a pull."""
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = parse_qs(url.query)
        if url.path == "/containers/create":
            self.create(query["name"][0], json.loads(body))
        elif url.path == "/images/create":
            image = query["fromImage"][0]
            if MISSING in image:
                self.answer(404, {"message": no_image(image)})
                return
            self.answer(200, {"status": f"Status: simulated, not pulled: {image}"})
        else:
            self.answer(404, {"message": "page not found"})

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """Record a container as `docker create` does."""
        arguments = ["--name", name, "--stop-signal", spec.get("StopSignal") or "SIGTERM"]
        for request in spec["HostConfig"].get("DeviceRequests") or []:
            arguments += ["--gpus", str(request["Count"])]
        for variable in spec.get("Env") or []:
            arguments += ["--env", variable]
        command = [*(spec.get("Entrypoint") or []), *(spec.get("Cmd") or [])]
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                docker_stub.create([*arguments, "--", spec["Image"], *command])
        except SystemExit:
            self.answer(409, {"message": f"The container name {name} is already in use"})
            return
        self.answer(201, {"Id": name, "Warnings": []})

    def answer(self, status: int, body: object) -> None:
        """Send a response."""
        content = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing."""


def no_image(image: str) -> str:
    """Return the engine's message for an image that the registry does not have.

    https://github.com/moby/moby/blob/v28.0.0/distribution/errors.go (translatePullError)
    """
    return f"repository {image} not found: name unknown: it does not exist in the registry"


def serve() -> None:
    """Answer requests until stdin ends."""
    handler = Handler()
    while not handler.close_connection:
        handler.handle_one_request()


if __name__ == "__main__":
    serve()
