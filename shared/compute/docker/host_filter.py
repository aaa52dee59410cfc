"""The host's packet filter, installed by a container that lives for a second.

It runs the instances' image, which has nft, in the host's network with the one right that needs.
"""

import asyncio
import contextlib
import time
import uuid
from typing import Any

from shared.compute.docker.container import LABEL, DockerSettings
from shared.compute.docker.engine import EngineApi
from shared.compute.packet_filter import RULES, PacketFilter
from shared.compute.port import ComputeError

INSTALL_SECONDS = 8.0
REMOVE_SECONDS = 4.0
LEFT_BEHIND_SECONDS = 60.0
REMEDY = (
    "load the kernel's module (modprobe nf_tables nft_fib_inet) and build the instances' image of "
    "this release; DOCKER_JOB_PACKET_FILTER=off accepts it, =require launches nothing until then"
)


def host_filter(engine: EngineApi, deployment: str, settings: DockerSettings) -> PacketFilter:
    """Return the packet filter of the engine's host."""

    async def install() -> str:
        return await _install(engine, deployment, settings.image)

    mode = settings.shared_engine.packet_filter
    return PacketFilter(mode, install, REMEDY, alarms=True)


async def _install(engine: EngineApi, deployment: str, image: str) -> str:
    """Return the reason why it could not be installed, empty if it is."""
    label = f"{LABEL}packet-filter"
    name = f"docker-job-packet-filter-{uuid.uuid4().hex[:12]}"
    try:
        async with asyncio.timeout(INSTALL_SECONDS):
            await _remove_left_behind(engine, f"{label}={deployment}")
            await engine.create(name, container_of_filter(image, {label: deployment}))
            await engine.start(name)
            if await engine.wait(name) == 0:
                return ""
            return text_of(await engine.last_errors(name)) or "nft failed without a word"
    except ComputeError as error:
        return str(error)
    except TimeoutError:
        return f"its container did not end within {INSTALL_SECONDS:g} s"
    finally:
        with contextlib.suppress(ComputeError, TimeoutError):
            async with asyncio.timeout(REMOVE_SECONDS):
                await engine.remove(name, force=True)


async def _remove_left_behind(engine: EngineApi, label: str) -> None:
    """Remove those whose launcher was killed before it could."""
    for each in await engine.containers(label):
        if each.created < time.time() - LEFT_BEHIND_SECONDS:
            await engine.remove(each.id, force=True)


def container_of_filter(image: str, labels: dict[str, str]) -> dict[str, Any]:
    """Build the body of the engine's create call."""
    return {
        "Image": image,
        "Entrypoint": ["nft"],
        "Cmd": [RULES],
        "User": "0:0",
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": "host",
            "UsernsMode": "host",  # an engine that maps users refuses the host's network otherwise
            "CapDrop": ["ALL"],
            "CapAdd": ["NET_ADMIN"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Memory": 64 * 1024 * 1024,
            "PidsLimit": 16,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        },
    }


def text_of(frames: bytes) -> str:
    """Return the text in a log stream's frames, each after a header of 8 bytes, in one line."""
    text = b""
    while len(frames) > 8:
        end = 8 + int.from_bytes(frames[4:8], "big")
        text, frames = text + frames[8:end], frames[end:]
    return " ".join(text.decode("utf-8", "replace").split())[:500]
