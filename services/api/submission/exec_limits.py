"""Refusals of what cannot be started: without a program or a directory, or too large.

Beyond the limits of Linux execve(2) fails with E2BIG, and then the container cannot start:
https://man7.org/linux/man-pages/man2/execve.2.html ("Limits on size of arguments and environment").
"""

from collections.abc import Iterable, Mapping, Sequence

from services.api.jobs.sizes import (
    MAX_EXEC_BYTES,
    MAX_FIELD_BYTES,
    MAX_VARIABLE_BYTES,
    OWN_BYTES,
    OWN_VARIABLES,
    STRING_COST,
)
from services.api.submission.faults import join
from services.api.submission.json_body import BadRequest

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
"""Linux takes 4096, and the engine puts its own directory before the path."""


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


def check_directory(path: str) -> None:
    """Refuse a working directory that no file system can hold. Raises `BadRequest`."""
    size, longest = len(path.encode()), max(len(name.encode()) for name in path.split("/"))
    if size > MAX_PATH_BYTES or longest > MAX_NAME_BYTES:
        raise BadRequest(
            f"working_dir is too long: at most {MAX_PATH_BYTES} bytes are taken, and "
            f"{MAX_NAME_BYTES} between two slashes"
        )


def check_names(**fields: Iterable[str]) -> None:
    """Refuse a variable that each container gets of its job. Raises `BadRequest`."""
    for field, names in fields.items():
        for name in _OWN.intersection(names):
            raise BadRequest(
                f"{join(field, name)} is set by docker-job, in every container: choose another name"
            )


_OWN = frozenset(OWN_VARIABLES)


def check_sizes(
    arguments: Mapping[str, Sequence[str]],
    variables: Mapping[str, Mapping[str, str]],
    secrets: Iterable[str],
) -> None:
    """Refuse what no program can be started with. Raises `BadRequest`.

    *arguments* and *variables* are by their fields; of *secrets* only the names are known.
    """
    for field, texts in arguments.items():
        if _bytes_of(texts) > MAX_FIELD_BYTES:
            raise BadRequest(f"{field} is too long, at most {MAX_FIELD_BYTES} bytes are taken")
    _check_variables(variables)
    for name in secrets:
        _check_variable(join("secrets", name), len(name))
    counts = {field: _count(texts, len(texts)) for field, texts in arguments.items()}
    for field, each in variables.items():
        counts[field] = _count((*each, *each.values()), len(each)) + len(each)  # each has a `=`
    total, largest = OWN_BYTES + sum(counts.values()), max(counts, key=counts.__getitem__)
    if total > MAX_EXEC_BYTES:
        others = " and ".join(field for field in counts if counts[field] and field != largest)
        whole = f"{largest} with {others}" if others else largest
        raise BadRequest(
            f"{whole} counts {total} bytes, at most {MAX_EXEC_BYTES} are taken "
            f"(each string counts its bytes and {STRING_COST} more, the container's own variables "
            f"{OWN_BYTES})"
        )


def _check_variables(variables: Mapping[str, Mapping[str, str]]) -> None:
    for field, each in variables.items():
        for name, value in each.items():
            _check_variable(join(field, name), _bytes_of((name, value)))
    size = sum(_bytes_of((*each, *each.values())) for each in variables.values())
    if size > MAX_FIELD_BYTES:
        first, *more = (field for field, each in variables.items() if each)
        whole = f"{first} with {more[0]}" if more else first
        raise BadRequest(f"{whole} holds {size} bytes, at most {MAX_FIELD_BYTES} are taken")


def _check_variable(path: str, size: int) -> None:
    if size > MAX_VARIABLE_BYTES:
        raise BadRequest(
            f"{path} with its name has {size} bytes, at most {MAX_VARIABLE_BYTES} are taken"
        )


def _bytes_of(texts: Iterable[str]) -> int:
    return len("".join(texts).encode())


def _count(texts: Iterable[str], strings: int) -> int:
    """Return what Linux counts for *texts* that become so many *strings*."""
    return _bytes_of(texts) + STRING_COST * strings
