"""Boots that fail, on command: of an image, a network or an account that is set up wrong.

Before an instance runs:

- "client_error": EC2 terminates it while it is pending, as if its encrypted volume's KMS key could
  not be used: `Client.InternalError`.
- "server_error": the same for a fault of AWS, `Server.InternalError`.
  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html

When it boots:

- "kernel_panic": nothing runs, and the console has only the kernel's text.
- "power_off": the machine powers itself off before its user data runs.
- "no_network": the user data runs, and no URL in it is reached.
- "no_python": the user data runs on an image without Python.
"""

import re
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal[
    "client_error", "server_error", "kernel_panic", "power_off", "no_network", "no_python"
]
PENDING: dict[str, tuple[str, str]] = {
    "client_error": ("Client.InternalError", "Client error on launch"),
    "server_error": ("Server.InternalError", "Internal error on launch"),
}
"""State reasons of those that end an instance while it is pending."""

WITHOUT_MACHINE = frozenset({"kernel_panic", "power_off"})
KERNEL = "[    0.000000] Linux version 6.1.0-fake (gcc) #1 SMP\n"
CONSOLES = {
    "kernel_panic": KERNEL
    + "[    1.520301] VFS: Cannot open root device\n"
    + "[    1.523907] Kernel panic - not syncing: VFS: Unable to mount root fs\n",
    "power_off": KERNEL + "[    4.870144] reboot: Power down\n",
}
_HOST = re.compile(rb"https?://[^/\s'\"]+")
_NOWHERE = b"http://127.0.0.1:9"
_NO_PYTHON = "#!/bin/sh\necho 'sh: python3: command not found' >&2\nexit 127\n"


class BootFault(msgspec.Struct, kw_only=True):
    """A fault of the next boots, *times* of them; None: until it is disarmed."""

    kind: Kind
    times: int | None = 1
    struck: int = 0


class BootFaults:
    """The faults of boots that are armed, and those that instances have met."""

    def __init__(self) -> None:
        self.armed: list[BootFault] = []
        self._met: dict[str, Kind] = {}

    def add(self, fault: BootFault) -> BootFault:
        """Arm *fault*."""
        self.armed.append(fault)
        return fault

    def clear(self) -> None:
        """Disarm every fault."""
        self.armed.clear()

    def strike(self, instance_id: str) -> Kind | None:
        """Return the fault of a new instance, or None; it meets no other later."""
        for fault in self.armed:
            if fault.times is None or fault.struck < fault.times:
                fault.struck += 1
                self._met[instance_id] = fault.kind
                return fault.kind
        return None

    def of(self, instance_id: str) -> Kind | None:
        """Return the fault that an instance has met."""
        return self._met.get(instance_id)


def spoil(home: Path, kind: Kind | None) -> None:
    """Change a machine's files so that its boot fails as *kind* demands."""
    if kind == "no_network":
        data = home / "user-data"
        data.write_bytes(_HOST.sub(_NOWHERE, data.read_bytes()))
    elif kind == "no_python":
        program = home / "bin" / "python3"
        program.write_text(_NO_PYTHON)
        program.chmod(0o755)
