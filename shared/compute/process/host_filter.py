"""This machine's packet filter, where we are allowed to change it: as root, and with nft."""

import asyncio
import os
import shutil
import subprocess

from shared.compute.packet_filter import RULES, Mode, PacketFilter

INSTALL_SECONDS = 5.0
REMEDY = (
    "nothing, if all jobs are your own: process:// is for one user's machine; else install nft and "
    "run docker-job as root, or use docker compose"
)


def host_filter(mode: Mode) -> PacketFilter:
    """Return this machine's packet filter."""

    async def install() -> str:
        return await asyncio.to_thread(_install)

    return PacketFilter(mode, install, REMEDY, alarms=False)


def _install() -> str:
    """Return the reason why it could not be installed, empty if it is."""
    nft = shutil.which("nft")
    if os.geteuid() != 0 or nft is None:
        return "this process is not root" if os.geteuid() != 0 else "there is no nft"
    try:
        done = subprocess.run(
            (nft, "-f", "-"),
            input=RULES.encode(),
            capture_output=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nft: {error}"
    return " ".join(done.stderr.decode(errors="replace").split())[:500] if done.returncode else ""
