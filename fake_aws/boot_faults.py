"""Boots that fail, on command: of an image, a network or an account that is set up wrong.

Before an instance runs EC2 terminates it while it is pending, with its reason:

- "client_error": as if its encrypted volume's KMS key could not be used: `Client.InternalError`.
- "server_error": a fault of AWS, `Server.InternalError`.
- "volume_limit": the account has its most EBS volumes or storage: `Client.VolumeLimitExceeded`.
- "no_snapshot": its image's snapshot is gone: `Client.InvalidSnapshot.NotFound`.
- "scheduled_stop": AWS retires its host: `Server.ScheduledStop`.
- "no_host": the capacity is gone meanwhile: `Server.InsufficientInstanceCapacity`.
- "new_code": a code that no document has.
  https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
  https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html

When it boots:

- "kernel_panic": nothing runs, and the console has only the kernel's text.
- "power_off": the machine powers itself off before its user data runs, and its last line is
  printed then: what EC2 has posted until then is without it.
- "no_network": the user data runs, and no URL in it is reached.
- "no_python": the user data runs on an image without Python.

A fault may be of one zone or of one instance type alone: a subnet without a route, a driver that
the image does not have.
"""

import re
from pathlib import Path
from typing import Literal

import msgspec

Pending = Literal[
    "client_error",
    "server_error",
    "volume_limit",
    "no_snapshot",
    "scheduled_stop",
    "no_host",
    "new_code",
]
Kind = Pending | Literal["kernel_panic", "power_off", "no_network", "no_python"]
PENDING: dict[str, tuple[str, str]] = {
    "client_error": ("Client.InternalError", "Client error on launch"),
    "server_error": ("Server.InternalError", "Internal error on launch"),
    "volume_limit": ("Client.VolumeLimitExceeded", "Volume limit exceeded"),
    "no_snapshot": ("Client.InvalidSnapshot.NotFound", "The snapshot does not exist"),
    "scheduled_stop": ("Server.ScheduledStop", "Stopped due to a scheduled retirement"),
    "no_host": ("Server.InsufficientInstanceCapacity", "Insufficient capacity"),
    "new_code": ("Client.SomethingNew", "Nobody knows"),
}
"""State reasons of those that end an instance while it is pending."""

WITHOUT_MACHINE = frozenset({"kernel_panic", "power_off"})
KERNEL = "[    0.000000] Linux version 6.1.0-fake (gcc) #1 SMP\n"
CONSOLES = {
    "kernel_panic": KERNEL
    + "[    1.520301] VFS: Cannot open root device\n"
    + "[    1.523907] Kernel panic - not syncing: VFS: Unable to mount root fs\n",
    "power_off": KERNEL,
}
POWER_DOWN = "[    4.870144] reboot: Power down\n"
_HOST = re.compile(rb"https?://[^/\s'\"]+")
_NOWHERE = b"http://127.0.0.1:9"
_NO_PYTHON = "#!/bin/sh\necho 'sh: python3: command not found' >&2\nexit 127\n"


class BootFault(msgspec.Struct, kw_only=True):
    """A fault of the next boots, *times* of them; None: until it is disarmed.

    Of instances in *zone* alone, and of *instance_type*, if they are not empty.
    """

    kind: Kind
    times: int | None = 1
    zone: str = ""
    instance_type: str = ""
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

    def strike(self, instance_id: str, pool: tuple[str, str]) -> Kind | None:
        """Return the fault of a new instance of *pool*, or None; it meets no other later."""
        instance_type, zone = pool
        for fault in self.armed:
            if fault.zone not in ("", zone) or fault.instance_type not in ("", instance_type):
                continue
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
