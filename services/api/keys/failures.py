"""The bound on what callers cost who prove nothing: guesses of keys, tokens and claims.

Each guess is counted for its address before it is looked up, and counted back if it was right. So
an address has so many look-ups that fail; beyond them nothing of it is looked up, but what is known
to be right. Genuine callers share addresses with others (a NAT, a proxy), so:

- What was found to be right once is remembered, in all processes of the API (`proven`), and is
  never refused for its address: keys and tokens have limits of their own.
- After a restart, and as soon as an address is over its limit, a sweep remembers all that is right
  (`agents/sweeps.py`), by few queries each `SWEEP_SECONDS`, however many guesses come. So a genuine
  caller that is newer than the last pass is refused for that time at most, and is asked to try
  again then.
- A bootstrap token needs no look-up: it is computed.

All addresses together have `ADDRESSES` times the limit of one: a guesser with a whole network gains
no more, and nothing by filling the table.

While the API has no key, loopback has no limit: it is open there anyway.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from services.api.keys.rates import CallerRate, RateLimit, TooMany
from services.api.keys.sites import is_loopback, site_of
from services.api.processes.siblings import SharedTable

ADDRESSES = 20
SWEEP_SECONDS = 2.0
MOST_PROVEN = 16_384
"""The most keys, and the most attempts, that one pass remembers. The table has room for all."""

_ALL = "all addresses"


class WrongProof(Exception):
    """The caller does not prove what it claims: its key, token or claim is not right."""


class Failures:
    """Counts the failures of each address."""

    def __init__(
        self,
        rate: CallerRate,
        seconds: Callable[[], float],
        counts: SharedTable,
        proven: SharedTable,
        *,
        any_key: Callable[[], Awaitable[bool]],
        wake_sweep: Callable[[], None],
    ) -> None:
        self.rate = rate
        self._seconds = seconds
        self._proven = proven
        self._any_key = any_key
        self._each = RateLimit(rate, "failed calls: an address", "FAILURES", seconds, counts)
        together = rate.times(ADDRESSES)
        whose = f"failed calls: {_ALL} together, {ADDRESSES} times the settings"
        self._all = RateLimit(together, whose, "FAILURES", seconds, counts)
        self._wake_sweep = wake_sweep
        self.must_learn = True
        """Whether genuine callers may have been refused since the sweep's last pass began."""

    @contextlib.asynccontextmanager
    async def looking_up(self, address: str, proof: bytes, share: str = "") -> AsyncIterator[None]:
        """Count the look-up of *proof* in the block as failed if it raises `WrongProof`.

        *proof* is a hash of what only its owner has. With a *share*, the address has an allowance
        for this name alone. Raises `TooMany` before the block.
        """
        known = self._proven.read(proof) is not None
        if not known:
            await self.count(address, share)
        try:
            yield
        except WrongProof:
            self._proven.remove(proof)
            raise
        except BaseException:
            if not known:
                self._count_back(address, share)
            raise
        if not known:
            self._count_back(address, share)
            self.remember([proof])

    async def count(self, address: str, share: str = "") -> None:
        """Count a failure of *address*. Raises `TooMany` if it has had its allowance."""
        try:
            self._each.take(site_of(address) + share)
            if not share:
                self._all.take(_ALL)
        except TooMany as error:
            if is_loopback(address) and not await self._any_key():
                return
            self.must_learn = True
            self._wake_sweep()
            error.wait_seconds = max(error.wait_seconds, SWEEP_SECONDS)
            raise

    def remember(self, proofs: Iterable[bytes]) -> None:
        """Remember proofs that are right: they are not refused for their address."""
        for each in proofs:
            if self._proven.read(each) is None:
                self._proven.write(each, self._seconds())

    def _count_back(self, address: str, share: str) -> None:
        self._each.give_back(site_of(address) + share)
        if not share:
            self._all.give_back(_ALL)
