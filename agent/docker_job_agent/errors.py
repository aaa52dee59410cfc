"""Exceptions: one for each failure that the flow distinguishes.

Exception
├── ConfigError                  the environment is incomplete: exit code 78
├── CouldNotRunError             the job fails, with this text for its owner
│   ├── EngineLostError          … because the engine went away: not the job's fault
│   └── PullFailedError          … because its image could not be pulled
├── AwsError                     AWS refused a call, or did not answer
├── EngineError                  the container engine gave no answer
├── StoppedBeforeRunningError    a cause to stop came before the container ran
└── UnreachableError             no HTTP answer
BaseException
└── Terminated                   SIGTERM while no container can exist: end at once
"""

from __future__ import annotations

MAX_ERROR_CHARACTERS = 8 * 1024  # of a text for the job's owner


class ConfigError(Exception):
    """A variable of the environment is missing or has no valid value; the text names it."""


class CouldNotRunError(Exception):
    """The container could not be run; the text is for the job's owner."""


class EngineLostError(CouldNotRunError):
    """The engine went away before the container ran: another attempt may have better luck."""


class PullFailedError(CouldNotRunError):
    """The image could not be pulled; `permanent` if another try cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class AwsError(Exception):
    """An AWS call was refused or not answered; the text names the error and holds no secret."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class EngineError(Exception):
    """The container engine gave no answer: it is away, or the connection broke."""


class StoppedBeforeRunningError(Exception):
    """A cause to stop came before the container ran."""


class UnreachableError(Exception):
    """No HTTP answer: refused, reset, timed out, or not HTTP."""


class Terminated(BaseException):  # like KeyboardInterrupt: no error, and nothing may swallow it
    """SIGTERM came while no container can exist: end at once."""
