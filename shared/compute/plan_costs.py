"""The part of the compute port that estimates a plan before its launch, for the quotas."""

from collections.abc import Mapping
from typing import Any, Protocol

from shared.events.requirements import Resources


class HasPlanCosts(Protocol):
    """A compute that can name what instances of a plan have, and the most that one costs."""

    def vcpus_of(self, plan: dict[str, Any], resources: Resources) -> Mapping[str, int]:
        """Return the vCPUs of an instance by its type, for all types of *plan*."""
        ...

    async def highest_price_of(self, plan: dict[str, Any], resources: Resources) -> float | None:
        """Return the most that an hour of an instance of *plan* costs now, in USD.

        With its address and its volume, as far as their prices are known. None: its own price is
        not known. Raises a `ComputeError`.
        """
        ...
