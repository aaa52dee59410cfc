"""The client of docker-job's HTTP API: `Client`, `AsyncClient`, their documents and errors.

The names are imported when they are first used: the command needs few of them to start.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from docker_job._async.client import AsyncClient
    from docker_job._sync.client import Client
    from docker_job.documents import (
        About,
        Attempt,
        Change,
        Instance,
        Job,
        ListedJob,
        LogEnd,
        LogLine,
        Page,
        Plan,
        Reset,
        Stats,
    )
    from docker_job.errors import (
        ApiError,
        BadRequest,
        ConfigurationError,
        Conflict,
        DockerJobError,
        NotFound,
        Unauthorized,
        UnexpectedAnswer,
        Unreachable,
    )
    from docker_job.key_documents import ApiKey, AuditEntry

_PLACES = {
    "docker_job._async.client": ("AsyncClient",),
    "docker_job._sync.client": ("Client",),
    "docker_job.documents": (
        *("About", "Attempt", "Change", "Instance", "Job", "ListedJob", "LogEnd", "LogLine"),
        *("Page", "Plan", "Reset", "Stats"),
    ),
    "docker_job.key_documents": ("ApiKey", "AuditEntry"),
    "docker_job.errors": (
        *("ApiError", "BadRequest", "ConfigurationError", "Conflict", "DockerJobError"),
        *("NotFound", "Unauthorized", "UnexpectedAnswer", "Unreachable"),
    ),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "About",
    "ApiError",
    "ApiKey",
    "AsyncClient",
    "Attempt",
    "AuditEntry",
    "BadRequest",
    "Change",
    "Client",
    "ConfigurationError",
    "Conflict",
    "DockerJobError",
    "Instance",
    "Job",
    "ListedJob",
    "LogEnd",
    "LogLine",
    "NotFound",
    "Page",
    "Plan",
    "Reset",
    "Stats",
    "Unauthorized",
    "UnexpectedAnswer",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module at its first use."""
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACE_OF[name]), name)
