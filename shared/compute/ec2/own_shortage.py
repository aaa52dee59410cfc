"""Pools that are short of what the deployment can give: a higher price, more addresses.

To other pools it is as a lack of capacity: they are tried, and this one rests. But where each pool
lacks only that, EC2 has capacity, and an operator can change it.
"""

from collections.abc import Sequence

from shared.compute.port import ComputeError, NoCapacity


def own_shortage(errors: Sequence[ComputeError], where: str) -> NoCapacity | None:
    """Return the error of pools, *where*, that all are short of that; None: they are not."""
    if not errors or not all(each.change for each in errors):
        return None
    first = {each.change: each for each in reversed(errors)}
    changes = sorted(first)
    short = NoCapacity(f"no instance {where}: {'; '.join(str(first[each]) for each in changes)}")
    short.change = "; ".join(changes)
    return short
