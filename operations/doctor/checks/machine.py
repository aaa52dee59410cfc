"""This machine, where instances are containers or processes of it."""

import os
import shutil
from pathlib import Path

from operations.doctor.installation import Installation
from shared.compute.docker.engine import DEFAULT_HOST, EngineApi
from shared.compute.port import ComputeError
from shared.findings import Finding, FindingGroup

GROUP = "machine"
FEW_GIB = 5.0
KINDS = {
    "docker": "instances are containers of this machine's engine",
    "process": "instances are processes of this machine",
    "sim": "instances are simulated",
}


async def machine(installation: Installation) -> list[Finding]:
    """Check the engine and the disk."""
    found, scheme = FindingGroup(GROUP), installation.scheme
    known = KINDS.get(scheme)
    if known is None:
        do = "it must begin with ec2://, docker://, process:// or sim://"
        found.add("fail", "DOCKER_JOB_COMPUTE_URL", installation.compute_url, do)
        return found.all
    found.add("ok", "instances", f"{known} ({installation.compute_url})")
    if scheme == "sim":
        return found.all
    await _check_engine(found, installation)
    _check_disk(found, installation)
    return found.all


async def _check_engine(found: FindingGroup, installation: Installation) -> None:
    host = installation.engine or DEFAULT_HOST
    try:
        engine = EngineApi(host)
    except ValueError as error:
        found.add("fail", "Docker engine", str(error), "mend DOCKER_HOST")
        return
    try:
        shown = await engine.info()
    except ComputeError as error:
        needed = installation.scheme == "docker"
        do = "start Docker, or allow this user its socket"
        if not needed:
            do += "; without it jobs are simulated"
        found.add("fail" if needed else "warn", "Docker engine", f"{host}: {error}", do)
    else:
        gib = shown.memory_bytes / 2**30
        found.add("ok", "Docker engine", f"{host}: {shown.vcpus} CPUs, {gib:.1f} GiB of memory")
    finally:
        await engine.close()


def _check_disk(found: FindingGroup, installation: Installation) -> None:
    place = installation.data_dir
    while not place.exists():
        place = place.parent
    note_disk(found, shutil.disk_usage(place).free / 2**30, place)
    if installation.is_embedded and not (place.is_dir() and os.access(place, os.W_OK)):
        text = f"nothing can be written in {place}"
        found.add("fail", "data directory", text, "set DOCKER_JOB_DATA_DIR to another directory")


def note_disk(found: FindingGroup, free_gib: float, place: Path) -> None:
    """Note the free space of *place*."""
    text = f"{free_gib:.1f} GiB free in {place}"
    few = free_gib < FEW_GIB
    found.add("warn" if few else "ok", "disk", text, "free some: images and the database need it")
