#!/usr/bin/env python3
"""The docker-job agent: runs one attempt of one job on one instance, and is gone.

It is the only program of ours on an instance, and the same for every compute adapter. What it and
the API say to each other is in docs/agent-protocol.md; how it is started and what it leaves behind
is in agent/README.md.

The story, top to bottom:

1. take the instance (a lock), then arm the maximum lifetime, before anything that could hang;
2. claim the attempt: the answer is the job (or "wait": the container before it may still run);
3. pull the image and run the container, while helpers report, beat and watch for the spot notice;
4. stop the container if there is a cause (attempt over, time limit, interruption, SIGTERM);
5. send the last logs, then the last word, again and again until it is heard; end, or power off.

One thread, the main one, decides everything; helper threads only observe and tell (see
`Situation`). This file is longer than our 300 lines because it must be one file: it is copied to
the instance as it is. It needs the standard library of Python 3.9 or newer, nothing else, and
imports nothing of ours.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import fcntl
import hashlib
import hmac
import json
import math
import os
import queue
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import datetime, timedelta, timezone
from typing import IO, Any, NamedTuple, NoReturn

EXIT_ENDED = 0
EXIT_INSTANCE_TAKEN = 75  # EX_TEMPFAIL: another agent holds this instance directory
EXIT_BAD_CONFIGURATION = 78  # EX_CONFIG

PREFIX = "DOCKER_JOB_"
EC2_METADATA_URL = "http://169.254.169.254"

API_TIMEOUT_SECONDS = 10.0
METADATA_TIMEOUT_SECONDS = 2.0
ENGINE_PROBE_SECONDS = 3.0  # how long `auto` waits for a Docker engine to answer
ENGINE_CALL_SECONDS = 15.0  # one short docker command
CREATE_SECONDS = 120.0  # docker create may unpack layers
PULL_TRIES = 3
LOGIN_SECONDS = 60.0
KILL_SECONDS = 15.0  # from SIGKILL until we no longer wait to see the container gone
FLUSH_TRIES = 8  # last logs: answers that name no outage before the callback goes first
BACK_PRESSURE_SECONDS = 30.0  # how long an API that takes no reports may keep a container waiting
ROOM_LOOK_SECONDS = 1.0  # how often whoever waits for room looks whether its child has ended
IDLE_SECONDS = 3600.0
LAST_LINES_SECONDS = 10.0  # for the last lines and the exit code of an attempt that is over
LAST_RESORT_SECONDS = 30.0  # after the maximum lifetime: the kernel ends this process
BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 10.0
PROOF_SECONDS = 120.0  # how long one signed proof of identity is used; STS takes it for 15 minutes
PROOF_TRIES = 5  # a clock that is not set yet, a role that is not known everywhere yet
AWS_TRIES = 4
AWS_TIMEOUT_SECONDS = 10.0

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_LINE_CHARACTERS = 16 * 1024
MAX_BATCH_LINES = 1000
MAX_BATCH_BYTES = 128 * 1024
MAX_UNSENT_LINES = 100_000
MAX_UNSENT_BYTES = 4 * 1024 * 1024
READ_BYTES = 16 * 1024
OWN_STREAM = "docker-job"  # of the lines that are not the container's
MAX_ERROR_CHARACTERS = 8 * 1024
PIDS_LIMIT = 4096

# docker reads env files with Go's bufio.Scanner, whose lines end at 64 KiB
# (docker/cli, pkg/kvfile; tried on 28.2: 70,000 bytes give "token too long").
MAX_ENV_LINE_BYTES = 65_000
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*")

ECR_REGISTRY = re.compile(r"[0-9]{12}\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")

# What a registry says when asking again cannot help.
PULL_REFUSALS = ("not found", "manifest unknown", "denied", "unauthorized", "invalid reference")

# The causes for which a container is stopped before it ends by itself.
OVER = "over"
TERMINATED = "terminated"
TIMED_OUT = "timed out"
INTERRUPTED = "interrupted"


# --- values --------------------------------------------------------------------------------------


class Config(NamedTuple):
    """What the environment told us. Holds no secret: the bootstrap token is taken out before."""

    api_url: str
    job_id: int  # 0 until the claim has told, where the instance shows who it is by its role
    attempt: int
    instance_id: str
    deployment: str
    runtime: str
    metadata_url: str | None
    terminate_grace_seconds: float
    identity: str = "token"


class Bounds(NamedTuple):
    """What must hold even if the rest of the configuration is broken."""

    max_lifetime_seconds: float
    power_off: bool
    instance_dir: str | None


class Settings(NamedTuple):
    """How to supervise, as the API says with the job; all `_seconds` are seconds."""

    heartbeat_seconds: float = 5.0
    stop_grace_seconds: float = 10.0
    interruption_margin_seconds: float = 30.0
    metadata_poll_seconds: float = 5.0
    log_batch_seconds: float = 1.0
    log_limit_bytes: int = 1024 * 1024
    error_tail_lines: int = 20
    pull_timeout_seconds: float = 3600.0
    pull_silence_seconds: float = 900.0


class Login(NamedTuple):
    """What a registry asks for. Never logged, never an argument."""

    username: str
    password: str


class Job(NamedTuple):
    """What to run."""

    image: str
    command: list[str]
    env: dict[str, str]
    timeout_seconds: float | None
    secrets: dict[str, str] | None = None  # name of a variable -> where its value is kept
    registry_auth: str | None = None
    login: Login | None = None
    gpus: int = 0
    entrypoint: list[str] | None = None  # None: the image's own

    def entrypoint_options(self) -> list[str]:
        """The option that replaces the image's entrypoint, which takes the program alone."""
        return [] if self.entrypoint is None else ["--entrypoint", "".join(self.entrypoint[:1])]

    def arguments(self) -> list[str]:
        """What follows the image: the rest of the entrypoint, then the command."""
        return [*(self.entrypoint or [])[1:], *self.command]


class Notice(NamedTuple):
    """A spot interruption notice."""

    action: str
    at: datetime


class Line(NamedTuple):
    """One line that the container printed; `at` is ISO 8601 in UTC."""

    at: str
    stream: str
    text: str


class Outcome(NamedTuple):
    """How the container ended. `exit_code` is None if it never ran or nobody can say."""

    exit_code: int | None
    note: str = ""
    stopped: bool = True  # False: we could not make sure that it runs no more
    pull: str = ""  # "failed" or "refused" (asking again cannot help) if there was no image to run


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    text: str

    def json(self) -> object:
        """The body as JSON, None if it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


class ConfigError(Exception):
    """The environment does not say what it must."""


class CouldNotRunError(Exception):
    """The container could not be made to run; the text is for the job's owner."""


class PullFailedError(CouldNotRunError):
    """The image could not be had; `for_good` if asking again cannot help."""

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


class AwsError(Exception):
    """An AWS call was refused or not answered; the text names the error and holds no secret."""

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


class StoppedBeforeRunningError(Exception):
    """A cause to stop came while the container did not run yet."""


class UnreachableError(Exception):
    """No HTTP answer came: refused, reset, timed out, or not HTTP."""


class Terminated(BaseException):  # like KeyboardInterrupt: no error, and nothing may swallow it
    """SIGTERM came while no container could exist: end at once."""


# --- reading the environment ---------------------------------------------------------------------


def take_bootstrap_token(environment: MutableMapping[str, str]) -> str:
    """Return the bootstrap token and take it out of `environment`, so that no child inherits it."""
    return environment.pop(PREFIX + "BOOTSTRAP_TOKEN", "")


def read_bounds(environment: Mapping[str, str]) -> Bounds:
    """Read lifetime, power-off mode and directory; a broken lifetime becomes one hour."""
    try:
        lifetime = float(environment[PREFIX + "MAX_LIFETIME_SECONDS"])
    except (KeyError, ValueError):
        lifetime = math.nan
    if not (lifetime > 0 and math.isfinite(lifetime)):
        lifetime = 3600.0
    power_off = environment.get(PREFIX + "POWER_OFF", "exit") == "shutdown"
    return Bounds(lifetime, power_off, environment.get(PREFIX + "INSTANCE_DIR") or None)


def read_config(environment: Mapping[str, str]) -> Config:
    """Read the rest of the environment; raises ConfigError that names the variable."""

    def required(name: str) -> str:
        value = environment.get(PREFIX + name, "")
        if not value:
            raise ConfigError(f"{PREFIX}{name} is not set")
        return value

    def number(name: str, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise ConfigError(f"{PREFIX}{name} is not a number") from None

    runtime = environment.get(PREFIX + "RUNTIME") or "auto"
    if runtime not in ("docker", "simulated", "auto"):
        raise ConfigError(f"{PREFIX}RUNTIME is none of docker, simulated, auto")
    required("MAX_LIFETIME_SECONDS")
    identity = environment.get(PREFIX + "IDENTITY") or "token"
    if identity not in ("token", "sts"):
        raise ConfigError(f"{PREFIX}IDENTITY is none of token, sts")
    named = identity == "token"  # else the instance's role says who it is, and the claim the rest
    grace = environment.get(PREFIX + "TERMINATE_GRACE_SECONDS") or "5"
    return Config(
        api_url=required("API_URL"),
        job_id=int(number("JOB_ID", required("JOB_ID"))) if named else 0,
        attempt=int(number("ATTEMPT", required("ATTEMPT"))) if named else 0,
        instance_id=required("INSTANCE_ID") if named else "",
        deployment=environment.get(PREFIX + "DEPLOYMENT", "") if named else required("DEPLOYMENT"),
        runtime=runtime,
        metadata_url=read_metadata_url(environment),
        terminate_grace_seconds=number("TERMINATE_GRACE_SECONDS", grace),
        identity=identity,
    )


def read_metadata_url(environment: Mapping[str, str]) -> str | None:
    """Where the instance metadata service answers, or None if nothing says that there is one."""
    if environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        return environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
    on_ec2 = environment.get(PREFIX + "METADATA") == "ec2"
    return EC2_METADATA_URL if on_ec2 or environment.get(PREFIX + "IDENTITY") == "sts" else None


def environment_for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """What the docker client may inherit: everything but what is ours."""
    return {name: value for name, value in environment.items() if not name.startswith(PREFIX)}


# --- pure parts ----------------------------------------------------------------------------------


def backoff_seconds(failures: int, chance: float) -> float:
    """How long to wait after so many failures (from 1); `chance` in [0, 1) is the jitter.

    Doubles from 0.1 s up to 10 s, of which the upper half is left to chance, so that many agents
    which lost the API at one moment do not come back at one moment.
    """
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2 ** min(failures - 1, 30))
    return float(ceiling * (0.5 + chance / 2))


def jitter() -> float:
    """The chance in a backoff."""
    return random.random()  # it keeps no secret


def is_heard(status: int) -> bool:
    """Whether an answer of this status is the API's word, or only a reason to ask again."""
    return status < 500 and status not in (408, 425, 429)


def is_outage(status: int) -> bool:
    """Whether an answer says that the API cannot work now, so that no other call would be heard."""
    return status in (408, 425, 429, 502, 503, 504)


def is_over(status: int) -> bool:
    """Whether the API says that this attempt, or our token, counts no more."""
    return status in (401, 403, 409)


def read_over(answer: object) -> tuple[str | None, bool]:
    """What the attempt ended for, and whether lines or exit code were kept nevertheless.

    Without a cause nothing is kept: the token counts no more.
    """
    body: dict[str, Any] = answer if isinstance(answer, dict) else {}
    cause = body.get("cause")
    return (cause if isinstance(cause, str) else None), body.get("kept") is True


def read_claim(answer: object) -> tuple[Job, Settings]:
    """The job and the settings out of a claim's answer; raises CouldNotRunError."""
    try:
        body: Any = answer
        job = body["job"]
        timeout = job.get("timeout_seconds")
        return (
            Job(
                image=str(job["docker_image"]),
                command=[str(part) for part in job.get("command") or []],
                env={**read_texts(job.get("env_vars")), **read_texts(job.get("secret_env"))},
                timeout_seconds=None if timeout is None else float(timeout),
                secrets=read_texts(job.get("secrets")) or None,
                registry_auth=job.get("registry_auth"),
                gpus=int(job.get("gpus") or 0),
                entrypoint=read_entrypoint(job.get("entrypoint")),
            ),
            read_settings(body.get("settings") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CouldNotRunError("the agent could not read its job from the API's answer") from None


def read_entrypoint(given: list[Any] | None) -> list[str] | None:
    """An array of texts; absent is None."""
    return None if given is None else [str(part) for part in given]


def read_texts(given: Mapping[str, Any] | None) -> dict[str, str]:
    """An object of texts; absent is empty."""
    return {str(name): str(value) for name, value in (given or {}).items()}


def read_wait(answer: object) -> float:
    """How soon to ask again, as the API says; a second where it does not."""
    try:
        body: Any = answer
        return min(60.0, max(0.05, float(body["retry_seconds"])))
    except (KeyError, TypeError, ValueError):
        return 1.0


def read_login(text: str) -> Login:
    """A registry's login as a secret holds it: `{"username": …, "password": …}` or `user:password`.

    Raises CouldNotRunError, which does not quote it.
    """
    try:
        body: Any = json.loads(text)
        return Login(str(body["username"]), str(body["password"]))
    except (ValueError, KeyError, TypeError):
        username, colon, password = text.partition(":")
    if not (username and colon and password) or "{" in username:
        raise CouldNotRunError(
            'the secret of registry_auth must be {"username": …, "password": …} or user:password'
        )
    return Login(username, password)


def registry_of(image: str) -> str | None:
    """The registry's host that an image reference names; None is Docker Hub."""
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else None


def read_settings(given: Mapping[str, Any]) -> Settings:
    """The settings that we know of those given; senseless numbers keep their defaults."""
    known = {
        name: type(default)(given[name])
        for name, default in Settings()._asdict().items()
        if isinstance(given.get(name), (int, float)) and given[name] >= 0
    }
    settings = Settings(**known)
    return settings._replace(  # never a busy loop, whatever is given
        heartbeat_seconds=max(0.05, settings.heartbeat_seconds),
        metadata_poll_seconds=max(0.05, settings.metadata_poll_seconds),
    )


def check_job(job: Job) -> None:
    """Raise CouldNotRunError, naming what is wrong, if the job must not get near a command line."""
    if not IMAGE.fullmatch(job.image):
        raise CouldNotRunError(f"{job.image!r} is not an image reference")
    if any("\0" in part for part in [*(job.entrypoint or []), *job.command]):
        raise CouldNotRunError("the command contains a NUL character")
    for name, value in job.env.items():
        if not ENV_NAME.fullmatch(name):
            raise CouldNotRunError(f"{name!r} does not name an environment variable")
        if "\n" in value or "\0" in value:
            raise CouldNotRunError(f"the value of {name} contains a newline or a NUL character")


def render_env_file(env: Mapping[str, str]) -> bytes:
    r"""The env file through which docker hands every value over verbatim.

    docker takes all after the first `=` as it is: quotes, `#`, spaces and backslashes mean nothing.
    But its line reader drops one `\r` before the newline, so a value that ends in `\r` gets one to
    lose; and a name without `=` would mean "take it from the client's environment", so `=` is
    always there.
    """
    lines = []
    for name, value in env.items():
        try:
            line = f"{name}={value}".encode()
        except UnicodeEncodeError:
            raise CouldNotRunError(f"the value of {name} is not valid Unicode") from None
        if len(line) > MAX_ENV_LINE_BYTES:
            raise CouldNotRunError(f"the value of {name} is longer than {MAX_ENV_LINE_BYTES} bytes")
        lines.append(line + (b"\r\n" if line.endswith(b"\r") else b"\n"))
    return b"".join(lines)


def parse_notice(text: str, now: datetime) -> Notice | None:
    """The notice in the metadata's answer; one whose time is unreadable is due in two minutes.

    The form is `{"action": "terminate", "time": "2017-09-18T08:22:00Z"}` (EC2 user guide, "Spot
    Instance interruption notices"), and two minutes is what EC2 promises there.
    """
    try:
        body = json.loads(text)
        action = str(body["action"])
    except (ValueError, KeyError, TypeError):
        return None
    try:
        at = datetime.fromisoformat(str(body["time"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        at = now + timedelta(minutes=2)
    return Notice(action, at if at.tzinfo else at.replace(tzinfo=timezone.utc))


def seconds_until_stop(notice: Notice, margin_seconds: float, now: datetime) -> float:
    """How long the container may run on after a notice, never below zero."""
    return max(0.0, (notice.at - now).total_seconds() - margin_seconds)


def is_refusal(error: str) -> bool:
    """Whether a registry's error means that asking again cannot help."""
    return any(word in error.lower() for word in PULL_REFUSALS)


def error_message(tail: Iterable[str], outcome: Outcome) -> str:
    """What the job's owner reads: why it could not run, or the last lines that it printed."""
    text = "\n".join(tail).strip()[-MAX_ERROR_CHARACTERS:]
    if outcome.exit_code is None:  # an engine's error may quote a whole command
        return outcome.note[-MAX_ERROR_CHARACTERS:] or text or "the container could not run"
    text = text or f"exited with code {outcome.exit_code}"
    return f"{outcome.note}\n{text}" if outcome.note else text


def decide_last_word(
    cause: str | None, outcome: Outcome, tail: Iterable[str], timeout_seconds: float | None
) -> dict[str, Any] | None:
    """The body of the last callback; None if nobody waits for one.

    After an interruption "stopped" is a promise that a replacement may start its container, so we
    say nothing if we could not make sure; the cloud will confirm that the instance is gone.
    """
    if cause in (OVER, TERMINATED):
        return None
    if cause == TIMED_OUT:
        message = f"timed out after {timeout_seconds or 0:g} seconds"
        return {"failed": "", "error_message": message, "timed_out": True}
    if outcome.exit_code == 0:
        return {"exit_code": 0}
    code: dict[str, Any] = {} if outcome.exit_code is None else {"exit_code": outcome.exit_code}
    if outcome.pull:
        code["pull_failed"] = True
    if outcome.pull == "refused":
        code["for_good"] = True
    if not outcome.stopped:
        code["stopped"] = False  # another attempt must wait until the instance is gone
    if cause == INTERRUPTED:
        code.pop("pull_failed", None)
        code.pop("for_good", None)
        return {"schedule": "", "stopped": True, **code} if outcome.stopped else None
    return {"failed": "", "error_message": error_message(tail, outcome), **code}


def decide_exit_word(outcome: Outcome) -> dict[str, Any] | None:
    """The callback of an attempt that is over: how its container exited; None if unknown."""
    if outcome.exit_code is None or not outcome.stopped:
        return None
    if outcome.exit_code == 0:
        return {"exit_code": 0}
    return {"failed": "", "error_message": "stopped", "exit_code": outcome.exit_code}


def container_name(config: Config) -> str:
    """The container's name: the instance's, in the letters that docker allows."""
    return "docker-job-" + re.sub(r"[^A-Za-z0-9_.-]", "-", config.instance_id)


def container_options(config: Config, gpus: int = 0) -> list[str]:
    """The options of `docker create`, save the environment."""
    labels = {
        "deployment": config.deployment,
        "job": config.job_id,
        "attempt": config.attempt,
        "instance": config.instance_id,
    }
    options = ["--name", container_name(config)]
    for name, value in labels.items():
        options += ["--label", f"docker-job.{name}={value}"]
    # --init: most programs as PID 1 ignore SIGTERM; with an init they get it, and its exit code is
    # theirs.
    options += ["--init", "--security-opt", "no-new-privileges", "--pids-limit", str(PIDS_LIMIT)]
    if gpus:
        # As many as the job asked for, since the machine may have more and be for others too.
        # https://docs.docker.com/reference/cli/docker/container/run/#gpus
        options += ["--gpus", str(gpus)]
    # The lines go to the API; a second copy on the instance's disk could fill it.
    return [*options, "--log-driver", "none"]


def now_utc() -> datetime:
    """The wall clock, aware."""
    return datetime.now(timezone.utc)


# --- the agent's own log -------------------------------------------------------------------------


def log(event: str, **fields: object) -> None:
    """Write one JSON line to stderr. Callers pass no token, no env value, no container output.

    One `write` and no lock: the lifetime guard must be able to log while any other thread hangs.
    """
    line = json.dumps({"at": now_utc().isoformat(), "event": event, **fields}, default=str)
    with contextlib.suppress(OSError):  # nobody reads: no reason to stop a job
        os.write(2, line.encode() + b"\n")


# --- the instance: its directory, its maximum lifetime, its end ----------------------------------


class Home:
    """The instance's directory: proof of life for the compute adapter, and room for our files."""

    def __init__(self, directory: str | None) -> None:
        self._given = directory is not None
        self.path = directory or tempfile.mkdtemp(prefix="docker-job-")
        self._lock: int | None = None

    def take(self) -> bool:
        """Become the one agent of this directory; False if another is.

        The adapter knows that we live by this lock, so it stays open until the process ends, and no
        child inherits it (Python opens files close-on-exec).
        """
        if not self._given:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._lock = os.open(os.path.join(self.path, "alive.lock"), flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        self._write("pid", str(os.getpid()))
        return True

    def leave(self, reason: str) -> None:
        """Write down why we ended, or remove the directory if it was only ours."""
        with contextlib.suppress(OSError):  # a full disk must not keep the instance alive
            if self._given:
                self._write("ended", json.dumps({"at": now_utc().isoformat(), "reason": reason}))
            else:
                shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self.path, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)


def run_quietly(command: list[str], seconds: float) -> bool:
    """Run a command of the machine; False if it failed, is not there, or took too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def press_sysrq(path: str = "/proc/sysrq-trigger") -> bool:
    """Ask the kernel itself to power off: nothing is left that could refuse."""
    try:
        with open(path, "w", encoding="ascii") as trigger:
            trigger.write("o")
    except OSError:
        return False
    return True


def schedule_power_off(
    seconds: float, run: Callable[[list[str], float], bool] = run_quietly
) -> bool:
    """Have the machine power itself off at the maximum lifetime, whether we live or not."""
    return run(["shutdown", "-h", f"+{max(1, math.ceil(seconds / 60))}"], 30.0)


def power_off(
    run: Callable[[list[str], float], bool] = run_quietly,
    sysrq: Callable[[], bool] = press_sysrq,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Power the machine off, harder and harder. Returns only if nothing worked."""
    for command in (["shutdown", "-h", "now"], ["systemctl", "poweroff", "-ff"]):
        log("powering off", command=command)
        if run(command, 30.0):
            wait(60.0)  # if it works, this process does not see the end of the minute
    log("powering off", command="sysrq")
    if sysrq():
        wait(60.0)


class Ending:
    """The last act: leave a note, then end the process or power the machine off."""

    def __init__(self, home: Home, *, by_power_off: bool) -> None:
        self._home = home
        self._by_power_off = by_power_off

    def __call__(self, reason: str, code: int = EXIT_ENDED) -> NoReturn:
        """End now. `os._exit` because a hung helper thread must not hold the process."""
        log("ended", reason=reason)
        self._home.leave(reason)
        if self._by_power_off:
            power_off()
        os._exit(code)


class Lifetime:
    """The maximum lifetime: three guards, each working if the ones before it do not.

    A thread ends container and process in an orderly way; if no thread of ours gets to run any
    more, the kernel ends the process by SIGALRM (its default action needs no Python) and the
    container's guard process sees that; where the machine is ours, its own scheduled shutdown needs
    none of us.
    """

    def __init__(self, bounds: Bounds, ending: Ending) -> None:
        self._bounds = bounds
        self._ending = ending
        self.destroy_container: Callable[[], None] = lambda: None

    def arm(self) -> None:
        """Start the clock. Called before anything that could hang."""
        seconds = self._bounds.max_lifetime_seconds
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        signal.setitimer(signal.ITIMER_REAL, seconds + LAST_RESORT_SECONDS)
        threading.Thread(target=self._expire, args=(seconds,), daemon=True).start()
        if self._bounds.power_off and not schedule_power_off(seconds):
            log("could not schedule the machine's shutdown")

    def _expire(self, seconds: float) -> None:
        time.sleep(seconds)
        log("maximum lifetime reached", seconds=seconds)
        try:
            self.destroy_container()
        finally:
            self._ending("maximum lifetime")


# --- HTTP ----------------------------------------------------------------------------------------


class Http:
    """One kept-alive connection to one server, for one thread at a time."""

    def __init__(self, base_url: str, timeout_seconds: float) -> None:
        # http.client takes half of our start-up time, and the simulated job and the guard, which
        # are this same file, have no use for it: so it is imported where it is first needed.
        import http.client  # noqa: PLC0415
        from urllib.parse import urlsplit  # noqa: PLC0415

        url = urlsplit(base_url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(url.hostname or "", url.port, timeout=timeout_seconds)
        self._prefix = url.path.rstrip("/")
        self._errors = (OSError, http.client.HTTPException)

    def request(
        self, method: str, path: str, headers: dict[str, str], body: object = None
    ) -> Answer:
        """One exchange; raises UnreachableError.

        A kept connection may have been closed by the server just now, so a failure on one is
        followed by one try on a new one. All calls of ours may be repeated.
        """
        kept = self._connection.sock is not None
        try:
            return self._exchange(method, path, headers, body)
        except self._errors as error:
            self._connection.close()
            if not kept or isinstance(error, TimeoutError):
                raise UnreachableError(f"{type(error).__name__}: {error}") from None
        try:
            return self._exchange(method, path, headers, body)
        except self._errors as error:
            self._connection.close()
            raise UnreachableError(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        """Let go of the connection; the next request makes another."""
        self._connection.close()

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: object) -> Answer:
        content = body if isinstance(body, bytes) else None
        if body is not None and content is None:
            content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            headers = {**headers, "Content-Type": "application/json"}
        self._connection.request(method, self._prefix + path, content, headers)
        response = self._connection.getresponse()
        raw = response.read(MAX_ANSWER_BYTES)
        if not response.isclosed():  # longer than we take: the rest would be the next answer's head
            self._connection.close()
        return Answer(response.status, raw.decode("utf-8", "replace"))


class Api:
    """The API's calls of one attempt. Each thread that calls has its own (`for_another_thread`)."""

    def __init__(self, config: Config, token: str) -> None:
        self._config = config
        self._token = token
        self._http = Http(config.api_url, API_TIMEOUT_SECONDS)

    def of_attempt(self, config: Config) -> Api:
        """The same agent's, now that the claim has told which attempt it is for."""
        return Api(config, self._token)

    def for_another_thread(self) -> Api:
        """The same API on a connection of its own."""
        return Api(self._config, self._token)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def claim(self, bootstrap_token: str, runtime: str, *, interrupted: bool = False) -> Answer:
        """Claim the attempt, showing the token that we shall use from now on.

        `interrupted`: or rather give it back, since this instance is being taken.
        """
        body: dict[str, Any] = {
            "job_id": self._config.job_id,
            "attempt": self._config.attempt,
            "instance_id": self._config.instance_id,
            "token": self._token,
            "runtime": runtime,
        }
        if interrupted:
            body["interrupted"] = True
        return self._call("POST", "/agent/claim", bootstrap_token, body)

    def claim_by_role(
        self, proof: Callable[[str], dict[str, Any]], runtime: str, *, interrupted: bool = False
    ) -> Answer:
        """Claim whatever this instance is for; `proof` makes one that is bound to our token."""
        identity = proof(hashlib.sha256(self._token.encode()).hexdigest())
        body: dict[str, Any] = {"identity": identity, "token": self._token, "runtime": runtime}
        if interrupted:
            body["interrupted"] = True
        return self._http.request("POST", "/agent/claim", {}, body)

    def recommend_rebalance(self) -> Answer:
        """EC2 thinks that this instance will be taken back sooner than others."""
        path = f"/agent/jobs/{self._config.job_id}/report"
        body = {"phase": None, "logs": None, "rebalance": True}
        return self._call("POST", path, self._token, body)

    def report(self, phase: str | None, logs: dict[str, Any] | None) -> Answer:
        """A heartbeat, with a phase or log lines or neither."""
        path = f"/agent/jobs/{self._config.job_id}/report"
        return self._call("POST", path, self._token, {"phase": phase, "logs": logs})

    def callback(self, body: dict[str, Any]) -> Answer:
        """Say how it went."""
        return self._call("PUT", f"/callback/{self._config.job_id}", self._token, body)

    def _call(self, method: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        return self._http.request(method, path, {"Authorization": f"Bearer {token}"}, body)


def call_until_heard(
    what: str, call: Callable[[], Answer], pause: Callable[[float], object]
) -> Answer | None:
    """Repeat `call` with backoff until the API has heard it; None if `pause` says true: give up."""
    failures = 0
    while True:
        try:
            answer = call()
            if is_heard(answer.status):
                if answer.status != 202 or failures:  # "wait" comes each second
                    log("heard", what=what, status=answer.status, tries=failures + 1)
                return answer
            trouble = f"status {answer.status}"
        except UnreachableError as error:
            trouble = str(error)
        failures += 1
        log("not heard yet", what=what, trouble=trouble, tries=failures)
        if pause(backoff_seconds(failures, jitter())):
            return None


# --- what the container prints -------------------------------------------------------------------


class LineReader:
    """Cuts one stream's bytes into lines of bounded length that every database will take."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete; an overlong one comes in pieces."""
        text = self._rest + self._decoder.decode(data, final=not data)
        *lines, self._rest = text.split("\n")
        pieces = [piece for line in lines for piece in self._pieces(line.rstrip("\r"))]
        while len(self._rest) > MAX_LINE_CHARACTERS:
            pieces += self._pieces(self._rest[:MAX_LINE_CHARACTERS])
            self._rest = self._rest[MAX_LINE_CHARACTERS:]
        return pieces

    def close(self) -> list[str]:
        """The last line, if the stream ended without a newline."""
        lines = self.feed(b"")
        lines += self._pieces(self._rest) if self._rest else []
        self._rest = ""
        return lines

    @staticmethod
    def _pieces(line: str) -> list[str]:
        line = line.replace("\0", "")  # Postgres refuses NUL in text
        starts = range(0, max(1, len(line)), MAX_LINE_CHARACTERS)
        return [line[start : start + MAX_LINE_CHARACTERS] for start in starts]


class LogBuffer:
    """The lines not yet sent, within bounds, and the last ones of each stream. Not thread-safe.

    The API keeps the first half of `limit_bytes` and, of the rest, the end. So once the first half
    is taken, lines are left out where newer ones alone fill the limit: the API would not keep them
    either. The other bound is what we hold in memory. Whoever reads the container's output waits
    while `is_full`; where that may not be, the oldest lines are dropped beyond twice as much,
    since errors come last.
    """

    def __init__(self, limit_bytes: int, tail_lines: int) -> None:
        self._limit = limit_bytes
        self._head_left = limit_bytes // 2
        self._lines: deque[tuple[int, Line]] = deque()  # each with its size
        self._bytes = 0
        self._left_out = (0, 0)  # lines and bytes
        self._dropped = 0
        self.trouble = "the API did not answer"  # why lines are dropped, if they are
        self._tails = {name: deque[str](maxlen=max(1, tail_lines)) for name in ("stdout", "stderr")}

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def is_full(self) -> bool:
        """Whether no more should be read. The room above is for what a read may bring."""
        return len(self._lines) >= MAX_UNSENT_LINES // 2 or self._bytes >= MAX_UNSENT_BYTES // 2

    @property
    def has_full_batch(self) -> bool:
        """Whether there is no reason to wait for more lines before a report."""
        return len(self._lines) >= MAX_BATCH_LINES or self._bytes >= MAX_BATCH_BYTES

    def add(self, line: Line) -> None:
        """Take one line in."""
        self._tails[line.stream].append(line.text)
        size = size_of(line)
        self._lines.append((size, line))
        self._bytes += size
        while self._head_left <= 0 and self._bytes - self._lines[0][0] >= max(1, self._limit):
            lines, left_out = self._left_out
            self._left_out = (lines + 1, left_out + self._remove_oldest())
        while len(self._lines) > MAX_UNSENT_LINES or self._bytes > MAX_UNSENT_BYTES:
            self._remove_oldest()
            self._dropped += 1

    def take(self) -> list[Line]:
        """Take the next batch out, oldest first; a note stands where lines had to be dropped."""
        batch: list[Line] = []
        size = 0
        while self._lines and len(batch) < MAX_BATCH_LINES and size < MAX_BATCH_BYTES:
            line_size, line = self._lines.popleft()
            size += line_size
            batch.append(line)
        self._bytes -= size
        self._head_left -= size
        if batch and self._dropped:
            note = f"[docker-job: {self._dropped} lines dropped, {self.trouble}]"
            batch.insert(0, Line(batch[0].at, OWN_STREAM, note))
            self._dropped = 0
        return batch

    def take_left_out(self) -> dict[str, int] | None:
        """What was left out just before the batch that was taken now."""
        (lines, size), self._left_out = self._left_out, (0, 0)
        return {"lines": lines, "bytes": size} if lines else None

    def note_lost(self, lines: int, trouble: str) -> None:
        """Count *lines* that were taken and will not be kept."""
        self._dropped += lines
        self.trouble = trouble

    def tail(self) -> list[str]:
        """The last lines of stderr, of stdout if there are none."""
        said = [text for text in self._tails["stderr"] if text.strip()]
        return list(self._tails["stderr"] if said else self._tails["stdout"])

    def _remove_oldest(self) -> int:
        size, _ = self._lines.popleft()
        self._bytes -= size
        return size


def size_of(line: Line) -> int:
    """What a line counts against the limits: its bytes and its newline."""
    return len(line.text.encode("utf-8", "replace")) + 1


class Reporter:
    """Heartbeats, phases and log lines in one thread: whatever the container does, a beat goes out.

    A batch keeps its number until it is heard, so a repeat after a lost answer has no further
    effect.

    While the API takes reports, whoever reads the container's output waits here when too many
    lines are unsent, and so the container waits too: docker holds about 1 MB for an attached
    client and then blocks the container's writes (docker/cli, container_attach.md). An API that
    has taken none for `BACK_PRESSURE_SECONDS` stops no container: then the oldest lines are
    dropped.

    Where the API says that the attempt is over, it may still keep lines until the container's stop
    is over (`kept`).
    """

    def __init__(self, api: Api, settings: Settings, on_over: Callable[[], None]) -> None:
        self._api = api
        self._settings = settings
        self._on_over = on_over
        self._logs = LogBuffer(settings.log_limit_bytes, settings.error_tail_lines)
        self._wake = threading.Condition()  # guards all below
        self._phases: deque[str] = deque()
        self._batch: list[Line] = []  # taken out of the buffer, not heard yet
        self._left_out: dict[str, int] | None = None  # just before that batch
        self._seq = 0
        self._first_unsent_at: float | None = None
        self._next_beat_at = time.monotonic() + settings.heartbeat_seconds
        self._not_before = 0.0
        self._taken_at = time.monotonic()  # when the API last took a report
        self._failures = 0  # since the API last heard us
        self._refusals = 0  # of these, the ones that name no outage
        self._over = False  # the attempt is over …
        self._ended = False  # … and nothing of it is kept any more
        self._closing = False
        self._relieved = False
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def phase(self, name: str) -> None:
        """Report a phase at once."""
        with self._wake:
            if not self._over:
                self._phases.append(name)
                self._wake.notify_all()

    def line(self, stream: str, text: str) -> None:
        """Report a line with the next batch, at once where that is full."""
        line = Line(now_utc().isoformat(), stream, text)
        with self._wake:
            was_full = self._logs.has_full_batch
            self._logs.add(line)
            if self._first_unsent_at is None:
                self._first_unsent_at = time.monotonic()
                self._wake.notify_all()
            elif self._logs.has_full_batch and not was_full:
                self._wake.notify_all()

    def wait_for_room(self, give_up: Callable[[], bool]) -> None:
        """Wait while too many lines are unsent and the API takes reports, until `give_up()`."""
        with self._wake:
            while self._logs.is_full and self._makes_wait() and not give_up():
                self._wake.wait(ROOM_LOOK_SECONDS)

    def relieve(self) -> None:
        """End the back-pressure: an engine cannot end a container whose output is not read.

        https://github.com/moby/moby/issues/41827
        """
        with self._wake:
            self._relieved = True
            self._logs.trouble = "the container was being killed"
            self._wake.notify_all()

    @property
    def has_ended(self) -> bool:
        """Whether the API has said that nothing of the attempt is kept any more."""
        with self._wake:
            return self._ended

    def tail(self) -> list[str]:
        """The last lines printed, for an error message."""
        with self._wake:
            return self._logs.tail()

    def finish(self, seconds: float | None = None) -> None:
        """Send what is left; returns when it is heard, hopeless, or `seconds` have passed."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(seconds)

    def _makes_wait(self) -> bool:
        silent = time.monotonic() - self._taken_at
        return not (self._ended or self._relieved) and silent < BACK_PRESSURE_SECONDS

    def _run(self) -> None:
        while True:
            try:
                if not self._send_next():
                    self._api.close()
                    return
            except Exception as error:  # noqa: BLE001 - a fault here must not silence the heartbeat
                log("reporter fault", error=type(error).__name__)
                self._note_failure("the agent failed")

    def _send_next(self) -> bool:
        """Wait until something is due and send it; False when there is nothing more to do."""
        with self._wake:
            while (left := self._due_at() - time.monotonic()) > 0:
                self._wake.wait(left)
            if self._closing and self._is_done():
                unsent = len(self._batch) + len(self._logs)
                if unsent:
                    log("the last lines were not taken", lines=unsent)
                return False
            self._fill_batch()
            phase = self._phases[0] if self._phases else None
            logs = self._logs_body()
        try:
            answer = self._api.report(phase, logs)
        except UnreachableError as error:
            log("report not heard", trouble=str(error))
            self._note_failure("the API did not answer", counts=False)
            return True
        return self._take_answer(answer, phase)

    def _due_at(self) -> float:
        due = time.monotonic() + IDLE_SECONDS if self._over else self._next_beat_at
        if self._phases or self._closing or self._logs.has_full_batch:
            due = 0.0
        elif self._batch or self._first_unsent_at is not None:
            due = min(due, (self._first_unsent_at or 0.0) + self._settings.log_batch_seconds)
        return max(due, self._not_before)

    def _is_done(self) -> bool:
        return not (self._phases or self._batch or len(self._logs)) or self._refusals >= FLUSH_TRIES

    def _fill_batch(self) -> None:
        if self._batch:
            return
        self._batch = self._logs.take()
        if self._batch:
            self._left_out = self._logs.take_left_out()
            self._seq += 1
        self._first_unsent_at = time.monotonic() if len(self._logs) else None
        self._wake.notify_all()

    def _logs_body(self) -> dict[str, Any] | None:
        if not self._batch:
            return None
        body = {"seq": self._seq, "lines": [line._asdict() for line in self._batch]}
        return {**body, "left_out": self._left_out} if self._left_out else body

    def _take_answer(self, answer: Answer, phase: str | None) -> bool:
        status = answer.status
        if is_over(status):
            return self._take_over(answer)
        if not is_heard(status):
            log("report not heard", trouble=f"status {status}")
            self._note_failure(f"the API answered {status}", counts=not is_outage(status))
            return True
        with self._wake:
            if status >= 300:  # heard but refused: repeating it would change nothing
                log("report refused", status=status, lines=len(self._batch))
                self._logs.note_lost(len(self._batch), f"the API refused them with {status}")
            if phase is not None:
                self._phases.popleft()
            self._note_taken()
        return True

    def _take_over(self, answer: Answer) -> bool:
        """Tell that the attempt is over; False where nothing of it is kept any more."""
        cause, kept = read_over(answer.json())
        with self._wake:
            if not self._over:
                log("the attempt is over", status=answer.status, cause=cause)
            self._over = True
            self._ended = cause is None or (bool(self._batch) and not kept)
            self._phases.clear()
            self._note_taken()
        self._on_over()
        return not self._ended

    def _note_taken(self) -> None:
        self._batch = []
        self._failures, self._refusals, self._not_before = 0, 0, 0.0
        self._taken_at = time.monotonic()
        self._next_beat_at = self._taken_at + self._settings.heartbeat_seconds
        self._wake.notify_all()

    def _note_failure(self, trouble: str, *, counts: bool = True) -> None:
        """Wait longer before the next try.

        Only answers that name no outage count towards giving up the last logs: while the API or its
        database is away, the callback behind them could not be heard either.
        """
        with self._wake:
            self._failures += 1
            self._refusals += counts
            self._logs.trouble = trouble
            wait = backoff_seconds(self._failures, jitter())
            self._not_before = time.monotonic() + min(wait, self._settings.heartbeat_seconds)


# --- child processes -----------------------------------------------------------------------------


class Child:
    """A child process with its output read line by line, in threads of its own.

    It gets a session of its own, so that a signal to the agent's group reaches the agent alone,
    which then decides about the container.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        on_line: Callable[[str, str], None],
        on_exit: Callable[[], None],
        stdin: int = subprocess.DEVNULL,
        wait_for_room: Callable[[Callable[[], bool]], None] | None = None,
    ) -> None:
        try:
            self._process = subprocess.Popen(  # an argument list, never a shell
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise CouldNotRunError(f"{command[0]} could not be started: {error}") from None
        self._on_line = on_line
        self._on_exit = on_exit
        self._wait_for_room = wait_for_room
        self.exited = False
        self.last_output_at = time.monotonic()
        self.stdin = self._process.stdin
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, name), daemon=True)
            for pipe, name in ((self._process.stdout, "stdout"), (self._process.stderr, "stderr"))
        ]
        for reader in self._readers:
            reader.start()
        threading.Thread(target=self._await_exit, daemon=True).start()

    @property
    def exit_code(self) -> int:
        """As a shell would give it: 128 + signal if one killed it."""
        code = self._process.returncode
        return 128 - code if code < 0 else code

    def send(self, number: int) -> None:
        """Send a signal, if it still lives."""
        with contextlib.suppress(OSError):
            self._process.send_signal(number)

    def _read(self, pipe: IO[bytes], stream: str) -> None:
        lines = LineReader()
        with pipe:
            while data := os.read(pipe.fileno(), READ_BYTES):
                self.last_output_at = time.monotonic()
                for text in lines.feed(data):
                    self._on_line(stream, text)
                if self._wait_for_room is not None:
                    # What its pipes still hold once it has ended is little, and is read at once.
                    self._wait_for_room(lambda: self._process.returncode is not None)
        for text in lines.close():
            self._on_line(stream, text)

    def _await_exit(self) -> None:
        self._process.wait()
        for reader in self._readers:  # all output is read before anybody hears of the exit
            reader.join(5.0)
        self.exited = True
        self._on_exit()


class Finished(NamedTuple):
    """A short docker command that ended, or did not in its time (`code` None)."""

    code: int | None
    out: str
    error: str


def docker(
    *arguments: str,
    seconds: float = ENGINE_CALL_SECONDS,
    said: bytes = b"",
    environment: dict[str, str] | None = None,
) -> Finished:
    """Run one short docker command, as an argument list; `said` goes to its stdin."""
    try:
        done = subprocess.run(  # an argument list, never a shell
            ["docker", *arguments],  # whichever docker the machine's PATH names
            input=said,
            capture_output=True,
            timeout=seconds,
            env=environment or environment_for_children(os.environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finished(None, "", f"docker {arguments[0]} did not end within {seconds:g} seconds")
    except (OSError, ValueError) as error:
        return Finished(None, "", f"docker could not be started: {error}")
    return Finished(
        done.returncode, done.stdout.decode("utf-8", "replace"), clean_error(done.stderr)
    )


def clean_error(raw: bytes) -> str:
    """What docker said on stderr, fit for a message."""
    return raw.decode("utf-8", "replace").replace("\0", "").strip()[-MAX_ERROR_CHARACTERS:]


def choose_runtime(wanted: str) -> str:
    """`docker` or `simulated`; `auto` is docker where an engine answers soon."""
    if wanted != "auto":
        return wanted
    if shutil.which("docker") is None:
        return "simulated"
    probe = docker("version", "--format", "{{.Server.Version}}", seconds=ENGINE_PROBE_SECONDS)
    return "docker" if probe.code == 0 else "simulated"


# --- what has happened ---------------------------------------------------------------------------


class Situation:
    """What helper threads and signal handlers have seen, for the main thread to decide upon.

    They set a flag and wake the main thread. The wake-up is a SimpleQueue because its `put` is the
    one thing of its kind that may be called from a signal handler (it takes no lock that we may
    hold).
    """

    def __init__(self) -> None:
        self.over = False
        self.terminated = False
        self.notice: Notice | None = None
        self.stop_for_notice_at: float | None = None  # monotonic
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Have the main thread look again."""
        self._wakes.put(None)

    def tell_over(self) -> None:
        """The API says that the attempt is over."""
        self.over = True
        self.wake()

    def tell_terminated(self) -> None:
        """Somebody ends this agent."""
        self.terminated = True
        self.wake()

    def tell_notice(self, notice: Notice, seconds_left: float) -> None:
        """The instance will be taken; the container may run on for `seconds_left`."""
        self.stop_for_notice_at = time.monotonic() + seconds_left
        self.notice = notice
        self.wake()

    def wait(self, seconds: float) -> None:
        """Wait until something happens, at most `seconds`; it may also be nothing of interest."""
        with contextlib.suppress(queue.Empty):
            self._wakes.get(timeout=min(max(0.0, seconds), 3600.0))

    def wait_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait until `done()` is true; False if it was not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.wait(left)
        return True

    def cause_not_to_start(self) -> str | None:
        """Why a container that does not run yet should not.

        An instance that is to be taken stops its attempt at once: the replacement need not wait.
        """
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        return INTERRUPTED if self.notice else None

    def cause_to_stop(self, timeout_at: float | None, now: float) -> str | None:
        """Why a running container should be stopped now."""
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        if timeout_at is not None and now >= timeout_at:
            return TIMED_OUT
        if self.stop_for_notice_at is not None and now >= self.stop_for_notice_at:
            return INTERRUPTED
        return None

    def final_cause(self, stopped_for: str | None) -> str | None:
        """The cause that the last word follows: the API's word or a SIGTERM outweighs."""
        if self.over or self.terminated:
            return OVER if self.over else TERMINATED
        return stopped_for or (INTERRUPTED if self.notice else None)


# --- runtimes ------------------------------------------------------------------------------------


class Runtime:
    """One container's life: a real one in `Docker`, a child that plays it in `Simulated`."""

    def __init__(
        self, config: Config, job: Job, settings: Settings, reporter: Reporter, situation: Situation
    ) -> None:
        self.config = config
        self.job = job
        self.settings = settings
        self.reporter = reporter
        self.situation = situation
        self.child: Child | None = None

    def prepare(self) -> None:
        """Get ready to start; raises CouldNotRunError or StoppedBeforeRunningError."""

    def start(self) -> None:
        """Start the container and return when it runs (or already ended)."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Whether the container surely runs no more."""
        return self.child is None or self.child.exited

    def send(self, number: int) -> None:
        """Send the container a signal."""
        raise NotImplementedError

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        raise NotImplementedError

    def destroy(self) -> bool:
        """Kill and remove it, from any thread, however often; False if it may still be there."""
        raise NotImplementedError

    def _spawn(self, command: list[str], environment: dict[str, str], stdin: int) -> Child:
        reporter = self.reporter
        wake = self.situation.wake
        return Child(command, environment, reporter.line, wake, stdin, reporter.wait_for_room)


def this_file(*arguments: str) -> list[str]:
    """The command that runs this very file in another role; it minds no PYTHON* variable."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *arguments]


class Simulated(Runtime):
    """No engine: a child process under the same supervision prints what would have run."""

    def start(self) -> None:
        """Start the child, handing it the job's environment through a pipe.

        So nothing can look at it, and no name in it (LD_PRELOAD …) means anything to the child.
        """
        check_job(self.job)
        names = [part for name in self.job.env for part in ("--env", name)]
        options = [
            *container_options(self.config, self.job.gpus),
            *self.job.entrypoint_options(),
        ]
        command = ["docker", "run", *options, *names, self.job.image]
        plan = {"would_run": [*command, *self.job.arguments()], "env": self.job.env}
        self.child = self._spawn(this_file("--simulate"), {}, subprocess.PIPE)
        if self.child.stdin:
            with contextlib.suppress(OSError):  # it died already: its exit says so
                self.child.stdin.write(json.dumps(plan).encode() + b"\n")
                self.child.stdin.flush()

    def send(self, number: int) -> None:
        """Signal the child."""
        if self.child:
            self.child.send(number)

    def outcome(self) -> Outcome:
        """Its exit code."""
        if self.child is None or not self.child.exited:
            return Outcome(None, "the simulated container could not be stopped", stopped=False)
        return Outcome(self.child.exit_code)

    def destroy(self) -> bool:
        """Kill the child."""
        self.send(signal.SIGKILL)
        return True


class Docker(Runtime):
    """A real container, through the docker client.

    `create` and `start` are separate so that the env file lives only as long as `create` runs, and
    an error of docker's own is told from one of the container's.
    """

    def __init__(
        self,
        config: Config,
        job: Job,
        settings: Settings,
        reporter: Reporter,
        situation: Situation,
        home: Home,
    ) -> None:
        super().__init__(config, job, settings, reporter, situation)
        self.name = container_name(config)
        self._env_file = os.path.join(home.path, "env")
        self._logins = os.path.join(home.path, "docker-config")
        self._state: dict[str, Any] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # -- before it runs

    def prepare(self) -> None:
        """Pull the image; if that fails and the machine has one of that name, use it."""
        check_job(self.job)
        self.reporter.phase("pulling")
        try:
            self._pull()
        finally:
            self._forget_login()

    def _pull(self) -> None:
        refused = False
        environment = self._log_in()
        for failures in range(1, PULL_TRIES + 1):
            error = self._pull_once(environment)
            if not error:
                return
            log("pull failed", tries=failures)
            if docker("image", "inspect", "--", self.job.image).code == 0:
                log("the local image is used")
                return
            refused = is_refusal(error)
            if refused:
                break
            if failures < PULL_TRIES:
                self._wait_unless_stopped(lambda: False, float(failures))
        raise PullFailedError(error, for_good=refused)

    def _log_in(self) -> dict[str, str]:
        """Log in if the job says so; returns the environment that the pull needs.

        The login lives in a directory of its own, until the image is here: neither the machine's
        own logins nor its disk are touched, and the password never is an argument.
        """
        environment = environment_for_children(os.environ)
        login = self.job.login
        if login is None:
            return environment
        os.makedirs(self._logins, mode=0o700, exist_ok=True)
        environment["DOCKER_CONFIG"] = self._logins
        registry = registry_of(self.job.image)
        done = docker(
            "login",
            f"--username={login.username}",
            "--password-stdin",
            *([registry] if registry else []),
            seconds=LOGIN_SECONDS,
            said=login.password.encode("utf-8", "replace"),
            environment=environment,
        )
        if done.code != 0:
            error = done.error.replace(login.password, "…")
            raise PullFailedError(
                f"docker login at {registry or 'Docker Hub'} failed: {error}",
                for_good=is_refusal(error),
            )
        return environment

    def _forget_login(self) -> None:
        shutil.rmtree(self._logins, ignore_errors=True)

    def _pull_once(self, environment: dict[str, str]) -> str:
        """Pull; returns docker's error, empty if there is none."""
        errors: deque[str] = deque(maxlen=20)

        def keep_errors(stream: str, text: str) -> None:
            if stream == "stderr":
                errors.append(text)

        client = Child(
            ["docker", "pull", "--", self.job.image],
            environment,
            keep_errors,
            self.situation.wake,
        )
        try:
            overdue = self._await_pull(client)
        finally:
            client.send(signal.SIGKILL)  # if it still runs: the engine drops an unwatched pull
        if overdue:
            return overdue
        if client.exit_code == 0:
            return ""
        return "\n".join(errors).strip() or f"docker pull exited with {client.exit_code}"

    def _await_pull(self, client: Child) -> str:
        """Wait for the pull within its limits; returns which limit it passed, if it did."""
        deadline = time.monotonic() + self.settings.pull_timeout_seconds
        silence = self.settings.pull_silence_seconds
        while True:
            now = time.monotonic()
            silent_at = client.last_output_at + silence
            if self._wait_unless_stopped(lambda: client.exited, min(deadline, silent_at) - now):
                return ""
            if time.monotonic() >= deadline:
                return f"the pull took longer than {self.settings.pull_timeout_seconds:g} seconds"
            if time.monotonic() >= client.last_output_at + silence:
                return f"the pull made no progress for {silence:g} seconds"

    def _wait_unless_stopped(self, done: Callable[[], bool], seconds: float) -> bool:
        situation = self.situation
        situation.wait_until(lambda: done() or situation.cause_not_to_start() is not None, seconds)
        if situation.cause_not_to_start():
            raise StoppedBeforeRunningError
        return done()

    def _create(self) -> None:
        """Make the container. Its env file, readable by us alone, is gone when this returns."""
        content = render_env_file(self.job.env)
        try:
            write_private_file(self._env_file, content)
            options = [
                *container_options(self.config, self.job.gpus),
                *self.job.entrypoint_options(),
                "--env-file",
                self._env_file,
                "--pull",
                "never",
            ]
            made = docker(
                "create",
                *options,
                "--",
                self.job.image,
                *self.job.arguments(),
                seconds=CREATE_SECONDS,
            )
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._env_file)
        if made.code != 0:
            raise CouldNotRunError(made.error or "docker create failed")

    # -- while it runs

    def start(self) -> None:
        """Create it, start it, and wait until the engine says that it left the state `created`."""
        self._guard = self._start_guard()
        self._create()
        if self.situation.cause_not_to_start():  # the last moment at which nothing has run
            raise StoppedBeforeRunningError
        self.child = self._client("start", "--attach", self.name)
        started = self.child
        while not started.exited and self._is_only_created():
            if self.situation.over or self.situation.terminated:
                return  # the engine may hang in between: whoever supervises stops it
            self.situation.wait_until(lambda: started.exited, 0.02)

    def _is_only_created(self) -> bool:
        state = self._inspect()
        return state is None or state.get("Status") == "created"

    def has_ended(self) -> bool:
        """Whether the engine says that it ended.

        The client's exit alone does not say so: a restarted engine cuts it off while the container
        runs on, and then we attach again.
        """
        if self.child is None:
            return True
        if not self.child.exited:
            return False
        if self._state is None:
            state = self._inspect()
            if state is None:
                return False
            if state.get("Running"):
                log("lost the container's output, attaching again")
                self.child = self._client("attach", "--no-stdin", self.name)
                return False
            self._state = state
        return True

    def send(self, number: int) -> None:
        """Signal the container's process (the init hands it on)."""
        done = docker("kill", "--signal", signal.Signals(number).name, "--", self.name)
        if done.code != 0:
            log("docker kill failed", error=done.error)

    # -- after it ran

    def outcome(self) -> Outcome:
        """The exit code that the engine recorded, and what it has to say about it."""
        state = self._state
        if state is None:
            return Outcome(None, "the agent lost sight of the container", stopped=False)
        if state.get("Status") == "created":
            return Outcome(None, str(state.get("Error") or "docker could not start the container"))
        if state.get("Status") == "gone":
            return Outcome(None, "the container was removed while it ran")
        note = "out of memory: the kernel killed the container" if state.get("OOMKilled") else ""
        return Outcome(int(state.get("ExitCode", -1)), note)

    def destroy(self) -> bool:
        """Remove the container, however it stands, and let the guard go."""
        done = docker("rm", "--force", "--volumes", "--", self.name)
        gone = done.code == 0 or "No such container" in done.error
        log("container removed" if gone else "container not removed", error=done.error)
        if gone and self._guard and self._guard.stdin:
            with contextlib.suppress(OSError, ValueError):
                self._guard.stdin.write(b"done")
                self._guard.stdin.close()
        return gone

    def _client(self, *arguments: str) -> Child:
        environment = environment_for_children(os.environ)
        return self._spawn(["docker", *arguments], environment, subprocess.DEVNULL)

    def _inspect(self) -> dict[str, Any] | None:
        """The engine's word on the container; None if it does not answer."""
        seen = docker(
            "inspect", "--type", "container", "--format", "{{json .State}}", "--", self.name
        )
        if seen.code == 0:
            with contextlib.suppress(ValueError):
                return dict(json.loads(seen.out))
        return {"Status": "gone"} if "No such container" in seen.error else None

    def _start_guard(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # our own file
            this_file("--guard", self.name, self._env_file),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=environment_for_children(os.environ),
            start_new_session=True,
        )


def write_private_file(path: str, content: bytes) -> None:
    """Create a file that only we may read; never follow or reuse one that is there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


# --- the spot notice -----------------------------------------------------------------------------


class Metadata:
    """The instance metadata service, IMDSv2: every question carries a session token."""

    TOKEN_PATH = "/latest/api/token"  # noqa: S105 - where one is to be had
    NOTICE_PATH = "/latest/meta-data/spot/instance-action"
    REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
    TOKEN_TTL_SECONDS = 21600  # six hours, the longest that EC2 gives

    def __init__(self, http: Http) -> None:
        self._http = http
        self._token: str | None = None

    def get(self, path: str) -> str | None:
        """The text at `path`, None if there is none now; raises UnreachableError."""
        answer = self._ask(path)
        if answer is not None and answer.status == 401:  # expired: renew it, ask again
            self._token = None
            answer = self._ask(path)
        return answer.text if answer is not None and answer.status == 200 else None

    def _ask(self, path: str) -> Answer | None:
        if self._token is None:
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(self.TOKEN_TTL_SECONDS)}
            answer = self._http.request("PUT", self.TOKEN_PATH, ttl)
            if answer.status != 200:
                return None
            self._token = answer.text
        return self._http.request("GET", path, {"X-aws-ec2-metadata-token": self._token})


class NoticeWatcher:
    """Asks for the spot notice until it comes, tells the main thread, then the API until it hears.

    Both from this thread: nothing that the container or the logs do may delay the word.
    """

    def __init__(
        self, metadata: Metadata, api: Api, settings: Settings, situation: Situation
    ) -> None:
        self._metadata = metadata
        self._api = api
        self._settings = settings
        self._situation = situation
        self._closed = threading.Event()
        self._rebalance_seen = False
        self._troubled = False

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="notice", daemon=True).start()

    def close(self) -> None:
        """Watch no more, and leave the word about the end to the last callback."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            notice = self._look()
            if notice is not None and not self._closed.is_set():
                self._tell(notice)
                return
            self._closed.wait(self._settings.metadata_poll_seconds)

    def _look(self) -> Notice | None:
        """Ask once. Whatever goes wrong, there is a next time."""
        try:
            text = self._metadata.get(Metadata.NOTICE_PATH)
            notice = parse_notice(text, now_utc()) if text else None
            if notice is None and not self._rebalance_seen:
                self._look_for_rebalance()
            self._troubled = False
        except Exception as error:  # noqa: BLE001 - a missed notice costs the job; never die
            if not self._troubled:  # said once, not every poll
                log("metadata service does not answer", error=type(error).__name__)
            self._troubled = True
            return None
        return notice

    def _look_for_rebalance(self) -> None:
        """Say it once; what was not heard is said again at the next look."""
        if self._metadata.get(Metadata.REBALANCE_PATH):
            self._rebalance_seen = is_heard(self._api.recommend_rebalance().status)
            log("rebalance recommended", heard=self._rebalance_seen)

    def _tell(self, notice: Notice) -> None:
        left = seconds_until_stop(notice, self._settings.interruption_margin_seconds, now_utc())
        log("interruption notice", action=notice.action, time=notice.at, stop_in_seconds=left)
        self._situation.tell_notice(notice, left)
        answer = call_until_heard(
            "interruption", lambda: self._api.callback({"schedule": ""}), self._closed.wait
        )
        if answer is not None and is_over(answer.status):
            self._situation.tell_over()


# --- AWS: who this instance is, and what its role may read ---------------------------------------


class Credentials(NamedTuple):
    """The instance role's, good for some hours."""

    access_key: str
    secret_key: str
    session_token: str


class Request(NamedTuple):
    """A POST to an AWS service, before it is signed. Header names are in small letters."""

    service: str
    region: str
    headers: dict[str, str]
    body: bytes


def sign(request: Request, credentials: Credentials, now: datetime) -> dict[str, str]:
    """The headers with which AWS takes the request: Signature Version 4, every header signed.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    moment = f"{now:%Y%m%dT%H%M%SZ}"
    headers = {**request.headers, "x-amz-date": moment}
    headers["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))
    payload = hashlib.sha256(request.body).hexdigest()
    canonical = f"POST\n/\n\n{lines}\n{names}\n{payload}"
    scope = f"{moment[:8]}/{request.region}/{request.service}/aws4_request"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={credentials.access_key}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    )
    return headers


class Aws:
    """AWS as the instance's role sees it. For one thread at a time."""

    ROLE_PATH = "/latest/meta-data/iam/security-credentials/"
    REGION_PATH = "/latest/meta-data/placement/region"
    HOSTS: Mapping[str, str] = {"ecr": "api.ecr"}  # the others are called as they sign
    TARGETS: Mapping[str, str] = {
        "ssm": "AmazonSSM",
        "secretsmanager": "secretsmanager",
        "ecr": "AmazonEC2ContainerRegistry_V20150921",
    }
    ENDPOINTS: Mapping[str, str] = {"secretsmanager": "SECRETS_MANAGER"}

    def __init__(self, metadata: Metadata, environment: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._environment = environment
        self._region: str | None = None

    def region(self) -> str:
        """Where this instance is; raises UnreachableError."""
        if self._region is None:
            self._region = self._known(self.REGION_PATH).strip()
        return self._region

    def credentials(self) -> Credentials:
        """The role's credentials as the metadata service has them now; raises UnreachableError."""
        role = self._known(self.ROLE_PATH).split("\n")[0].strip()
        try:
            given = json.loads(self._known(self.ROLE_PATH + role))
            return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["Token"])
        except (ValueError, KeyError, TypeError):
            raise UnreachableError("the metadata service has no credentials of a role") from None

    def url(self, service: str, region: str) -> str:
        """Where a service answers: the usual place, unless the environment names another."""
        name = self.ENDPOINTS.get(service, service.upper())
        for variable in (f"AWS_ENDPOINT_URL_{name}", "AWS_ENDPOINT_URL"):
            if self._environment.get(variable):
                return self._environment[variable]
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"https://{self.HOSTS.get(service, service)}.{region}.{suffix}"

    def sts_host(self) -> str:
        """The host that the API has answer who we are; it is signed, and never asked by us."""
        url = self._environment.get(PREFIX + "STS_URL") or self.url("sts", self.region())
        return url.partition("://")[2].split("/")[0]

    def call(self, service: str, action: str, region: str | None, body: object) -> dict[str, Any]:
        """One call in the JSON protocol, tried again where that may help; raises AwsError."""
        failures = 0
        while True:
            try:
                return self._call(service, action, region or self.region(), body)
            except UnreachableError as error:
                trouble = AwsError(f"{service} does not answer ({error})", for_good=False)
            except AwsError as error:
                trouble = error
            failures += 1
            if trouble.for_good or failures >= AWS_TRIES:
                raise trouble
            time.sleep(backoff_seconds(failures + 2, jitter()))

    def _call(self, service: str, action: str, region: str, body: object) -> dict[str, Any]:
        url = self.url(service, region)
        headers = {
            "host": url.partition("://")[2].split("/")[0],
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"{self.TARGETS[service]}.{action}",
        }
        request = Request(service, region, headers, json.dumps(body).encode())
        signed = sign(request, self.credentials(), now_utc())
        answer = Http(url, AWS_TIMEOUT_SECONDS).request("POST", "/", signed, request.body)
        given: Any = answer.json()
        if answer.status == 200 and isinstance(given, dict):
            return given
        raise aws_error(answer.status, given)

    def _known(self, path: str) -> str:
        text = self._metadata.get(path)
        if not text:
            raise UnreachableError(f"the metadata service has nothing at {path}")
        return text


def make_aws(config: Config) -> Aws | None:
    """AWS by the instance's role, or None where no metadata service says that there is one."""
    if config.metadata_url is None:
        return None
    metadata = Metadata(Http(config.metadata_url, METADATA_TIMEOUT_SECONDS))
    return Aws(metadata, os.environ)


def aws_error(status: int, answer: object) -> AwsError:
    """What AWS said, in its own words; 5xx and throttling are worth another try."""
    given: dict[str, Any] = answer if isinstance(answer, dict) else {}
    code = str(given.get("__type", "")).rpartition("#")[2] or f"status {status}"
    message = str(given.get("message") or given.get("Message") or "")[:500]
    again = status >= 500 or "Throttl" in code or "TooManyRequests" in code
    return AwsError(f"{code}: {message}" if message else code, for_good=not again)


class Proof:
    """Signed requests that ask STS who we are. Whoever has one can ask for us, for some minutes.

    So each is bound by signed headers to one deployment and one attempt token: another
    deployment's API refuses it, and whoever catches it on its way cannot use it with a token of
    his own.
    """

    BODY = "Action=GetCallerIdentity&Version=2011-06-15"

    def __init__(self, aws: Aws, deployment: str) -> None:
        self._aws = aws
        self._deployment = deployment
        self._made: dict[str, Any] | None = None
        self._made_at = 0.0

    def renew(self) -> None:
        """Make another one next time."""
        self._made = None

    def bound_to(self, token_hash: str) -> dict[str, Any]:
        """Headers and body of such a request; raises UnreachableError."""
        if self._made is None or time.monotonic() - self._made_at > PROOF_SECONDS:
            headers = {
                "host": self._aws.sts_host(),
                "content-type": "application/x-www-form-urlencoded; charset=utf-8",
                "x-docker-job-deployment": self._deployment,
                "x-docker-job-token": token_hash,
            }
            request = Request("sts", self._aws.region(), headers, self.BODY.encode())
            signed = sign(request, self._aws.credentials(), now_utc())
            self._made = {"headers": signed, "body": self.BODY}
            self._made_at = time.monotonic()
        return self._made


def with_secrets(job: Job, aws: Aws | None) -> Job:
    """The job with its secrets fetched and its registry's login ready; raises CouldNotRunError."""
    env = dict(job.env)
    for name, place in (job.secrets or {}).items():
        env[name] = fetch_secret(name, place, aws)
    if job.registry_auth not in (None, "ecr"):
        if job.registry_auth not in env:
            raise CouldNotRunError(f"registry_auth names {job.registry_auth}, which is no secret")
        return job._replace(env=env, login=read_login(env.pop(job.registry_auth)))
    registry = ECR_REGISTRY.fullmatch(registry_of(job.image) or "")
    if job.registry_auth == "ecr" and (registry is None or aws is None):
        reason = "names no ECR registry" if registry is None else "needs an instance with a role"
        raise CouldNotRunError(f"registry_auth is ecr, but {job.image} {reason}")
    if registry is None or aws is None:
        return job._replace(env=env)
    return job._replace(env=env, login=ecr_login(registry.group("region"), aws))


def fetch_secret(name: str, place: str, aws: Aws | None) -> str:
    """The value of an SSM parameter or a Secrets Manager secret; raises CouldNotRunError."""
    if aws is None:
        raise CouldNotRunError(f"secret {name} needs an instance with a role, and this has none")
    region = place.split(":")[3] if place.startswith("arn:") else None
    try:
        if ":secretsmanager:" in place:
            given = aws.call("secretsmanager", "GetSecretValue", region, {"SecretId": place})
            value = given["SecretString"]
        else:
            wanted = {"Name": place, "WithDecryption": True}
            value = aws.call("ssm", "GetParameter", region, wanted)["Parameter"]["Value"]
    except AwsError as error:
        raise CouldNotRunError(f"secret {name} ({place}) could not be read: {error}") from None
    except (KeyError, TypeError):
        raise CouldNotRunError(f"secret {name} ({place}) holds no text") from None
    return str(value)


def ecr_login(region: str, aws: Aws) -> Login:
    """The login that ECR gives the role for twelve hours; raises PullFailedError."""
    try:
        given = aws.call("ecr", "GetAuthorizationToken", region, {})
        token = base64.b64decode(given["authorizationData"][0]["authorizationToken"]).decode()
    except AwsError as error:
        raise PullFailedError(f"no login at ECR: {error}", for_good=error.for_good) from None
    except (KeyError, TypeError, IndexError, ValueError):
        raise PullFailedError("no login at ECR: it gave no token", for_good=False) from None
    username, _, password = token.partition(":")
    return Login(username, password)


# --- the agent -----------------------------------------------------------------------------------


class Agent:
    """The flow of one attempt, in the main thread."""

    def __init__(self, config: Config, home: Home, lifetime: Lifetime) -> None:
        self._config = config
        self._home = home
        self._lifetime = lifetime
        self._situation = Situation()
        self._aws = make_aws(config)
        # 256 bits, as secrets.token_hex(32) takes them, made before the claim: see the protocol.
        self._api = Api(config, os.urandom(32).hex())
        self._container_may_exist = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)

    def run(self, bootstrap_token: str) -> str:
        """Run the attempt to its end; returns why it ended, in words."""
        runtime_name = choose_runtime(self._config.runtime)
        answer = self._claim(bootstrap_token, runtime_name)
        if answer.status != 200:
            return f"the claim was refused with status {answer.status}"
        try:
            self._learn_attempt(answer.json())
            job, settings = read_claim(answer.json())
        except CouldNotRunError as error:
            return self._call_back({"failed": "", "error_message": str(error)})
        reporter = Reporter(self._api.for_another_thread(), settings, self._situation.tell_over)
        reporter.start()
        watcher = self._start_watcher(settings)
        runtime = self._make_runtime(runtime_name, job, settings, reporter)
        cause, outcome = self._run_container(runtime)
        if watcher:
            watcher.close()
        return self._say_last_word(cause, outcome, runtime)

    def _claim(self, bootstrap_token: str, runtime: str) -> Answer:
        """Ask for the job until it is given or refused, for as long as it takes.

        SIGTERM and the maximum lifetime end this, nothing else: whoever is told to wait may be
        needed at any second.
        """
        proof = Proof(self._aws, self._config.deployment) if self._aws else None
        look = self._make_look()
        refusals, interrupted, waiting = 0, False, False

        def ask() -> Answer:
            if self._config.identity == "sts" and proof is not None:
                return self._api.claim_by_role(proof.bound_to, runtime, interrupted=interrupted)
            return self._api.claim(bootstrap_token, runtime, interrupted=interrupted)

        while True:
            answer = call_until_heard("claim", ask, pause_for) or Answer(0, "")
            if answer.status == 401 and proof is not None and refusals < PROOF_TRIES:
                refusals += 1
                proof.renew()
                pause_for(backoff_seconds(refusals + 3, jitter()))
                continue
            if answer.status != 202:
                return answer
            if not waiting:
                log("told to wait")
                waiting = True
            pause_for(read_wait(answer.json()))
            interrupted = look()

    def _make_look(self) -> Callable[[], bool]:
        """For who waits: has this instance had its notice? Asked every few seconds at most."""
        url, asked_at, seen = self._config.metadata_url, 0.0, False
        metadata = Metadata(Http(url, METADATA_TIMEOUT_SECONDS)) if url else None

        def look() -> bool:
            nonlocal asked_at, seen
            due = time.monotonic() - asked_at >= Settings().metadata_poll_seconds
            if metadata is None or seen or not due:
                return seen
            asked_at = time.monotonic()
            with contextlib.suppress(UnreachableError):
                seen = parse_notice(metadata.get(Metadata.NOTICE_PATH) or "", now_utc()) is not None
            if seen:
                log("interruption notice while waiting")
            return seen

        return look

    def _learn_attempt(self, answer: object) -> None:
        """Whose instance this is, where only the claim's answer tells."""
        if self._config.identity != "sts":
            return
        try:
            body: Any = answer
            self._config = self._config._replace(
                job_id=int(body["job"]["id"]),
                attempt=int(body["attempt"]),
                instance_id=str(body["instance_id"]),
            )
        except (KeyError, TypeError, ValueError):
            raise CouldNotRunError("the claim's answer does not say whose it is") from None
        self._api = self._api.of_attempt(self._config)
        log("attempt learned", job=self._config.job_id, attempt=self._config.attempt)

    def _start_watcher(self, settings: Settings) -> NoticeWatcher | None:
        if self._config.metadata_url is None:
            return None
        metadata = Metadata(Http(self._config.metadata_url, METADATA_TIMEOUT_SECONDS))
        api = self._api.for_another_thread()
        watcher = NoticeWatcher(metadata, api, settings, self._situation)
        watcher.start()
        return watcher

    def _make_runtime(self, name: str, job: Job, settings: Settings, reporter: Reporter) -> Runtime:
        if name == "docker":
            return Docker(self._config, job, settings, reporter, self._situation, self._home)
        return Simulated(self._config, job, settings, reporter, self._situation)

    def _run_container(self, runtime: Runtime) -> tuple[str | None, Outcome]:
        """Run it under supervision; returns what it was stopped for, if so, and how it ended."""
        stopped_for = None
        self._container_may_exist = True
        self._lifetime.destroy_container = lambda: void(runtime.destroy())
        try:
            if not self._situation.cause_not_to_start():
                runtime.job = with_secrets(runtime.job, self._aws)
                runtime.prepare()
                runtime.start()
                runtime.reporter.phase("running")
                log("container runs")
                stopped_for = self._supervise(runtime)
                outcome = runtime.outcome()
            else:
                outcome = Outcome(None)
        except StoppedBeforeRunningError:
            outcome = Outcome(None)
        except PullFailedError as error:
            outcome = Outcome(None, str(error), pull="refused" if error.for_good else "failed")
        except CouldNotRunError as error:
            outcome = Outcome(None, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours too must end in a word
            log("agent fault", error=type(error).__name__)
            outcome = Outcome(None, f"the agent failed: {type(error).__name__}", stopped=False)
        finally:
            destroyed = runtime.destroy()
            self._container_may_exist = False
        return self._situation.final_cause(stopped_for), outcome._replace(
            stopped=outcome.stopped or destroyed
        )

    def _supervise(self, runtime: Runtime) -> str | None:
        """Wait until the container ends, and stop it if there is a cause; returns that cause."""
        limit = runtime.job.timeout_seconds
        timeout_at = None if limit is None else time.monotonic() + limit
        while not runtime.has_ended():
            now = time.monotonic()
            cause = self._situation.cause_to_stop(timeout_at, now)
            if cause:
                self._stop(runtime, cause)
                return cause
            # An exit of the client that the engine has not confirmed is asked about again each
            # second.
            latest = now + (1.0 if runtime.child and runtime.child.exited else 3600.0)
            moments = (timeout_at, self._situation.stop_for_notice_at, latest)
            self._situation.wait(min(at for at in moments if at is not None) - now)
        return None

    def _stop(self, runtime: Runtime, cause: str) -> None:
        """SIGTERM, grace, SIGKILL. Whoever ends the agent meanwhile shortens the grace."""
        log("stopping the container", cause=cause)
        runtime.reporter.phase("stopping")
        situation = self._situation
        runtime.send(signal.SIGTERM)
        if not situation.terminated:
            situation.wait_until(
                lambda: runtime.has_ended() or situation.terminated,
                runtime.settings.stop_grace_seconds,
            )
        if situation.terminated:
            situation.wait_until(runtime.has_ended, self._config.terminate_grace_seconds)
        if not runtime.has_ended():
            log("killing the container")
            runtime.reporter.relieve()
            runtime.send(signal.SIGKILL)
            situation.wait_until(runtime.has_ended, KILL_SECONDS)

    def _say_last_word(self, cause: str | None, outcome: Outcome, runtime: Runtime) -> str:
        reporter = runtime.reporter
        word = decide_last_word(cause, outcome, reporter.tail(), runtime.job.timeout_seconds)
        if cause == OVER:
            return self._add_exit_code(outcome, reporter)
        if word is None:
            return f"no last word: {cause}"
        # A taken instance has seconds left, and the word matters more than the lines.
        reporter.finish(5.0 if cause == INTERRUPTED else None)
        if self._situation.over:  # the last report's answer may have said so
            return self._add_exit_code(outcome, reporter)
        return self._call_back(word)

    def _add_exit_code(self, outcome: Outcome, reporter: Reporter) -> str:
        """Report the last lines and the exit code of an attempt that is over, within seconds.

        The instance is terminated soon, whether they are heard or not.
        """
        deadline = time.monotonic() + LAST_LINES_SECONDS
        reporter.finish(LAST_LINES_SECONDS)
        word = decide_exit_word(outcome)
        if word is None or reporter.has_ended:
            return f"no last word: {OVER}"

        def pause(seconds: float) -> bool:
            time.sleep(max(0.0, min(seconds, deadline - time.monotonic())))
            return time.monotonic() >= deadline

        answer = call_until_heard("exit code", lambda: self._api.callback(word), pause)
        kept = answer is not None and read_over(answer.json())[1]
        return f"the attempt was over, its exit code was {'kept' if kept else 'not kept'}"

    def _call_back(self, word: dict[str, Any]) -> str:
        # Until the maximum lifetime ends us.
        answer = call_until_heard("callback", lambda: self._api.callback(word), pause_for)
        status = answer.status if answer else 0
        return f"last word {'/'.join(word)} heard with status {status}"

    def _on_terminate(self, _number: int, _frame: object) -> None:
        """SIGTERM: the main thread stops the container; without one, nothing is to wait for."""
        self._situation.tell_terminated()
        if not self._container_may_exist:
            raise Terminated


def void(_value: object) -> None:
    """Drop a value."""


def pause_for(seconds: float) -> None:
    """Sleep, and say "go on" to `call_until_heard`."""
    time.sleep(seconds)


# --- other roles of this file --------------------------------------------------------------------


def simulate() -> int:
    """The simulated container: say what would have run, then do as SIMULATE_* say.

    The plan comes as one line on stdin. The pipe then stays open as a lifeline: when it closes, the
    agent is gone, and so are we.
    """
    # `os._exit`: the handler may strike in the middle of anything.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    plan = json.loads(read_line(0))
    env = plan["env"]
    say(1, "simulated, no container engine: would run " + shlex.join(plan["would_run"]))
    try:
        seconds = float(env.get("SIMULATE_SECONDS") or 0)
        code = int(env.get("SIMULATE_EXIT_CODE") or 0)
    except ValueError:
        seconds, code = -1.0, -1
    if not (0 <= seconds < threading.TIMEOUT_MAX and 0 <= code <= 255):
        say(2, "simulated: SIMULATE_SECONDS must be a number, SIMULATE_EXIT_CODE one from 0 to 255")
        return 2
    if seconds and select.select([0], [], [], seconds)[0]:
        return 128 + signal.SIGKILL
    if "SIMULATE_OUTPUT" in env:
        say(1, env["SIMULATE_OUTPUT"])
    if "SIMULATE_ERROR" in env:
        say(2, env["SIMULATE_ERROR"])
    elif code:
        say(2, f"simulated: exit code {code}")
    return code


def read_line(descriptor: int) -> bytes:
    """One line, read without buffering: what follows must stay visible to `select`."""
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        data += piece
    return data or b"{}"


def say(descriptor: int, text: str) -> None:
    """Print a line at once, whatever the locale."""
    data = text.encode("utf-8", "replace") + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def guard(name: str, env_file: str) -> int:
    """The container's guard: if the agent dies without "done", kill and remove what it left behind.

    It has a session of its own, so that what kills the agent's group does not kill it, and ends
    with the agent. A `docker create` may still be under way when the agent dies, hence more than
    one try.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while data := os.read(0, 64):
        said += data
    if said == b"done":
        return EXIT_ENDED
    log("the agent is gone, its container goes too", container=name)
    with contextlib.suppress(OSError):
        os.unlink(env_file)
    for _ in range(5):
        done = docker("rm", "--force", "--volumes", "--", name)
        if name in done.out:
            break
        time.sleep(1.0)
    return EXIT_ENDED


# --- main ----------------------------------------------------------------------------------------


def run_agent() -> int:
    """Run the attempt that the environment names, then end the process (or the machine)."""
    bootstrap_token = take_bootstrap_token(os.environ)
    bounds = read_bounds(os.environ)
    try:
        home = Home(bounds.instance_dir)
        if not home.take():
            log("another agent has this instance directory")
            return EXIT_INSTANCE_TAKEN
    except OSError as error:  # no such directory, a full disk: nothing can run here
        log("the instance directory cannot be used", error=type(error).__name__)
        if bounds.power_off:
            power_off()
        return EXIT_BAD_CONFIGURATION
    ending = Ending(home, by_power_off=bounds.power_off)
    lifetime = Lifetime(bounds, ending)
    lifetime.arm()
    try:
        config = read_config(os.environ)
        log("agent started", job=config.job_id, attempt=config.attempt, instance=config.instance_id)
        reason, code = Agent(config, home, lifetime).run(bootstrap_token), EXIT_ENDED
    except Terminated:
        reason, code = "terminated", EXIT_ENDED
    except ConfigError as error:
        reason, code = f"bad configuration: {error}", EXIT_BAD_CONFIGURATION
    except Exception as error:  # noqa: BLE001 - whatever it is, the instance must end
        reason, code = f"agent fault: {type(error).__name__}", 1
    for number in (signal.SIGTERM, signal.SIGINT):  # we are ending: nothing to add to that
        signal.signal(number, signal.SIG_IGN)
    return ending(reason, code)


def main(arguments: list[str]) -> int:
    """Play the role that the arguments name: the agent itself, unless they say otherwise."""
    if arguments == ["--simulate"]:
        return simulate()
    if arguments[:1] == ["--guard"]:
        return guard(*arguments[1:])
    if arguments:
        print("usage: docker_job_agent.py (all it needs is in the environment)", file=sys.stderr)
        return 64
    return run_agent()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
