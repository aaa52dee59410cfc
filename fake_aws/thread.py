"""A cloud in a thread of its own, with its own event loop, for tests and programs of one process.

The caller's event loop cannot block it, and it answers plain boto3 calls from the thread that
started it.

    with start_cloud(CloudSettings(seed=7, speed=100)) as cloud:
        ec2 = boto3.client("ec2", **cloud.client_arguments())
        cloud.control.interrupt(instance_id)
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fake_aws.cloud import Cloud
from fake_aws.control import Control, routes
from fake_aws.credentials import Credential
from fake_aws.settings import CloudSettings

T = TypeVar("T")
START_SECONDS = 60.0


class CloudThread:
    """A cloud in a thread; every method may be called from any other thread."""

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cloud", daemon=True)
        self.cloud: Cloud
        self.control: Control

    def start(self) -> None:
        """Start the thread; return when the cloud listens."""
        self._thread.start()
        try:
            self._run(self._start())
        except BaseException:
            self._stop_loop()
            raise

    def close(self) -> None:
        """Stop the cloud; return when nothing of it is left."""
        try:
            self._run(self.cloud.close())
        finally:
            self._stop_loop()

    @property
    def endpoint_url(self) -> str:
        """The address of every service."""
        return self.cloud.url

    def environment(self, credential: Credential | None = None) -> dict[str, str]:
        """Return the variables that point an AWS SDK here; by default with the operator's keys."""
        return self.cloud.environment(credential)

    def client_arguments(self, credential: Credential | None = None) -> dict[str, Any]:
        """Return the same as arguments for `boto3.client(service, **…)`."""
        caller = credential or self.cloud.keys.operator
        return {
            "endpoint_url": self.endpoint_url,
            "region_name": self._settings.region,
            "aws_access_key_id": caller.access_key,
            "aws_secret_access_key": caller.secret,
            "aws_session_token": caller.session_token or None,
        }

    def call(self, work: Callable[[Cloud], T]) -> T:
        """Run *work* in the cloud's own thread; return its result."""

        async def run() -> T:
            return work(self.cloud)

        return self._run(run())

    async def _start(self) -> None:
        self.cloud = Cloud(self._settings)
        self.control = Control(self.call)
        await self.cloud.start(routes(self.cloud))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def start_cloud(settings: CloudSettings | None = None) -> Iterator[CloudThread]:
    """Run a cloud for the length of the block."""
    cloud = CloudThread(settings or CloudSettings())
    cloud.start()
    try:
        yield cloud
    finally:
        cloud.close()
