"""How long to wait before the next try."""

from __future__ import annotations

import random

BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 10.0


def backoff_seconds(failures: int, chance: float) -> float:
    """How long to wait after so many failures (from 1); `chance` in [0, 1) is the jitter.

    Doubles from 0.1 s up to 10 s, of which the upper half is left to chance, so that many agents
    which lost the API at one moment do not come back at one moment.
    """
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** min(failures - 1, 30))
    return float(ceiling * (0.5 + chance / 2))


def jitter() -> float:
    """The chance in a backoff."""
    return random.random()  # it keeps no secret
