"""The checks of fields about secrets: no name is given twice, the registry's login is there."""

from services.api.jobs.fields import BAD_LOGIN
from services.api.submission.faults import BadRequest


def check_registry_auth(value: str, names: set[str]) -> None:
    """Refuse a `registry_auth` that is neither "ecr" nor one of the job's secrets (*names*)."""
    if value != "ecr" and value not in names:
        raise BadRequest(BAD_LOGIN)


def check_apart(**fields: dict[str, str]) -> None:
    """Refuse a variable that has two values."""
    seen: dict[str, str] = {}
    for field, variables in fields.items():
        for name in variables:
            if name in seen:
                raise BadRequest(f"{field}.{name} is in {seen[name]} too: give it once")
            seen[name] = field
