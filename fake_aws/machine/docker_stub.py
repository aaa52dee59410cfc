"""A `docker` for instances without an engine: containers are simulated.

It knows version, info, login, pull, image inspect, create, start, attach, run, inspect, kill,
stop, wait, logs, rm and ps, and `system dial-stdio` (`engine_stub.py`). A simulated container
prints the command that it would have run, then follows its environment: SIMULATE_SECONDS
(duration), SIMULATE_OUTPUT and SIMULATE_ERROR (output), SIMULATE_EXIT_CODE. SIGTERM, and its own
stop signal, end it. A container gets a GPU only with --gpus (`hardware.py`). Its state is a file in
`docker/` of the instance.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import hardware  # type: ignore[import-not-found]  # from beside this file: python -I finds none

STEP_SECONDS = 0.02
# The options that take a value, of create and run.
VALUED = {
    *("--name", "--label", "-l", "--env", "-e", "--env-file", "--log-driver", "--log-opt"),
    *("--pull", "--pids-limit", "--memory", "-m", "--memory-swap", "--cpus"),
    *("--security-opt", "--cap-drop", "--cap-add", "--network", "--user", "-u"),
    *("--restart", "--stop-signal", "--stop-timeout", "--gpus", "--platform", "--ulimit"),
    *("--tmpfs", "--volume", "-v", "--mount", "--workdir", "-w", "--entrypoint"),
    *("--hostname", "-h", "--add-host", "--shm-size", "--cidfile"),
}


def main(arguments: list[str]) -> int:
    """Run one docker command; return its exit status."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("version", [])
    if command == "image" and rest[:1] == ["inspect"]:
        return 0
    if [command, *rest] == ["system", "dial-stdio"]:
        engine = os.path.join(os.path.dirname(os.path.abspath(__file__)), "engine_stub.py")
        os.execv(sys.executable, [sys.executable, "-I", "-S", engine])  # noqa: S606 - no shell wanted
    known: dict[str, Callable[[], int]] = {
        "create": lambda: output(create(rest)),
        "run": lambda: run(rest),
        "start": lambda: start(rest),
        "attach": lambda: attach(positional(rest)[-1]),
        "inspect": lambda: inspect(rest),
        "kill": lambda: kill(rest),
        "stop": lambda: kill(["--signal", "TERM", positional(rest)[-1]]),
        "wait": lambda: wait(positional(rest)[-1]),
        "logs": lambda: output(read(positional(rest)[-1]).get("output", "")),
        "rm": lambda: remove(positional(rest)),
        "ps": lambda: output("\n".join(sorted(os.listdir(home())))),
        "version": lambda: output("0.0-rehearsal"),
        "--version": lambda: output("Docker version 0.0-rehearsal"),
        "info": lambda: 0,
        "login": lambda: 0,
        "pull": lambda: output("Status: simulated, not pulled: " + positional(rest)[-1]),
    }
    if command not in known:
        return fail("unknown command: docker " + command)
    return known[command]()


def create(arguments: list[str]) -> str:
    """Record a container's settings in its file; return its name."""
    name = gpus = ""
    stop_signal = "SIGTERM"
    environment: dict[str, str] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option, _, value = rest.pop(0).partition("=")
        if option == "--":
            break
        if option in VALUED and not value:
            value = rest.pop(0)
        if option == "--name":
            name = value
        elif option == "--gpus":
            gpus = value
        elif option == "--stop-signal":
            stop_signal = value
        elif option in {"-e", "--env"}:
            key, _, given = value.partition("=")
            environment[key] = given
        elif option == "--env-file":
            with open(value, encoding="utf-8") as file:
                lines = file.read().splitlines()
            environment.update(dict(line.split("=", 1) for line in lines if "=" in line))
    name = name or f"simulated-{time.time_ns():x}"
    if os.path.exists(path(name)):
        sys.exit(fail(f"Conflict. The container name {name} is already in use"))
    state = {"Status": "created", "Running": False, "ExitCode": 0, "Error": "", "OOMKilled": False}
    container = {"state": state, "would_run": rest, "env": environment, "gpus": gpus}
    write(name, container | {"stop_signal": stop_signal})
    return name


def run(arguments: list[str]) -> int:
    """Create and start a container; with --rm also remove it."""
    detached = bool({"-d", "--detach"} & set(arguments))
    name = create(arguments)
    code = start([name] if detached else ["--attach", name])
    if detached:
        output(name)
    elif "--rm" in arguments:
        remove([name])
    return code


def start(arguments: list[str]) -> int:
    """Start its process in a session of its own; with --attach wait until it has ended."""
    name = positional(arguments)[-1]
    if missing := hardware.missing_gpus(read(name)["gpus"]):
        return fail(missing)
    process = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--simulate", name], start_new_session=True
    )
    if {"-a", "--attach"} & set(arguments):
        return process.wait()
    while read(name)["state"]["Status"] == "created" and process.poll() is None:
        time.sleep(STEP_SECONDS)
    return 0


def simulate(name: str) -> NoReturn:
    """Run as the container's process: print only its output."""
    container = read(name)
    for number in {signal.SIGTERM, number_of(container["stop_signal"])} - {signal.SIGKILL}:
        signal.signal(number, lambda number, _: end(name, 128 + number))
    container["state"].update(Status="running", Running=True)
    container["pid"] = os.getpid()  # only this process writes it, so there is no race
    write(name, container)
    environment = container["env"]
    output("simulated, not run: " + " ".join(container["would_run"]))
    if container["gpus"]:
        output("simulated GPUs: " + hardware.gpus_for(container["gpus"]))
    try:
        seconds = float(environment.get("SIMULATE_SECONDS") or 0)
        code = int(environment.get("SIMULATE_EXIT_CODE") or 0)
    except ValueError:
        seconds, code = 0.0, 2
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(max(0.0, min(60.0, deadline - time.monotonic())))
    if "SIMULATE_OUTPUT" in environment:
        output(environment["SIMULATE_OUTPUT"])
    if "SIMULATE_ERROR" in environment:
        os.write(2, environment["SIMULATE_ERROR"].encode() + b"\n")
    end(name, code)


def end(name: str, code: int) -> NoReturn:
    """Record the exit code and exit."""
    container = read(name)
    container["state"].update(Status="exited", Running=False, ExitCode=code)
    write(name, container)
    os._exit(code)


def attach(name: str) -> int:
    """Wait until it has ended; return its exit code."""
    while alive(read(name)):
        time.sleep(STEP_SECONDS)
    return int(read(name)["state"]["ExitCode"])


def wait(name: str) -> int:
    """Wait until it has ended, and print its exit code."""
    return output(str(attach(name)))


def inspect(arguments: list[str]) -> int:
    """Print its state, in the two formats that callers use."""
    container = read(positional(arguments)[-1])
    if container["state"]["Running"] and not alive(container):
        container["state"].update(Status="exited", Running=False, ExitCode=137)
    state = json.dumps(container["state"])
    return output(state if "{{json .State}}" in arguments else f'[{{"State":{state}}}]')


def kill(arguments: list[str]) -> int:
    """Send it a signal."""
    name = positional(arguments)[-1]
    given = "KILL"
    for option in ("-s", "--signal"):
        if option in arguments:
            given = arguments[arguments.index(option) + 1]
    container = read(name)
    if not alive(container):
        return fail(f"container {name} is not running")
    number = number_of(given)
    os.kill(container["pid"], number)
    if number == signal.SIGKILL:
        container["state"].update(Status="exited", Running=False, ExitCode=137)
        write(name, container)
    return 0


def number_of(given: str) -> int:
    """Return the number of a signal, by its name with or without SIG, or by its number."""
    if given.isdigit():
        return int(given)
    base, sign, more = re.match(r"([A-Z0-9]+?)(?:([+-])([0-9]+))?$", given).groups()  # type: ignore[union-attr]
    number = int(getattr(signal, base if base.startswith("SIG") else "SIG" + base))
    return number + int(f"{sign}{more}") if sign else number


def remove(names: list[str]) -> int:
    """Remove containers in any state."""
    for name in names:
        container = read(name)
        if alive(container):
            try:
                os.kill(container["pid"], signal.SIGKILL)
            except OSError:
                pass
        os.unlink(path(name))
        output(name)
    return 0


def alive(container: dict[str, Any]) -> bool:
    """Return True if its process runs."""
    try:
        os.kill(container["pid"], 0)
    except (OSError, KeyError):
        return False
    return bool(container["state"]["Running"])


def positional(arguments: list[str]) -> list[str]:
    """Return the arguments that are not options."""
    found: list[str] = []
    skip = False
    for each in arguments:
        if skip:
            skip = False
        elif each.startswith("-"):
            skip = each in {"-s", "--signal", "--format", "-f", "--type", "--time", "-t"} and not (
                each == "-f" and "--format" not in arguments and "{{" not in " ".join(arguments)
            )
        else:
            found.append(each)
    return found


def home() -> str:
    """Return the directory of the simulated containers."""
    directory = os.path.join(os.environ["REHEARSAL_MACHINE"], "docker")
    os.makedirs(directory, exist_ok=True)
    return directory


def path(name: str) -> str:
    """Return the path of a container's file."""
    return os.path.join(home(), os.path.basename(name))


def read(name: str) -> dict[str, Any]:
    """Read a container; exit where there is none."""
    try:
        with open(path(name), encoding="utf-8") as file:
            container: dict[str, Any] = json.load(file)
    except OSError:
        sys.exit(fail("No such container: " + name))
    return container


def write(name: str, container: dict[str, Any]) -> None:
    """Write a container's file atomically."""
    temporary = os.path.join(os.environ["REHEARSAL_MACHINE"], f"docker.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(container, file)
    os.replace(temporary, path(name))


def output(text: str) -> int:
    """Print unbuffered; return exit status 0."""
    if text:
        os.write(1, text.encode() + b"\n")
    return 0


def fail(text: str) -> int:
    """Print an error as docker's client does; return exit status 1."""
    os.write(2, ("Error response from daemon: " + text + "\n").encode())
    return 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--simulate"]:
        simulate(sys.argv[2])
    sys.exit(main(sys.argv[1:]))
