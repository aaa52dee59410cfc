"""boto3 in threads: one call at a time a thread, with deadlines and without its own retries.

A thread that waits for AWS cannot be cancelled, so it is a daemon and the deadline is ours: the
caller goes on, and the process can end. The SDK does not retry, since a launch that it repeats
unseen uses up the quota; calls that may be repeated are repeated here.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from shared.backoff import Backoff
from shared.compute.ec2 import error_rules
from shared.compute.ec2.authorization import AuthorizationDecoder
from shared.compute.ec2.buckets import CallBuckets
from shared.compute.ec2.errors import ENCODED, code_of, error_of, message_of, named
from shared.compute.ec2.price_list import price_list_region
from shared.compute.port import ComputeError, Rejected, Throttled, Unknown

T = TypeVar("T")

CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
DEADLINE_SECONDS = 24.0

FLEET_SECONDS = 720.0
"""The same two for CreateFleet, which answers when all its launches are decided: usually after some
seconds, and for hundreds after longer than any read. AWS names no limit. The caller's own deadline
ends the wait before (`DOCKER_JOB_LAUNCH_CALL_SECONDS`, longer for many launches): a second deadline
here, shorter than that, would only repeat calls that are under way.
"""

SLOW = frozenset({"CreateFleet"})
AT_ONCE = 16

BUCKET_SECONDS = 5.0
"""A call that would wait longer for our own buckets raises `Throttled`."""

RETRY = Backoff(first=0.3, factor=2, longest=3)
MOST_PAGES = 1000
"""Of one list, so that an answer that names ever more pages comes to an end."""

TRIES = 4
"""Of a read call that was throttled."""

RENEW_SECONDS = 15.0
"""The least time between two readings of the credentials: making a client costs a second of CPU."""


class Aws:
    """AWS's services in one region, with this process's credentials."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._clients: dict[tuple[str, float], Any] = {}
        self._making = threading.Lock()
        self._session: boto3.session.Session | None = None
        self._read_at = 0.0
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._buckets = CallBuckets()
        self.authorization = AuthorizationDecoder(self._decode)

    async def call(
        self, action: str, *, service: str = "ec2", instances: int = 0, **parameters: Any
    ) -> dict[str, Any]:
        """Make one call, once. Raises a `ComputeError`; AWS's own error is its cause."""
        if service == "ec2":
            await self._own_limit(action, instances)
        try:
            return await self._call_in_turn(service, action, parameters)
        except ComputeError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or ENCODED not in message_of(cause):
                raise
            text = await self.authorization.explain(action, message_of(cause))
            raise named(code_of(cause), text) from cause

    async def _call_in_turn(
        self, service: str, action: str, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        async with self._turns:
            seconds = FLEET_SECONDS if action in SLOW else DEADLINE_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    return await _in_thread(lambda: self._call(service, action, parameters))
            except TimeoutError as error:
                raise Unknown(f"{action}: no answer within {seconds:g} s") from error
            except ComputeError:
                raise
            except Exception as error:
                raise error_of(error) from error

    async def read(self, action: str, *, service: str = "ec2", **parameters: Any) -> dict[str, Any]:
        """Make a call that changes nothing; repeat it while it is throttled."""
        for tries in range(1, TRIES):
            try:
                return await self.call(action, service=service, **parameters)
            except Throttled:
                await asyncio.sleep(RETRY.delay(tries, random.random()))
        return await self.call(action, service=service, **parameters)

    async def read_all(
        self, action: str, key: str, *, service: str = "ec2", **parameters: Any
    ) -> list[dict[str, Any]]:
        """Read all pages of *key*: complete, or an error."""
        found: list[dict[str, Any]] = []
        token: str | None = None
        for _ in range(MOST_PAGES):
            more = {"NextToken": token} if token else {}
            page = await self.read(action, service=service, **parameters, **more)
            found += page.get(key) or []
            token = page.get("NextToken")
            if not token:
                return found
        raise Unknown(f"{action}: more than {MOST_PAGES} pages")

    async def _decode(self, encoded: str) -> str:
        shown = await self.call("DecodeAuthorizationMessage", service="sts", EncodedMessage=encoded)
        return str(shown["DecodedMessage"])

    async def _own_limit(self, action: str, instances: int) -> None:
        wait = self._buckets.take(action, instances, time.monotonic(), BUCKET_SECONDS)
        if wait is None:
            raise Throttled(f"{action}: EC2's published limit of calls is reached")
        if wait > 0:
            await asyncio.sleep(wait)

    def _call(self, service: str, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
        read_seconds = FLEET_SECONDS if action in SLOW else READ_SECONDS
        method = getattr(self._client(service, read_seconds), xform_name(action))
        try:
            answer: dict[str, Any] = method(**parameters)
        except Exception as error:
            if error_of(error).change == error_rules.CREDENTIALS:
                self._forget_credentials()
            raise
        return answer

    def _client(self, service: str, read_seconds: float) -> Any:
        with self._making:  # making one reads files and is not thread-safe
            key = service, read_seconds
            if key not in self._clients:
                # One for all: each keeps its own copy of EC2's model, 30 MB.
                self._session = self._session or boto3.session.Session()
                self._clients[key] = self._session.client(
                    service,
                    region_name=self._region_of(service),
                    config=Config(
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=read_seconds,
                        retries={"total_max_attempts": 1, "mode": "standard"},
                        max_pool_connections=AT_ONCE,
                        tcp_keepalive=True,
                    ),
                )
            return self._clients[key]

    def _forget_credentials(self) -> None:
        """Read the credentials anew for the next call: a client never reads a file again."""
        now = time.monotonic()
        with self._making:
            if now - self._read_at >= RENEW_SECONDS:
                self._read_at = now
                self._session = None
                self._clients.clear()

    def _region_of(self, service: str) -> str:
        """Return the region to ask: the Price List API is in few, with the prices of all."""
        if service != "pricing":
            return self.region
        region = price_list_region(self.region)
        if region is None:
            raise Rejected(f"there is no Price List API for {self.region}")
        return region


async def _in_thread(work: Callable[[], T]) -> T:
    """Run *work* in a daemon thread, for which the process does not wait at its end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def on_loop(settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing awaits the result
            loop.call_soon_threadsafe(lambda: None if future.done() else settle())

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
            failure = error
            on_loop(lambda: future.set_exception(failure))
        else:
            on_loop(lambda: future.set_result(result))

    threading.Thread(target=run, name="aws", daemon=True).start()
    return await future
