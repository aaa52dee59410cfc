"""The reaper's decisions: terminated and orphaned instances, and their costs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.reaper import decisions
from services.reaper.config import ReaperConfig, from_settings
from services.reaper.decisions import ReaperRules, decide_unlisted
from services.reaper.model import TRANSITIONS, Findings, UnknownInstance, Watched, Watermark
from shared.compute.port import Instance, InstanceState
from shared.events.costs import NOTHING_ELSE, UNKNOWN_PRICES, CostLines, OtherPrices
from shared.events.events import Market
from shared.settings import Settings
from shared.states import sources

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = ReaperRules(
    visibility_seconds=60, orphan_seconds=60, max_lifetime_seconds=3600, lifetime_margin_seconds=60
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


WATCHED = Watched(
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
)
LISTED = Instance(
    instance_id="i-1",
    state=InstanceState.RUNNING,
    launch_token="t",
    job_id=1,
    attempt=1,
    launched_at=ago(100),
    instance_type="m7g.large",
    zone="zone-a",
    market="spot",
    hourly_price_usd=0.036,
)
OVER = replace(LISTED, state=InstanceState.TERMINATED, terminated_at=ago(10))


def findings(rows: Sequence[Watched], listed: Sequence[Instance]) -> Findings:
    return decisions.decide_findings(rows, {each.instance_id: each for each in listed}, NOW, RULES)


def test_an_end_is_billed_to_the_started_second_at_the_hourly_price() -> None:
    over = replace(OVER, terminated_at=ago(9.5))
    termination = decisions.decide_termination(WATCHED, over, NOW)
    assert termination.billed_seconds == 91
    assert termination.cost_usd == pytest.approx(0.00091)


def test_an_end_before_its_launch_costs_nothing() -> None:
    termination = decisions.decide_termination(WATCHED, replace(OVER, terminated_at=ago(200)), NOW)
    assert (termination.billed_seconds, termination.cost_usd) == (0, 0.0)


def test_an_end_without_a_time_is_billed_until_now() -> None:
    termination = decisions.decide_termination(WATCHED, replace(OVER, terminated_at=None), NOW)
    assert (termination.terminated_at, termination.billed_seconds) == (NOW, 100)


@pytest.mark.parametrize(
    ("market", "seconds", "interrupted", "billed"),
    [
        ("spot", 3599, True, 0),
        ("spot", 3600, True, 3600),
        ("spot", 1800, False, 1800),
        ("on-demand", 1800, True, 1800),
        ("spot", 0.5, False, 60),  # the cloud's minimum
        ("spot", -3, False, 60),
    ],
)
def test_an_instance_is_billed_from_a_minimum_on_and_free_if_soon_interrupted(
    market: Market, seconds: float, billed: int, *, interrupted: bool
) -> None:
    found = decisions.decide_billed_seconds(market, seconds, 60, spot_interrupted=interrupted)
    assert found == billed


def test_the_cost_is_at_the_mean_price_of_its_life_where_the_cloud_knows_it() -> None:
    moved = replace(OVER, hourly_price_usd=0.072)
    assert decisions.decide_termination(WATCHED, moved, NOW).cost_usd == pytest.approx(0.0018)
    unknown = replace(OVER, hourly_price_usd=None)
    assert decisions.decide_termination(WATCHED, unknown, NOW).cost_usd == pytest.approx(0.0009)


def test_the_price_of_the_other_market_is_not_that_of_the_instance() -> None:
    """Some emulators of EC2 name no market: the price that is shown is then that on demand."""
    other = replace(OVER, market="on-demand", hourly_price_usd=0.1)
    assert decisions.decide_termination(WATCHED, other, NOW).cost_usd == pytest.approx(0.0009)
    unknown = replace(WATCHED, hourly_price_usd=None)
    assert decisions.decide_termination(unknown, other, NOW).cost_usd is None


@pytest.mark.parametrize(
    ("at_launch", "over_its_life", "cost"),
    [
        (None, None, None),
        (None, 0.036, 0.0009),
        (0.0, None, None),  # of an earlier release, for which unknown was 0
        (0.0, 0.0, 0.0),  # a free one
    ],
)
def test_what_an_instance_of_unknown_price_has_cost_is_unknown_and_never_0(
    at_launch: float | None, over_its_life: float | None, cost: float | None
) -> None:
    watched = replace(WATCHED, hourly_price_usd=at_launch)
    over = replace(OVER, hourly_price_usd=over_its_life)
    found = decisions.decide_termination(watched, over, NOW).cost_usd
    assert found == (None if cost is None else pytest.approx(cost))


def test_what_is_not_billed_costs_nothing_whatever_its_price() -> None:
    taken = replace(OVER, hourly_price_usd=None, spot_interrupted=True)
    unknown = replace(WATCHED, hourly_price_usd=None)
    assert decisions.decide_termination(unknown, taken, NOW).cost_usd == 0.0


OTHERS = OtherPrices(public_ipv4_hourly_usd=0.005, volume_hourly_usd=0.0033)


def test_the_lines_of_a_cost_add_up_to_it() -> None:
    watched = replace(WATCHED, other_prices=OTHERS)
    terminated = decisions.decide_termination(watched, OVER, NOW)
    lines = CostLines(instance_usd=0.0009, public_ipv4_usd=0.000125, volume_usd=0.000082)
    assert terminated.cost_lines == lines
    assert terminated.cost_usd == pytest.approx(0.001107, abs=1e-12)
    event = decisions.termination_event(terminated)
    assert (event.cost_usd, event.cost_lines) == (terminated.cost_usd, lines)


def test_a_free_instance_has_paid_for_its_address_and_its_volume() -> None:
    """EC2 gives the instance of an interruption in its first hour, and nothing else."""
    taken = replace(OVER, hourly_price_usd=None, spot_interrupted=True)
    terminated = decisions.decide_termination(replace(WATCHED, other_prices=OTHERS), taken, NOW)
    assert terminated.billed_seconds == 0
    assert terminated.cost_lines == CostLines(
        instance_usd=0.0, public_ipv4_usd=0.000125, volume_usd=0.000082
    )
    assert terminated.cost_usd == pytest.approx(0.000207, abs=1e-12)


def test_address_and_volume_have_the_minimum_of_the_instance() -> None:
    over = replace(OVER, minimum_billed_seconds=3600)
    terminated = decisions.decide_termination(replace(WATCHED, other_prices=OTHERS), over, NOW)
    assert terminated.cost_lines == CostLines(
        instance_usd=0.036, public_ipv4_usd=0.005, volume_usd=0.0033
    )


@pytest.mark.parametrize(
    ("launched", "shown", "lines"),
    [
        (OTHERS, UNKNOWN_PRICES, (0.000125, 0.000082)),
        (None, OTHERS, (0.000125, 0.000082)),  # a launcher of an earlier release
        (UNKNOWN_PRICES, OTHERS, (0.000125, 0.000082)),
        (replace(OTHERS, volume_hourly_usd=None), UNKNOWN_PRICES, (0.000125, None)),
        (None, UNKNOWN_PRICES, (None, None)),
        (NOTHING_ELSE, OTHERS, (0.0, 0.0)),
    ],
)
def test_an_unknown_line_makes_the_cost_unknown_and_never_less(
    launched: OtherPrices | None,
    shown: OtherPrices,
    lines: tuple[float | None, float | None],
) -> None:
    watched = replace(WATCHED, other_prices=launched)
    terminated = decisions.decide_termination(watched, replace(OVER, other_prices=shown), NOW)
    found = terminated.cost_lines
    assert found is not None
    assert (found.instance_usd, found.public_ipv4_usd, found.volume_usd) == (0.0009, *lines)
    known = [each for each in lines if each is not None]
    expected = pytest.approx(0.0009 + sum(known), abs=1e-12) if len(known) == 2 else None
    assert terminated.cost_usd == expected


@pytest.mark.parametrize(
    ("end_cause", "reason", "interrupted", "cause"),
    [
        ("done", "Client.UserInitiatedShutdown", False, "done"),
        ("done", "Server.SpotInstanceTermination", True, "interrupted"),
        (None, "Client.InstanceInitiatedShutdown", False, "Client.InstanceInitiatedShutdown"),
        (None, "", False, "ended by itself"),
    ],
)
def test_the_cause_is_the_markets_then_ours_then_the_clouds(
    end_cause: str | None, reason: str, cause: str, *, interrupted: bool
) -> None:
    over = replace(OVER, state_reason=reason, spot_interrupted=interrupted)
    assert (
        decisions.decide_termination(replace(WATCHED, end_cause=end_cause), over, NOW).cause
        == cause
    )


def test_what_is_listed_alive_is_left_alone() -> None:
    assert findings([WATCHED], [LISTED]) == findings([], [])


@pytest.mark.parametrize("state", ["running", "ending"])
def test_what_is_listed_as_terminated_is_terminated(state: str) -> None:
    (termination,) = findings([replace(WATCHED, state=state)], [OVER]).terminated
    assert termination.terminated_at == ago(10)


@pytest.mark.parametrize("missing_seconds", [None, 61, 86_400])
def test_no_list_without_an_instance_does_more_than_mark_it_missing(
    missing_seconds: float | None,
) -> None:
    since = None if missing_seconds is None else ago(missing_seconds)
    found = findings([replace(WATCHED, missing_since=since)], [])
    assert found.missing == (("i-1",) if since is None else ())
    assert found.terminated == ()


def test_a_missing_instance_that_is_shown_again_is_not_missing_any_more() -> None:
    found = findings([replace(WATCHED, missing_since=ago(500))], [LISTED])
    assert (found.visible_again, found.terminated) == (("i-1",), ())


def test_what_has_outlived_its_time_by_the_margin_is_ended() -> None:
    assert findings([replace(WATCHED, dies_by=ago(59))], [LISTED]).expired == ()
    assert findings([replace(WATCHED, dies_by=ago(60))], [LISTED]).expired == ("i-1",)


def test_what_is_recorded_as_terminated_and_shown_alive_is_found() -> None:
    assert findings([replace(WATCHED, state="terminated")], [LISTED]).alive_after_end == ("i-1",)
    assert findings([replace(WATCHED, state="terminated")], [OVER]).alive_after_end == ()


def test_what_is_stopped_is_ended() -> None:
    stopped = replace(LISTED, state=InstanceState.STOPPED)
    assert findings([WATCHED], [stopped]).stopped == ("i-1",)
    assert findings([replace(WATCHED, state="ending")], [stopped]).stopped == ()


def test_no_row_gives_an_instance_more_than_the_maximum_lifetime() -> None:
    for_ever = replace(WATCHED, dies_by=ago(-(10**9)))
    old = replace(LISTED, launched_at=ago(3659))
    assert findings([for_ever], [old]).expired == ()
    assert findings([for_ever], [replace(old, launched_at=ago(3660))]).expired == ("i-1",)


def test_only_what_lives_and_has_no_row_is_unknown() -> None:
    assert findings([], [LISTED]).unknown == (LISTED,)
    assert findings([], [OVER]).unknown == ()


@pytest.mark.parametrize(
    ("before", "launch_sequence", "received_through", "trusted"),
    [(NOW, 5, 4, None), (NOW, 5, 5, NOW), (NOW, 5, 9, NOW), (None, 0, 0, None)],
)
def test_a_watermark_counts_once_every_launch_that_it_counts_is_received(
    before: datetime | None, launch_sequence: int, received_through: int, trusted: datetime | None
) -> None:
    watermark = Watermark(
        before=before, launch_sequence=launch_sequence, received_through=received_through
    )
    assert decisions.trusted_before(watermark) == trusted


@pytest.mark.parametrize(
    ("seen", "launched", "trusted", "ended", "dies"),
    [
        (0, 500, ago(0), True, False),  # at first sight never
        (59, 500, ago(0), True, False),
        (60, 500, ago(499), False, True),  # its launch would have been received
        (60, 500, ago(500), False, False),  # asked for at the watermark: not covered
        (60, 500, None, False, False),  # its launch may be on its way: it waits
        (9999, 3659, None, False, False),  # … up to the maximum lifetime
        (60, 3660, None, False, True),
        (60, 500, None, True, True),  # whoever it is, its attempt has ended
    ],
)
def test_an_unknown_instance_is_ended_only_when_it_is_surely_orphaned(
    seen: float, launched: float, trusted: datetime | None, *, ended: bool, dies: bool
) -> None:
    unknown = UnknownInstance(
        instance=replace(LISTED, launched_at=ago(launched)),
        first_seen_at=ago(seen),
        attempt_ended=ended,
    )
    assert decisions.decide_orphan(unknown, trusted, NOW, RULES) is dies


def test_nothing_leads_away_from_terminated() -> None:
    assert TRANSITIONS["terminated"] == frozenset()
    assert sources(TRANSITIONS, "terminated") == ["ending", "running"]


def test_settings_left_out_have_the_defaults_of_the_class() -> None:
    assert from_settings(Settings({})) == ReaperConfig()


def test_between_two_lists_a_few_intervals_count_and_no_more() -> None:
    assert decide_unlisted(None, NOW, RULES) == timedelta()
    assert decide_unlisted(ago(5), NOW, RULES) == timedelta()
    assert decide_unlisted(ago(15), NOW, RULES) == timedelta()
    assert decide_unlisted(ago(615), NOW, RULES) == timedelta(seconds=600)
    assert decide_unlisted(ago(-10), NOW, RULES) == timedelta()  # a clock was set back
