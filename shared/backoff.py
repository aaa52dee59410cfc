"""Exponential backoff, capped, with jitter that the caller supplies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays in seconds: `first`, then `factor` times the one before, never more than `longest`."""

    first: float
    factor: float
    longest: float

    def delay(self, tries: int, jitter: float) -> float:
        """Seconds to wait after the *tries*-th failure (from 1).

        *jitter*, in [0, 1), subtracts up to a quarter, so that what failed together is not retried
        together ("equal jitter";
        https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter).
        """
        # The exponent is bounded, since a float would overflow.
        whole: float = min(self.longest, self.first * self.factor ** min(tries - 1, 64))
        return whole * (1 - jitter / 4)


RECONNECT = Backoff(first=0.1, factor=2, longest=5)
"""For a server that does not answer: quick at first, then every five seconds."""

PARKED = Backoff(first=1, factor=3, longest=600)
"""For a handler that fails: 1, 3, 9, 27, 81 s … so that five retries span two minutes."""

UNCONFIRMED = Backoff(first=1, factor=2, longest=60)
"""For an event that the broker does not take though it answers: its queue is missing, for example.
"""
