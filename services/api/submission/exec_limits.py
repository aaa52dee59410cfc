"""Refusals of what cannot be started: no program, or too large arguments and environment.

Beyond the limits of Linux execve(2) fails with E2BIG, and then the container cannot start:
https://man7.org/linux/man-pages/man2/execve.2.html ("Limits on size of arguments and environment").
"""

from collections.abc import Iterable, Mapping, Sequence

from services.api.jobs.sizes import MAX_EXEC_BYTES, MAX_STRING_BYTES, STRING_COST
from services.api.submission.faults import join
from services.api.submission.json_body import BadRequest

MAX_SECRET_BYTES = 65_536
"""The longest value in Secrets Manager; SSM's are shorter."""


def check_program(entrypoint: Sequence[str], command: Sequence[str]) -> None:
    """Refuse an *entrypoint* that leaves no program to run. Raises `BadRequest`."""
    # Docker takes one empty text for no entrypoint.
    program = [*([] if list(entrypoint) == [""] else entrypoint), *command][:1]
    if not program:
        raise BadRequest(
            "entrypoint is empty, which removes the image's command too: name the program in "
            "entrypoint or command"
        )
    if not program[0]:
        raise BadRequest("entrypoint and command name no program: their first string is empty")


def check_sizes(
    arguments: Mapping[str, Iterable[str]],
    variables: Mapping[str, Mapping[str, str]],
    secrets: Iterable[str],
) -> None:
    """Refuse what no program can be started with. Raises `BadRequest`.

    *arguments* and *variables* are by their fields; of *secrets* only the names are known.
    """
    costs = {}
    for field, texts in arguments.items():
        costs[field] = sum(_argument(field, each) for each in texts)
    for field, each in variables.items():
        costs[field] = sum(_variable(field, name, value) for name, value in each.items())
    for name in secrets:
        _check_string(
            f"{join('secrets', name)} with the longest value", len(name) + 1 + MAX_SECRET_BYTES
        )
    total, largest = sum(costs.values()), max(costs, key=costs.__getitem__)
    if total > MAX_EXEC_BYTES:
        others = " and ".join(field for field in costs if costs[field] and field != largest)
        whole = f"{largest} with {others}" if others else largest
        raise BadRequest(
            f"{whole} counts {total} bytes, at most {MAX_EXEC_BYTES} are taken "
            f"(each string counts its bytes and {STRING_COST} more)"
        )


def _argument(field: str, text: str) -> int:
    size = len(text.encode())
    _check_string(f"a string of {field}", size)
    return size + STRING_COST


def _variable(field: str, name: str, value: str) -> int:
    size = len(name) + len("=") + len(value.encode())
    _check_string(f"{join(field, name)} with its name", size)
    return size + STRING_COST


def _check_string(what: str, size: int) -> None:
    if size > MAX_STRING_BYTES:
        raise BadRequest(f"{what} has {size} bytes, at most {MAX_STRING_BYTES} are taken")
