"""Token buckets: the rate limits of an account, for calls and for instances."""

from collections.abc import Callable

from fake_aws.errors import throttled
from fake_aws.settings import Bucket, CloudSettings


class TokenBucket:
    """A token bucket: full at first, refilled every second."""

    def __init__(self, bucket: Bucket, now: Callable[[], float]) -> None:
        self._bucket = bucket
        self._now = now
        self._left = bucket.size
        self._at = now()

    def take(self, count: float) -> bool:
        """Take *count* tokens, or take none and return False."""
        now = self._now()
        refill = (now - self._at) * self._bucket.per_second
        self._left, self._at = min(self._bucket.size, self._left + refill), now
        if self._left < count:
            return False
        self._left -= count
        return True


class Limits:
    """The buckets of one account; an action's bucket is made at its first call."""

    def __init__(self, settings: CloudSettings, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._requests: dict[str, TokenBucket] = {}
        self._instances: dict[str, TokenBucket] = {}

    def request(self, action: str) -> None:
        """Take a token for a call. Raises RequestLimitExceeded."""
        if not self._settings.throttle:
            return
        if action not in self._requests:
            bucket = _first_fit(action, self._settings.request_buckets)
            self._requests[action] = TokenBucket(bucket, self._now)
        if not self._requests[action].take(1):
            raise throttled()

    def instances(self, action: str, count: int) -> None:
        """Take a token for each of *count* instances. Raises RequestLimitExceeded."""
        bucket = self._settings.instance_buckets.get(action)
        if not self._settings.throttle or bucket is None:
            return
        held = self._instances.setdefault(action, TokenBucket(bucket, self._now))
        if not held.take(count):
            raise throttled()


def _first_fit(action: str, buckets: dict[str, Bucket]) -> Bucket:
    if action in buckets:
        return buckets[action]
    return next(
        bucket
        for name, bucket in buckets.items()
        if name.endswith("*") and action.startswith(name[:-1])
    )
