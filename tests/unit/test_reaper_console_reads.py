"""When the reaper reads a console again that its instance's end did not have."""

from datetime import UTC, datetime, timedelta

import pytest

from services.reaper.config import ReaperConfig
from services.reaper.late_consoles import decide_reads
from services.reaper.model import ConsoleRead, KeptConsole
from shared.console_text import NOTE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = ReaperConfig()


def schedule(jitter: float) -> list[float]:
    """Return the seconds from an end to each read of a console that never comes."""
    at = CONFIG.console_reads.delay(1, jitter)  # as `InstanceSweeps.record_terminated` has it
    found = [at]
    for tries in range(1, CONFIG.console_tries + 1):
        read = ConsoleRead(instance_id="i-1", tries=tries)
        due = decide_reads([read], {}, [], NOW + timedelta(seconds=at), jitter, CONFIG)
        if not due:
            break
        at = (due["i-1"] - NOW).total_seconds()
        found.append(at)
    return found


def test_eight_reads_cover_nine_to_twelve_minutes_and_each_pause_is_as_long_or_longer() -> None:
    assert schedule(0) == [15, 45, 105, 225, 345, 465, 585, 705]
    assert schedule(0.999)[-1] == pytest.approx(529, abs=1)
    assert 9 * 60 - 15 < schedule(0.999)[-1] < schedule(0)[-1] < 12 * 60


@pytest.mark.parametrize(
    ("output", "kept", "again"),
    [("Linux", True, False), ("Linux", False, True), (f"{NOTE}no answer]", True, True)],
)
def test_only_a_console_that_is_kept_ends_the_reads(
    output: str, *, kept: bool, again: bool
) -> None:
    read = ConsoleRead(instance_id="i-1", tries=1)
    found = {"i-1": KeptConsole(output=output, characters=5)}
    due = decide_reads([read], found, ["i-1"] if kept else [], NOW, 0, CONFIG)
    assert bool(due) is again
