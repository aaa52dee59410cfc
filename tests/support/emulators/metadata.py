"""The metadata service of one instance of an emulator, with credentials of the emulator's STS."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

META = "/latest/meta-data"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"


class RoleMetadata:
    """An IMDSv2 that knows the instance, its role and its interruption notice."""

    def __init__(
        self, instance_id: str, role: str, credentials: Callable[[], dict[str, str]]
    ) -> None:
        """*credentials* returns those of the role, for this instance's session."""
        self._instance_id = instance_id
        self._role = role
        self._credentials = credentials
        self._interrupted_at: datetime | None = None
        self._launched_at = datetime.now(UTC)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._answer("token")

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != "token":
                    self.send_error(401)
                    return
                self._answer(outer.find(self.path.rstrip("/")))

            def _answer(self, text: str | None) -> None:
                if text is None:
                    self.send_error(404)
                    return
                body = text.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header(TTL, "21600")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def interrupt(self, seconds: float) -> None:
        """Show an interruption notice: the instance is reclaimed in *seconds*."""
        self._interrupted_at = datetime.now(UTC) + timedelta(seconds=seconds)

    def find(self, path: str) -> str | None:
        """Return the value at *path*, or None."""
        if path == f"{META}/spot/instance-action" and self._interrupted_at is not None:
            return json.dumps({"action": "terminate", "time": _stamp(self._interrupted_at)})
        if path == f"{META}/iam/security-credentials/{self._role}":
            return json.dumps({"Code": "Success", "Type": "AWS-HMAC", **self._credentials()})
        document = {
            "instanceId": self._instance_id,
            "pendingTime": _stamp(self._launched_at),
            "region": "us-east-1",
        }
        return {
            f"{META}/instance-id": self._instance_id,
            f"{META}/placement/region": "us-east-1",
            f"{META}/services/domain": "amazonaws.com",
            f"{META}/iam/security-credentials": self._role,
            "/latest/dynamic/instance-identity/document": json.dumps(document),
        }.get(path)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
