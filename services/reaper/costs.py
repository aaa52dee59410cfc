"""The cost of an instance: itself, its public address and its volume. Pure. In USD."""

from collections.abc import Sequence

from services.reaper.model import Watched
from shared.compute.port import Instance
from shared.events.costs import UNKNOWN_PRICES, CostLines, OtherPrices

DIGITS = 6
"""Of each line, so that the lines add up to the cost as it is shown."""


def price_of(watched: Watched, instance: Instance) -> float | None:
    """Return the mean price over its life, if it changed since the launch; None: unknown.

    A cloud that does not name the market of an instance (some emulators) shows the other's price.
    """
    if instance.hourly_price_usd is None or instance.market != watched.market:
        # A cloud reports a price of 0 for a free instance. A row with 0 here is of an earlier
        # release, which recorded an unknown price as 0.
        return watched.hourly_price_usd or None
    return instance.hourly_price_usd or watched.hourly_price_usd or 0.0


def other_prices_of(watched: Watched, instance: Instance) -> OtherPrices:
    """Return the prices of its address and volume: those at the launch, or the cloud's."""
    launched, shown = watched.other_prices or UNKNOWN_PRICES, instance.other_prices
    return OtherPrices(
        public_ipv4_hourly_usd=_first(
            launched.public_ipv4_hourly_usd, shown.public_ipv4_hourly_usd
        ),
        volume_hourly_usd=_first(launched.volume_hourly_usd, shown.volume_hourly_usd),
    )


def decide_cost(
    hourly_price_usd: float | None,
    other: OtherPrices | None,
    billed_seconds: int,
    used_seconds: int,
) -> tuple[float | None, CostLines | None]:
    """Return the cost, and its lines; without *other*, that of the instance alone.

    An instance that EC2 interrupts in its first hour is not billed, and is used all the same: its
    address and its volume are.
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/billing-for-interrupted-spot-instances.html
    """
    instance_usd = _cost(hourly_price_usd, billed_seconds)
    if other is None:
        return instance_usd, None
    lines = CostLines(
        instance_usd=_rounded(instance_usd),
        public_ipv4_usd=_rounded(_cost(other.public_ipv4_hourly_usd, used_seconds)),
        volume_usd=_rounded(_cost(other.volume_hourly_usd, used_seconds)),
    )
    return _sum((lines.instance_usd, lines.public_ipv4_usd, lines.volume_usd)), lines


def _cost(hourly_price_usd: float | None, seconds: int) -> float | None:
    """Return the cost in USD; None if the price is unknown and something is billed."""
    if seconds == 0:
        return 0.0
    return None if hourly_price_usd is None else hourly_price_usd * seconds / 3600


def _sum(amounts: Sequence[float | None]) -> float | None:
    known = [each for each in amounts if each is not None]
    return _rounded(sum(known)) if len(known) == len(amounts) else None


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, DIGITS)


def _first(one: float | None, other: float | None) -> float | None:
    return other if one is None else one
