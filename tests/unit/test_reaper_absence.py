"""The reaper on instances that no list shows: only an answer about the id is a proof."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.reaper.absence import decide_absences, not_found_for, unconfirmed_event
from services.reaper.decisions import ReaperRules
from services.reaper.model import Absences, Watched
from shared.compute.port import Instance, InstanceState, NotFound
from shared.events.costs import CostLines, OtherPrices

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0
RULES = ReaperRules(
    visibility_seconds=60,
    orphan_seconds=60,
    max_lifetime_seconds=86_400,
    lifetime_margin_seconds=60,
    ask_seconds=30,
    not_found_seconds=4200,
)
FINAL, UNSURE = NotFound(final=True), NotFound(final=False)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


MISSING = Watched(
    instance_id="i-1",
    job_id=1,
    attempt=1,
    launch_token="t",
    trace="trace",
    state="running",
    market="spot",
    hourly_price_usd=0.036,
    launched_at=ago(100),
    dies_by=ago(-3500),
    missing_since=ago(60),
)
SHOWN = Instance(
    instance_id="i-1",
    state=InstanceState.RUNNING,
    launch_token="t",
    launched_at=ago(100),
    instance_type="m7g.large",
    zone="zone-a",
    market="spot",
    hourly_price_usd=0.036,
)


def decide(row: Watched, answer: Instance | NotFound | None) -> Absences:
    answers = {} if answer is None else {row.instance_id: answer}
    return decide_absences([row], answers, NOW, RULES)


def test_an_answer_of_terminated_ends_it_at_once() -> None:
    over = replace(SHOWN, state=InstanceState.TERMINATED, terminated_at=ago(70))
    (end,) = decide(replace(MISSING, missing_since=ago(1)), over).terminated
    assert (end.terminated_at, end.billed_seconds) == (ago(70), 30)
    assert end.cost_usd == pytest.approx(0.0003)


@pytest.mark.parametrize("state", [each for each in InstanceState if each.value != "terminated"])
def test_an_answer_of_any_other_state_ends_the_count(state: InstanceState) -> None:
    row = replace(MISSING, not_found_at=ago(30), not_found_seconds=10 * HOUR)
    found = decide(row, replace(SHOWN, state=state))
    assert (found.terminated, found.not_found, found.found) == ((), (), ("i-1",))


def test_without_an_answer_nothing_is_concluded_and_no_time_counts() -> None:
    row = replace(MISSING, missing_since=ago(10 * HOUR), not_found_at=ago(9 * HOUR))
    assert decide(row, None) == Absences(terminated=(), not_found=(), found=())
    assert not_found_for(row, NOW, RULES) == 3 * RULES.ask_seconds


@pytest.mark.parametrize("missing_seconds", [60, HOUR, 100 * HOUR])
def test_not_found_once_proves_nothing_however_long_lists_have_not_shown_it(
    missing_seconds: float,
) -> None:
    found = decide(replace(MISSING, missing_since=ago(missing_seconds)), UNSURE)
    assert found.terminated == ()
    [not_found] = found.not_found
    assert (not_found.watched.instance_id, not_found.seconds) == ("i-1", 0)


def test_the_end_that_is_certain_costs_what_was_known_at_its_launch() -> None:
    others = OtherPrices(public_ipv4_hourly_usd=0.005, volume_hourly_usd=0.0033)
    row = replace(MISSING, missing_since=ago(70), other_prices=others)
    (end,) = decide(row, FINAL).terminated
    assert end.cost_lines == CostLines(
        instance_usd=0.0003, public_ipv4_usd=0.000042, volume_usd=0.000028
    )
    (earlier,) = decide(replace(row, other_prices=None), FINAL).terminated
    assert earlier.cost_usd == pytest.approx(0.0003)
    assert earlier.cost_lines is None


@pytest.mark.parametrize(("before", "ended"), [(HOUR, False), (4169, False), (4170, True)])
def test_not_found_for_longer_than_a_terminated_instance_is_shown_is_the_end(
    before: float, *, ended: bool
) -> None:
    row = replace(MISSING, missing_since=ago(5000), not_found_at=ago(30), not_found_seconds=before)
    found = decide(row, UNSURE)
    assert bool(found.terminated) is ended
    assert bool(found.not_found) is not ended


def test_the_end_that_nobody_saw_is_as_of_the_first_miss_at_an_unknown_cost() -> None:
    row = replace(MISSING, not_found_at=ago(30), not_found_seconds=4200)
    (end,) = decide(row, UNSURE).terminated
    assert (end.cause, end.terminated_at, end.billed_seconds) == ("vanished", ago(60), 40)
    assert end.cost_usd is None
    (never_shown,) = decide(replace(row, missing_since=ago(100)), UNSURE).terminated
    assert (never_shown.billed_seconds, never_shown.cost_usd) == (0, None)


def test_a_certain_answer_is_the_end_once_a_new_instance_would_be_shown() -> None:
    (end,) = decide(MISSING, FINAL).terminated
    assert (end.cause, end.terminated_at, end.billed_seconds) == ("vanished", ago(60), 40)
    assert end.cost_usd == pytest.approx(0.0004)
    (end,) = decide(replace(MISSING, end_cause="done", state="ending"), FINAL).terminated
    assert end.cause == "done"
    assert decide(replace(MISSING, missing_since=ago(59)), FINAL).terminated == ()


def test_the_time_without_a_list_does_not_count_for_a_certain_answer() -> None:
    row = replace(MISSING, missing_since=ago(75), unlisted_seconds=20)
    assert decide(row, FINAL).terminated == ()
    (end,) = decide(replace(row, unlisted_seconds=15), FINAL).terminated
    assert end.terminated_at == ago(75)


def test_a_clock_that_was_set_back_counts_nothing() -> None:
    row = replace(MISSING, not_found_at=ago(-100), not_found_seconds=5)
    assert not_found_for(row, NOW, RULES) == 5


@pytest.mark.parametrize(
    ("not_found_at", "before", "published"),
    [
        (None, 0, True),  # the first answer
        (ago(30), 30, False),
        (ago(30), 270, True),  # five minutes of answers
        (ago(30), 300, False),
        (ago(30), 3580, True),
    ],
)
def test_what_is_not_confirmed_is_published_at_first_and_every_five_minutes(
    not_found_at: datetime | None, before: float, *, published: bool
) -> None:
    row = replace(MISSING, not_found_at=not_found_at, not_found_seconds=before)
    [not_found] = decide(row, UNSURE).not_found
    event = unconfirmed_event(not_found)
    assert (event is not None) is published
    if event is not None:
        left = timedelta(seconds=RULES.not_found_seconds - not_found.seconds)
        assert (event.missing_since, event.assumed_at) == (ago(60), NOW + left)


def test_nothing_is_published_of_an_orphan_or_where_the_answer_is_certain() -> None:
    orphan = replace(MISSING, job_id=None, attempt=None)
    for row, answer in ((orphan, UNSURE), (replace(MISSING, missing_since=ago(1)), FINAL)):
        [not_found] = decide(row, answer).not_found
        assert unconfirmed_event(not_found) is None
