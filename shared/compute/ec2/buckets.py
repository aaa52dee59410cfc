"""EC2's token buckets, kept on our side too, so that EC2 seldom throttles a call.

The figures are those that AWS publishes for an account in a region
(https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html). Other replicas and
other users of the account draw on the same buckets, so `Throttled` is handled all the same.
"""

from msgspec import Struct


class Rate(Struct, frozen=True):
    """The size of a bucket in tokens, and the tokens added each second."""

    burst: float
    per_second: float


REQUESTS: dict[str, Rate] = {
    "CreateFleet": Rate(5, 2),  # a fleet's launches count as RunInstances, whose bucket this is
    "RunInstances": Rate(5, 2),
    "TerminateInstances": Rate(100, 5),
    "CreateTags": Rate(100, 10),
    "Describe": Rate(100, 20),
    "Get": Rate(100, 20),
}
MUTATING = Rate(50, 5)

INSTANCES: dict[str, Rate] = {
    "CreateFleet": Rate(1000, 2),
    "TerminateInstances": Rate(1000, 20),
}


class Bucket:
    """A token bucket. *now* is in seconds of any clock, always the same one."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = now

    def take(self, now: float, count: float = 1) -> float:
        """Take *count* tokens; return the seconds to wait until they are available."""
        held = self._tokens + max(0.0, now - self._at) * self._rate.per_second
        self._at = max(now, self._at)
        self._tokens = min(self._rate.burst, held) - count
        return max(0.0, -self._tokens / self._rate.per_second)

    def give_back(self, count: float = 1) -> None:
        """Return tokens that were not used."""
        self._tokens += count


class CallBuckets:
    """One account's buckets for one service's calls."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, action: str, instances: int, now: float, longest: float) -> float | None:
        """Return the seconds to wait before *action*; None: more than *longest*."""
        taken: list[tuple[Bucket, float]] = [(self._requests(action, now), 1.0)]
        rate = INSTANCES.get(action)
        if rate is not None and instances:
            taken.append((self._bucket(("instances", action), rate, now), float(instances)))
        wait = max(bucket.take(now, count) for bucket, count in taken)
        if wait <= longest:
            return wait
        for bucket, count in taken:
            bucket.give_back(count)
        return None

    def _requests(self, action: str, now: float) -> Bucket:
        family = "Describe" if action.startswith("Describe") else action
        family = "Get" if action.startswith("Get") else family
        rate = REQUESTS.get(family, MUTATING)
        # Each action has a bucket of its own; a family only shares its figures.
        return self._bucket(("requests", action), rate, now)

    def _bucket(self, key: tuple[str, str], rate: Rate, now: float) -> Bucket:
        if key not in self._buckets:
            self._buckets[key] = Bucket(rate, now)
        return self._buckets[key]
