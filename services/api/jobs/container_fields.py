"""The fields of a job that say how its container is run, each with its bounds and its message.

`fields.py` has them in its declaration, and says what `Meta.extra` is.
"""

from typing import Annotated

from msgspec import Meta

from services.api.jobs import signals

MAX_STOP_GRACE_SECONDS = 600
LAST_USER_ID = 2_147_483_647  # docker: "uids and gids must be in range 0-2147483647"
# A name, or a number up to LAST_USER_ID.
_USER = (
    r"[A-Za-z_][A-Za-z0-9_.-]*\$?|[0-9]{1,9}|1[0-9]{9}|20[0-9]{8}|21[0-3][0-9]{7}|214[0-6][0-9]{6}"
    r"|2147[0-3][0-9]{5}|21474[0-7][0-9]{4}|214748[0-2][0-9]{3}|2147483[0-5][0-9]{2}"
    r"|21474836[0-3][0-9]|214748364[0-7]"
)
_BAD_SIGNAL = (
    "{path} {value} is not a signal: write a name, like 'SIGTERM', 'INT' or 'SIGRTMIN+3', or a "
    f"number from 1 to {signals.LAST_NUMBER}"
)

User = Annotated[
    str,
    Meta(
        pattern=rf"\A(?:{_USER})(?::(?:{_USER}))?\Z",
        max_length=256,
        description="Replaces the image's user: a name in the image or a number, perhaps "
        "with a group (`1000:1000`).",
        examples=["1000:1000", "nobody"],
        extra={
            "wrong": "{path} {value} is not a user: write a name or a number up to "
            f"{LAST_USER_ID}, perhaps with a group, like '1000:1000' or 'nobody'"
        },
    ),
]
WorkingDirectory = Annotated[
    str,
    Meta(
        pattern=r"\A(?:/[^/\u0000]{0,255})+\Z",
        max_length=1024,
        description="Replaces the image's working directory; it is made if the image has "
        "none of that name. At most 1024 bytes, 255 between two slashes.",
        examples=["/data"],
        extra={
            "wrong": "{path} must be an absolute path, like '/data', of at most 1024 bytes, "
            "255 between two slashes"
        },
    ),
]
ShmSize = Annotated[
    int,
    Meta(
        ge=1,
        le=1_048_576,
        description="The size of `/dev/shm` in MiB, which counts as the container's "
        "memory; left out: 64.",
        examples=[1024],
    ),
]
Init = Annotated[
    bool,
    Meta(
        description="Whether docker's init is the container's first process: it passes "
        "signals on and ends zombies. Left out: true, and false if the program that the "
        "container starts with is an init (`/init`, `tini`, `systemd` …).",
        examples=[False],
    ),
]
StopSignal = Annotated[
    str,
    Meta(
        pattern=rf"\A(?:{signals.PATTERN})\Z",
        description="The signal that stops the container, by name or number; left out: "
        "the image's, or SIGTERM.",
        examples=["SIGINT", "SIGRTMIN+3"],
        extra={
            "wrong": _BAD_SIGNAL,
            "wrong_type": _BAD_SIGNAL,
            "written": {
                "type": ["string", "integer"],
                "minimum": 1,
                "maximum": signals.LAST_NUMBER,
            },
        },
    ),
]
StopGrace = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_STOP_GRACE_SECONDS,
        description="The time from the stop signal to SIGKILL; left out: "
        "`DOCKER_JOB_STOP_GRACE_SECONDS`. An interruption leaves less than two minutes.",
        examples=[60],
    ),
]
ReadOnly = Annotated[
    bool,
    Meta(
        description="The container's file system is read-only, but for its volumes, "
        "`/dev/shm` and an empty `/tmp` in memory.",
        examples=[True],
    ),
]
