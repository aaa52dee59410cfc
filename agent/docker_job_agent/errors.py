"""What can go wrong: one exception for each thing that the flow tells apart."""

from __future__ import annotations


class ConfigError(Exception):
    """The environment does not say what it must."""


class CouldNotRunError(Exception):
    """The container could not be made to run; the text is for the job's owner."""


class PullFailedError(CouldNotRunError):
    """The image could not be had; `permanent` if asking again cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class AwsError(Exception):
    """An AWS call was refused or not answered; the text names the error and holds no secret."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class StoppedBeforeRunningError(Exception):
    """A cause to stop came while the container did not run yet."""


class UnreachableError(Exception):
    """No HTTP answer came: refused, reset, timed out, or not HTTP."""


class Terminated(BaseException):  # like KeyboardInterrupt: no error, and nothing may swallow it
    """SIGTERM came while no container could exist: end at once."""
