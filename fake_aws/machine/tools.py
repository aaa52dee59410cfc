"""Programs of a machine, for instances that are not one: `shutdown`, `systemctl` and similar.

One file under many names (its first argument), called by scripts in the instance's `bin/`. A
command that would change the host (power, services, packet filter, packages) is printed on the
console instead; only power commands have an effect, on the instance.
"""

from __future__ import annotations

import os
import signal
import sys
import time


def main(name: str, arguments: list[str]) -> int:
    """Run the program *name*; return its exit status."""
    if name == "shutdown":
        return shutdown(arguments)
    if name in {"poweroff", "halt"} or (
        name == "systemctl" and set(arguments) & {"poweroff", "halt"}
    ):
        return power_off_in(0.0)
    if name in {"iptables", "ip6tables"} and {"-C", "--check"} & set(arguments):
        return 1  # no such rule yet, so that the caller adds it
    log(" ".join([name, *arguments]))
    return notify_boot()


def shutdown(arguments: list[str]) -> int:
    """Run `shutdown [-h|-P|-H] now|+MINUTES`, or `shutdown -c`."""
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
    """Schedule the power-off; it replaces an earlier one, as under systemd."""
    log(f"power off in {seconds:g} s")
    with open(here("power.new"), "w") as file:
        file.write(repr(time.time() + seconds))
    os.replace(here("power.new"), here("power"))
    return notify_boot()


def notify_boot() -> int:
    """Wake boot.py to read the files again; where it has ended, kill the caller."""
    try:
        with open(here("pid")) as file:
            os.kill(int(file.read()), signal.SIGUSR1)
    except (OSError, ValueError):
        os.kill(os.getppid(), signal.SIGKILL)
    return 0


def here(name: str) -> str:
    """Return the path of a file of this instance."""
    return os.path.join(os.environ["REHEARSAL_MACHINE"], name)


def log(text: str) -> None:
    """Write a line to the console."""
    try:
        with open(here("console"), "a") as file:
            file.write(text + "\n")
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
