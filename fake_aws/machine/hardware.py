"""The instance's hardware, as its simulated container engine sees it."""

from __future__ import annotations

import os

EVERY = ("-1", "all")


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gpus() -> int | None:
    """Return the number of NVIDIA GPUs with a driver; None where the image has no toolkit."""
    try:
        with open(os.path.join(os.environ["REHEARSAL_MACHINE"], "gpus"), encoding="utf-8") as file:
            return int(file.read())
    except OSError:
        return None


def gpus_for(wanted: str) -> str:
    """Return how many GPUs a container with `--gpus` *wanted* gets."""
    return str(gpus()) if wanted in EVERY else wanted


def missing_gpus(wanted: str) -> str:
    """Return the engine's error for `--gpus` *wanted*; empty if they are there, or none is wanted.

    https://docs.docker.com/engine/containers/gpu/
    """
    there = gpus()
    if not wanted:
        return ""
    if there is None:
        return 'could not select device driver "" with capabilities: [[gpu]]'
    if not there:
        return "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown"
    if wanted not in EVERY and int(wanted) > there:
        return f"nvidia-container-cli: device error: {there}: unknown device: unknown"
    return ""
