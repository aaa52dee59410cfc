"""Programs of a machine, for instances that are none: `shutdown`, `systemctl` and their kin.

One file under many names (its first argument), called by scripts in the instance's `bin/`. What
would touch the machine underneath (its power, services, packet filter, packages) is written on the
console instead, and only the power has an effect: on the instance.
"""

from __future__ import annotations

import os
import signal
import sys
import time


def main(name: str, arguments: list[str]) -> int:
    """What the program *name* does."""
    if name == "shutdown":
        return shutdown(arguments)
    if name in {"poweroff", "halt"} or (
        name == "systemctl" and set(arguments) & {"poweroff", "halt"}
    ):
        return power_off_in(0.0)
    if name in {"iptables", "ip6tables"} and {"-C", "--check"} & set(arguments):
        return 1  # no such rule yet, so that whoever wants it adds it
    log(" ".join([name, *arguments]))
    return notify_boot()


def shutdown(arguments: list[str]) -> int:
    """`shutdown [-h|-P|-H] now|+MINUTES`, and `-c`."""
    if "-c" in arguments:
        try:
            os.unlink(here("power"))
        except OSError:
            pass
        return notify_boot()
    when = [each for each in arguments if not each.startswith("-")][:1] or ["+1"]
    if when[0] == "now":
        return power_off_in(0.0)
    try:
        return power_off_in(float(when[0].lstrip("+")) * 60)
    except ValueError:
        log("shutdown: cannot read the time " + when[0])
        return 1


def power_off_in(seconds: float) -> int:
    """The machine is off after so long; an earlier plan is replaced, as systemd does it."""
    log(f"power off in {seconds:g} s")
    with open(here("power.new"), "w") as file:
        file.write(repr(time.time() + seconds))
    os.replace(here("power.new"), here("power"))
    return notify_boot()


def notify_boot() -> int:
    """Have the first process look again. A machine without one is off: nothing goes on running."""
    try:
        with open(here("pid")) as file:
            os.kill(int(file.read()), signal.SIGUSR1)
    except (OSError, ValueError):
        os.kill(os.getppid(), signal.SIGKILL)
    return 0


def here(name: str) -> str:
    """A file of this instance."""
    return os.path.join(os.environ["REHEARSAL_MACHINE"], name)


def log(text: str) -> None:
    """A line on the console."""
    try:
        with open(here("console"), "a") as file:
            file.write(text + "\n")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
