"""Backoff between tries."""

from __future__ import annotations

import random

BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 10.0


def backoff_seconds(failures: int, chance: float) -> float:
    """Return the seconds to wait after so many failures (from 1); `chance` is in [0, 1).

    They double from 0.1 s up to 10 s. The upper half is random, so that agents which lost the API
    at the same time do not all call it again at the same time.
    """
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** min(failures - 1, 30))
    return float(ceiling * (0.5 + chance / 2))


def jitter() -> float:
    """Return the random part of a backoff, in [0, 1)."""
    return random.random()  # it keeps no secret
