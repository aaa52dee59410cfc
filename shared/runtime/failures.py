"""Failures of several tasks at once: one error is raised, and it hides none of the others."""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any

from shared.postgres.pool import is_transient


def failures_of(results: Iterable[object]) -> list[BaseException]:
    """Return the exceptions among the results of `gather(…, return_exceptions=True)`."""
    return [each for each in results if isinstance(each, BaseException)]


def as_one(failures: Sequence[BaseException]) -> BaseException | None:
    """Return the only failure, or a group that shows all of them; None without one."""
    if len(failures) < 2:
        return failures[0] if failures else None
    return BaseExceptionGroup(f"{len(failures)} failed", failures)


async def await_all(calls: Mapping[str, Awaitable[Any]], what: str, log: Any) -> None:
    """Await all *calls*; log each failure as *what* with the name of its call.

    Then raise the first that will not pass by itself, else the first.
    """
    done = await asyncio.gather(*calls.values(), return_exceptions=True)
    for name, result in zip(calls, done, strict=True):
        if isinstance(result, BaseException):
            if is_transient(result):
                log.warning(what, call=name, error=str(result))
            else:
                log.error(what, call=name, exc_info=result)
    failures = failures_of(done)
    for each in failures:
        if not is_transient(each):
            raise each
    if failures:
        raise failures[0]
