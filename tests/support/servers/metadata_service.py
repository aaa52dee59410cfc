"""A metadata service for rehearsals of an interruption."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.waiting import until

TOKENS_EACH = 2
"""An agent asks for one token before its claim, and for another one with its container."""


class MetadataService:
    """An instance metadata service (IMDSv2) for rehearsals: one of its agents gets a Spot notice.

    Each agent asks for session tokens of its own, so the first ones are the first agent's.
    """

    def __init__(self) -> None:
        self.notice_to: list[str] = []
        self.tokens: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                outer.tokens.append(f"token-{len(outer.tokens)}")
                self._answer(200, outer.tokens[-1])

            def do_GET(self) -> None:
                token = self.headers.get("X-aws-ec2-metadata-token")
                if token not in outer.tokens:
                    self._answer(401, "")
                elif token in outer.notice_to and self.path.endswith("spot/instance-action"):
                    at = datetime.now(UTC) + timedelta(seconds=120)
                    time = at.strftime("%Y-%m-%dT%H:%M:%SZ")
                    self._answer(200, json.dumps({"action": "terminate", "time": time}))
                else:
                    self._answer(404, "")

            def _answer(self, status: int, text: str) -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def interrupt(self, after: int = 0) -> None:
        """Interrupt the instance of the agent that came after so many tokens; its job runs."""
        until(lambda: len(self.tokens) >= after + TOKENS_EACH)
        self.notice_to = self.tokens[after : after + TOKENS_EACH]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
