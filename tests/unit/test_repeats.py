"""Asking again: when, and who may."""

from datetime import UTC, datetime, timedelta

import pytest

from services.launcher.model import KnownLaunch
from services.launcher.repeats import decide_repeat
from services.reaper.missed_launches import decide_gap
from services.reaper.model import LaunchGap, Watermark
from shared.compute.port import LaunchRequest
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchRefused
from shared.repeats import Listening, decide_listening, next_ask

START = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = timedelta(hours=25)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_what_stays_overdue_is_asked_for_again_when_the_time_has_doubled_at_most_hourly() -> None:
    asked, now = [], after(120)
    for _ in range(9):
        asked.append(int((now - START).total_seconds()) // 60)
        now = next_ask(START, now)
    assert asked == [2, 4, 8, 16, 32, 64, 124, 184, 244]


def test_a_clock_that_was_set_back_delays_the_next_request_by_minutes_only() -> None:
    assert next_ask(after(3600), after(0)) == after(120)


def listening(*passes: tuple[float, bool]) -> Listening:
    """Return the state after *passes*: their time, and whether messages flowed."""
    state = Listening()
    for seconds, receiving in passes:
        state = decide_listening(state, after(seconds), receiving=receiving)
    return state


def test_listening_counts_from_the_first_pass_that_could_receive() -> None:
    assert listening((0, True), (15, True), (30, True)).since == START


@pytest.mark.parametrize(
    "passes",
    [
        [(0, True), (15, False), (30, True)],  # the broker was away
        [(0, True), (15, True), (90, True)],  # no pass was made, or none succeeded
        [(60, True), (30, True)],  # the clock was set back
        [(0, False), (30, True)],
    ],
)
def test_after_an_interruption_listening_begins_anew(passes: list[tuple[float, bool]]) -> None:
    state = listening(*passes)
    assert state.since == after(passes[-1][0])
    assert not state.patient_since(START, after(passes[-1][0] + 119))
    assert state.patient_since(START, after(passes[-1][0] + 120))


def test_who_cannot_receive_is_never_patient() -> None:
    assert not listening((0, True), (15, False)).patient_since(START, after(86_400))


# -- the launcher


def launch(**fields: object) -> KnownLaunch:
    given: dict[str, object] = {"job_id": 1, "attempt": 2, "state": "wanted", "unwanted": False}
    return KnownLaunch(**{**given, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "known",
    [
        launch(due_at=START),
        launch(state="asked", due_at=START),
        launch(reason="no_capacity", due_at=START, unwanted=True),
        launch(state="cancelled", unwanted=True, reason="no_capacity"),
    ],
)
def test_of_a_launch_that_is_about_to_be_asked_for_or_cancelled_nothing_is_published(
    known: KnownLaunch,
) -> None:
    assert decide_repeat(known) is None


@pytest.mark.parametrize("state", ["wanted", "asked"])
def test_a_launch_that_waits_publishes_its_reason(state: str) -> None:
    known = launch(state=state, reason="quota_reached", due_at=after(5), last_error="32 vCPUs")
    assert decide_repeat(known) == LaunchDelayed(
        job_id=1, attempt=2, reason="quota_reached", message="32 vCPUs", next_try_at=after(5)
    )


def test_what_an_earlier_release_has_launched_is_published_as_far_as_it_is_known() -> None:
    params = LaunchRequest(
        token="t",
        deployment="home",
        job_id=1,
        attempt=2,
        max_lifetime_seconds=60,
        api_url="http://api",
        market="on-demand",
    )
    known = launch(
        state="launched",
        launch_token="t",
        params=params,
        instance_id="i-1",
        launched_at=START,
        launch_sequence=7,
    )
    assert decide_repeat(known) == InstanceLaunched(
        job_id=1,
        attempt=2,
        launch_token="t",
        instance_id="i-1",
        instance_type="unknown",
        zone="unknown",
        market="on-demand",
        hourly_price_usd=None,
        launched_at=START,
        dies_by=after(60),
        launch_sequence=7,
    )


def test_what_an_earlier_release_has_refused_is_refused_again() -> None:
    known = launch(state="refused", last_error="bad image id")
    assert decide_repeat(known) == LaunchRefused(job_id=1, attempt=2, message="bad image id")


# -- the reaper

PATIENT = Listening(START - timedelta(hours=1), START)


def watermark(received: int, counted: int) -> Watermark:
    return Watermark(before=START, launch_sequence=counted, received_through=received)


def test_a_gap_is_noticed_at_once_and_asked_for_only_if_it_lasts() -> None:
    noticed = decide_gap(None, watermark(4, 9), START, PATIENT, LIFE)
    assert noticed.gap == LaunchGap(first=5, through=9, since=START)
    early = decide_gap(noticed.gap, watermark(4, 12), after(119), PATIENT, LIFE)
    assert (early.gap, early.asks) == (noticed.gap, False)
    late = decide_gap(noticed.gap, watermark(4, 12), after(120), PATIENT, LIFE)
    assert (late.asks, late.alerts, late.skips) == (True, True, False)
    assert late.gap == LaunchGap(
        first=5, through=9, since=START, ask_again_at=after(240), alert_at=after(3720)
    )


def test_numbers_that_are_merely_on_their_way_begin_a_new_gap_each_time() -> None:
    before = LaunchGap(first=5, through=9, since=START)
    moved = decide_gap(before, watermark(5, 12), after(600), PATIENT, LIFE)
    assert moved.gap == LaunchGap(first=6, through=12, since=after(600))
    assert not moved.asks


def test_time_in_which_the_reaper_could_not_receive_is_no_reason_to_ask() -> None:
    gap = LaunchGap(first=5, through=9, since=START)
    back = Listening(after(500), after(610))
    assert not decide_gap(gap, watermark(4, 9), after(610), back, LIFE).asks
    assert decide_gap(gap, watermark(4, 9), after(620), back, LIFE).asks


def test_operators_are_alerted_at_first_and_then_hourly() -> None:
    gap: LaunchGap | None = LaunchGap(first=5, through=9, since=START)
    asked, alerted = [], []
    for minute in range(60 * 6):
        decision = decide_gap(gap, watermark(4, 9), after(60 * minute), PATIENT, LIFE)
        gap = decision.gap
        asked += [minute] if decision.asks else []
        alerted += [minute] if decision.alerts else []
    assert asked == [2, 4, 8, 16, 32, 64, 124, 184, 244, 304]
    assert alerted == [2, 64, 124, 184, 244, 304]


def test_a_gap_that_outlasts_every_instance_is_skipped_although_it_could_not_be_asked_for() -> None:
    gap = LaunchGap(first=5, through=9, since=START)
    deaf = Listening(None, after(0))
    soon = START + LIFE - timedelta(seconds=1)
    assert not decide_gap(gap, watermark(4, 12), soon, deaf, LIFE).skips
    skipped = decide_gap(gap, watermark(4, 12), START + LIFE, deaf, LIFE)
    assert (skipped.skips, skipped.gap) == (True, None)


@pytest.mark.parametrize("asked", [True, False])
def test_a_complete_watermark_ends_the_gap(asked: bool) -> None:  # noqa: FBT001 - a parameter
    gap = LaunchGap(first=5, through=9, since=START, ask_again_at=START if asked else None)
    decision = decide_gap(gap, watermark(9, 9), after(60), PATIENT, LIFE)
    assert (decision.gap, decision.healed, decision.asks) == (None, asked, False)
