"""The approximate monthly costs: the parts of template.yaml times AWS's list prices.

Prices are in USD, Linux, on demand, without tax, copied by hand from the pages in `SOURCES` at
`PRICED_AT`; a region or an instance type that is not in the tables is "not known", never guessed.
Job instances are not included: /status shows the cost of each job.
"""

from dataclasses import dataclass

PRICED_AT = "mid-2025"
HOURS = 730
LOG_GIB = 0.5
"""An estimate of the services' logs in a quiet month."""

SOURCES = {
    "instance": "https://aws.amazon.com/ec2/pricing/on-demand/",
    "disk": "https://aws.amazon.com/ebs/pricing/",
    "address": "https://aws.amazon.com/vpc/pricing/",
    "logs": "https://aws.amazon.com/cloudwatch/pricing/",
    "zone": "https://aws.amazon.com/route53/pricing/",
    "balancer": "https://aws.amazon.com/elasticloadbalancing/pricing/",
}

ADDRESS_HOUR = 0.005
ZONE_MONTH = 0.50


@dataclass(frozen=True)
class Prices:
    """A region's prices: hours of t4g.small and a balancer, GiB-months of disk, GiB of logs."""

    t4g_small: float | None = None
    gp3: float | None = None
    snapshot: float | None = None
    logs: float | None = None
    balancer: float | None = None


_US = Prices(t4g_small=0.0168, gp3=0.08, snapshot=0.05, logs=0.50, balancer=0.0225)
REGIONS = {
    "us-east-1": _US,
    "us-east-2": _US,
    "us-west-2": _US,
    "eu-west-1": Prices(0.0184, 0.088, 0.05, 0.57, 0.0252),
    "eu-central-1": Prices(0.0192, 0.0952, 0.054, 0.63, 0.027),
}

UNKNOWN = Prices()

TIMES_SMALL = {"t4g.micro": 0.5, "t4g.small": 1.0, "t4g.medium": 2.0, "t4g.large": 4.0}
"""Within the family a size costs twice the next smaller one."""


@dataclass(frozen=True)
class Line:
    """One part and its monthly price; None where it is not known."""

    part: str
    usd: float | None
    source: str


def monthly(
    region: str, instance_type: str, *, data_gib: int, root_gib: int, balancer: bool
) -> list[Line]:
    """Return the parts of a month's bill."""
    prices = REGIONS.get(region, UNKNOWN)
    times = TIMES_SMALL.get(instance_type)
    instance = _times(prices.t4g_small, times and times * HOURS)
    addresses = 3 if balancer else 1  # a load balancer has one in each of its zones, two at least
    lines = [
        Line(f"instance, {instance_type}, always on", instance, "instance"),
        Line(
            f"disks, gp3, {root_gib} + {data_gib} GiB",
            _times(prices.gp3, root_gib + data_gib),
            "disk",
        ),
        Line(
            f"snapshots, about {data_gib / 2:g} GiB kept",
            _times(prices.snapshot, data_gib / 2),
            "disk",
        ),
        Line(f"public IPv4 addresses, {addresses}", ADDRESS_HOUR * HOURS * addresses, "address"),
        Line(f"logs, about {LOG_GIB:g} GiB", _times(prices.logs, LOG_GIB), "logs"),
        Line("private DNS zone", ZONE_MONTH, "zone"),
    ]
    if balancer:
        lines.append(
            Line("load balancer, little traffic", _times(prices.balancer, HOURS), "balancer")
        )
    return lines


def _times(price: float | None, count: float | None) -> float | None:
    return None if price is None or count is None else price * count


def table(lines: list[Line]) -> str:
    """Format the lines with their sum."""
    known = [line.usd for line in lines if line.usd is not None]
    rows = [
        f"  {line.part:<42}{'not known' if line.usd is None else f'{line.usd:.2f}':>10}"
        for line in lines
    ]
    total = f"{sum(known):.2f}" + (" + not known" if len(known) < len(lines) else "")
    pages = sorted({SOURCES[line.source] for line in lines})
    return "\n".join(
        [
            "  USD a month, about (job instances not counted)",
            *rows,
            f"  {'total':<42}{total:>10}",
            f"  list prices of {PRICED_AT}; check them at:",
            *(f"    {page}" for page in pages),
        ]
    )
