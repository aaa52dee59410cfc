"""The errors of the client. Each says what is wrong and what to do, in a line each.

DockerJobError
├── ConfigurationError    the URL, the key or the configuration file cannot be used
├── Unreachable           no answer: refused, timed out, cut
├── UnexpectedAnswer      an answer that is not the API's: another program's, or a proxy's
└── ApiError              the API answered with an error
    ├── BadRequest        400, 413: the message names the field
    ├── Unauthorized      401, 403, 421
    ├── NotFound          404
    └── Conflict          409
"""

LIST_THEM = '"docker-job ps -a" lists the jobs and their names.'


class DockerJobError(Exception):
    """An error of this package: `what` is wrong, and what to do (`hint`, perhaps empty)."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what} {hint}".rstrip())
        self.what = what
        self.hint = hint


class ConfigurationError(DockerJobError):
    """The URL, the key or the configuration file cannot be used."""


class Unreachable(DockerJobError):
    """The API gave no answer, or its answer was cut."""

    def __init__(self, url: str, reason: str, *, local: bool = False) -> None:
        advice = 'Start it with "make run"' if local else "Check the address and the network"
        super().__init__(
            f"Cannot reach {url}: {reason}.",
            f'{advice}, or choose another with "docker-job login URL".',
        )
        self.url = url
        self.reason = reason


class UnexpectedAnswer(DockerJobError):
    """Something answered that is not the API: another program, or a proxy in its place."""

    def __init__(self, url: str, got: str) -> None:
        super().__init__(
            f"{url} answered with {got}, as docker-job's API does not.",
            'Check the URL, and what stands between; "docker-job login URL" chooses another.',
        )


class ApiError(DockerJobError):
    """The API answered with an error: its `status` and its `message`.

    `request_id` is the answer's `X-Request-Id`: the API's log has it. None from an earlier release.
    """

    default_hint = ""

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__(message, self.default_hint if hint is None else hint)
        self.status = status
        self.message = message
        self.request_id: str | None = None


class BadRequest(ApiError):
    """A field or parameter is wrong: the message names it and says what is right."""


class Unauthorized(ApiError):
    """The API key is missing, unknown or revoked, or its scope does not grant this."""

    default_hint = 'Give a key with "docker-job login URL", or in DOCKER_JOB_KEY.'


class NotFound(ApiError):
    """There is no such job, attempt, dead letter or route."""


class Conflict(ApiError):
    """The state of the job does not allow this."""


_KINDS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    413: BadRequest,
    421: Unauthorized,
}


def api_error(status: int, message: str) -> ApiError:
    """Make the error of an answer."""
    if status == 403:
        return Unauthorized(
            status, message, 'Use a key of a larger scope: "docker-job login URL" stores it.'
        )
    if status == 404 and message.startswith("Not found: /"):
        return NotFound(
            status,
            f"The API has no {message.removeprefix('Not found: ')}.",
            "It is older than this client: update it, or see `docker-job doctor`.",
        )
    if status == 404 and message.startswith("there is no job "):
        return NotFound(status, message, LIST_THEM)
    if status >= 500 or status == 429:
        return ApiError(status, message, "Try again; if it stays, see `docker-job doctor`.")
    return _KINDS.get(status, ApiError)(status, message)
