"""The most that jobs may cost a day: asked for at the first deployment, kept by updates.

It is the services' setting DOCKER_JOB_QUOTA_USD_PER_DAY (docs/how-to/limit-what-it-costs.md).
"""

import sys
from collections.abc import Callable, Mapping

from deploy.refusal import Refusal

SETTING = "QUOTA_USD_PER_DAY"
NO_CAP = "none"
QUESTION = "deploy: how many USD may jobs cost a day, at most? (a number, or none) [none]: "


def terminal() -> Callable[[str], str] | None:
    """Return what asks on the terminal; None: nobody is there to answer."""
    return input if sys.stdin.isatty() and sys.stdout.isatty() else None


def choose(
    chosen: Mapping[str, str], given: str | None, ask: Callable[[str], str] | None
) -> dict[str, str]:
    """Apply `--usd-per-day`, or the answer of *ask*, to the settings *chosen*. Raises `Refusal`.

    *ask* is None where there is no question: nobody to ask, an update, or a dry run.
    """
    if given is None and ask is not None and SETTING not in chosen:
        given = ask(QUESTION).strip() or NO_CAP
    settings = dict(chosen)
    if given is None:
        return settings
    settings.pop(SETTING, None)
    if given.lower() != NO_CAP:
        settings[SETTING] = _amount(given)
    return settings


def sentence(settings: Mapping[str, str]) -> str:
    """Return what holds, for operators."""
    cap = settings.get(SETTING)
    if cap is None:
        return "no limit: whoever may submit jobs decides (--usd-per-day 50 sets one)"
    return f"{cap} USD a day at most; further launches wait until 00:00 UTC"


def _amount(given: str) -> str:
    try:
        amount = float(given)
    except ValueError:
        amount = 0.0
    if not 0.01 <= amount < 1e9:
        raise Refusal(
            f"--usd-per-day is {given!r}: it must be a number of USD from 0.01 on, or none."
        )
    return given
