"""The inputs of every part of a run, and its results."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.baseline import Baseline
from bench.peer import Peer
from bench.report import Figure
from bench.servers import Servers


@dataclass
class Run:
    """One run of several: a *quick* one is small, for development."""

    servers: Servers
    quick: bool
    number: int = 1
    baseline: Baseline | None = None
    peer: Peer | None = None
    figures: list[Figure] = field(default_factory=list)
    lateness: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    def log(self, text: str) -> None:
        """Print progress on standard error."""
        elapsed = time.monotonic() - self.begun
        print(f"run {self.number}, {elapsed:6.1f} s  {text}", file=sys.stderr, flush=True)

    def add(self, *figures: Figure) -> None:
        """Add *figures*, and log them."""
        for each in figures:
            self.figures.append(each)
            bound = "" if each.ratio is None else f" ({each.ratio:.2f} of {each.ceiling.name})"  # type: ignore[union-attr]
            self.log(f"{each.part}: {each.name}: {each.value:,.4g} {each.unit}{bound}")

    def keep_peaks(self, peaks: dict[str, int]) -> None:
        """Keep the peak memory of each process over all parts."""
        for name, held in peaks.items():
            self.peak_bytes[name] = max(held, self.peak_bytes.get(name, 0))

    def pick(self, whole: float, quick: float) -> float:
        """Return the size for this run."""
        return quick if self.quick else whole


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
