"""List prices: from the Price List API, which changes a few times a year, or from the table.

`EC2_PRICES` decides: the API's, and the table's until it has answered (auto); the API's alone
(api); the table's alone (table); no price is known (none).
"""

import asyncio
import calendar
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from shared.backoff import Backoff
from shared.clock import Clock
from shared.compute.ec2.cache import Cache
from shared.compute.ec2.client import Aws
from shared.compute.ec2.price_list import (
    PUBLIC_IPV4,
    VOLUME,
    is_commercial,
    price_list_query,
    public_ipv4_query,
    read_price_list,
    read_usage,
    volume_query,
)
from shared.compute.ec2.price_table import (
    PUBLIC_IPV4_HOURLY_USD,
    SAME_IN,
    TABLE_AS_OF,
    VOLUME_GIB_MONTH_USD,
    table_price,
)
from shared.compute.ec2.settings import PriceSource
from shared.compute.port import ComputeError
from shared.log import get_logger

_log = get_logger(part="ec2")

LISTED_SECONDS = 86_400.0

RETRY = Backoff(first=60, factor=2, longest=3600)
"""After a call for prices that failed."""

WAIT_SECONDS = 8.0
"""The longest wait of a launch for prices: it must be recorded within its own limit."""

NO_PRICE = (ComputeError, TimeoutError, LookupError, TypeError, ValueError)
"""Errors of a call that fails, takes too long, or has an unreadable answer."""

ALL_TYPES = "all types"


class Charges(Struct, frozen=True, kw_only=True):
    """The prices beside those of instances; None: not known."""

    public_ipv4_hourly_usd: float | None = None
    volume_gib_month_usd: float | None = None

    def volume_gib_hourly_usd(self, at: datetime) -> float | None:
        """Return the price of a GiB for an hour in the month of *at*.

        A GiB-month is a GiB for all hours of that month: 744 in one with 31 days.
        https://repost.aws/knowledge-center/ebs-volume-charges, https://aws.amazon.com/ebs/pricing/
        """
        if self.volume_gib_month_usd is None:
            return None
        return self.volume_gib_month_usd / (24 * calendar.monthrange(at.year, at.month)[1])


class Resting:
    """Calls that failed are made again later each time. One warning for failures in a row."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries = 0
        self._until: datetime | None = None

    @property
    def rests(self) -> bool:
        """True until the next try is due."""
        return self._until is not None and self._clock.now() < self._until

    def fail(self, of: str, error: Exception, **more: str) -> None:
        """Rest; of calls that fail at the same time the first counts."""
        if self.rests:
            return
        self._tries += 1
        seconds = RETRY.delay(self._tries, random.random())
        self._until = self._clock.now() + timedelta(seconds=seconds)
        log = _log.warning if self._tries == 1 else _log.debug
        log("no price", of=of, error=str(error) or type(error).__name__, **more)

    def succeed(self) -> None:
        """Forget the failures."""
        self._tries, self._until = 0, None


class ListPrices:
    """The list prices of one region, cached. An unknown one is None; no caller fails for it."""

    def __init__(self, aws: Aws, clock: Clock, source: PriceSource) -> None:
        self._aws = aws
        self._source = source
        self._cache = Cache(clock)
        self._resting = Resting(clock)
        self._known: dict[str, Any] = {}  # AWS's last answers
        self._uses_table = source in ("auto", "table")
        self._is_commercial = is_commercial(aws.region)
        self._some_tabled = False

    async def read_types(self, names: Iterable[str]) -> None:
        """Read the on-demand prices of these types, for `on_demand`."""
        await asyncio.gather(*(self._read(each, self._type_of(each)) for each in sorted(names)))

    def on_demand(self, name: str) -> float | None:
        """Return the on-demand price of an hour, as it was read last."""
        usd: float | None = self._known.get(name)
        return self._tabled(name) if usd is None else usd

    async def read_all_types(self, names: Iterable[str]) -> Mapping[str, float | None]:
        """Read the on-demand prices of all types of the region."""
        await self._read(ALL_TYPES, self._all_types, wait_seconds=None)
        listed: Mapping[str, float] = self._known.get(ALL_TYPES, {})
        found = {each: listed.get(each, self._tabled(each)) for each in names}
        self._some_tabled = any(
            usd is not None and name not in listed for name, usd in found.items()
        )
        return found

    def table_as_of(self) -> str | None:
        """Return the date of the table, if a price of the last `read_all_types` is from there."""
        return TABLE_AS_OF if self._some_tabled else None

    async def charges(self) -> Charges:
        """Read the prices beside those of instances."""
        await asyncio.gather(
            self._read(PUBLIC_IPV4, self._public_ipv4), self._read(VOLUME, self._volume)
        )
        address, volume = self._known.get(PUBLIC_IPV4), self._known.get(VOLUME)
        if self._uses_table and address is None and self._is_commercial:
            address = PUBLIC_IPV4_HOURLY_USD
        if self._uses_table and volume is None:
            volume = VOLUME_GIB_MONTH_USD.get(self._aws.region)
        return Charges(public_ipv4_hourly_usd=address, volume_gib_month_usd=volume)

    def _tabled(self, name: str) -> float | None:
        return table_price(name, self._aws.region) if self._uses_table else None

    async def _read(
        self,
        name: str,
        ask: Callable[[], Coroutine[Any, Any, Any]],
        wait_seconds: float | None = WAIT_SECONDS,
    ) -> None:
        """Ask AWS if that is due; a caller that stops waiting finds the answer next time."""
        if self._source not in ("auto", "api") or self._resting.rests:
            return

        async def read() -> None:
            try:
                found = await ask()
            except NO_PRICE as error:
                table = TABLE_AS_OF if self._uses_table and self._aws.region in SAME_IN else "none"
                self._resting.fail(name, error, table_as_of=table)
                raise
            self._known[name] = found
            self._resting.succeed()

        try:
            async with asyncio.timeout(wait_seconds):
                await self._cache.get(name, LISTED_SECONDS, read)
        except NO_PRICE:
            return  # the former answer holds

    def _type_of(self, name: str) -> Callable[[], Coroutine[Any, Any, float | None]]:
        async def ask() -> float | None:
            query = price_list_query(self._aws.region, instanceType=name)
            return read_price_list(await self._products(query)).get(name)

        return ask

    async def _all_types(self) -> dict[str, float]:
        return read_price_list(await self._products(price_list_query(self._aws.region)))

    async def _public_ipv4(self) -> float | None:
        return read_usage(await self._products(public_ipv4_query(self._aws.region)), PUBLIC_IPV4)

    async def _volume(self) -> float | None:
        return read_usage(await self._products(volume_query(self._aws.region)), VOLUME)

    async def _products(self, query: dict[str, Any]) -> Any:
        return await self._aws.read_all("GetProducts", "PriceList", service="pricing", **query)
