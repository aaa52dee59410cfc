"""The launcher's decisions: which answer leads where, and what is told of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.launcher import decisions
from services.launcher.config import REFUSED, UNKNOWN, LauncherConfig, from_settings
from services.launcher.decisions import Pace
from services.launcher.model import TRANSITIONS, Launch, Verdict
from shared.compute.port import (
    ComputeError,
    Instance,
    InstanceState,
    NoCapacity,
    QuotaReached,
    Rejected,
    Throttled,
    Unknown,
)
from shared.config import BadSetting, Settings
from shared.events import InstanceLaunched, LaunchDelayed, LaunchRefused, Requirements
from shared.states import settled
from shared.tokens import bootstrap_token

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PACE = Pace(refused=REFUSED, unknown=UNKNOWN, tell_again_seconds=60)
WANTED = Launch(
    job_id=7,
    attempt=2,
    state="wanted",
    unwanted=False,
    requirements=Requirements(max_lifetime_seconds=3600, labels={"team": "a"}),
    trace="t",
    offer=1,
    due_at=NOW,
)
ASKED = decisions.decide_intent(WANTED, "home", "http://api", NOW)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def refuse(launch: Launch, error: ComputeError, now: datetime = NOW) -> Verdict:
    return decisions.decide_refusal(launch, error, now, 0.0, PACE)


def test_the_intent_has_a_token_of_the_deployment_job_attempt_and_offer() -> None:
    tokens = {
        decisions.launch_token(deployment, job_id, attempt, offer)
        for deployment in ("home", "work")
        for job_id in (1, 11)
        for attempt in (1, 11)
        for offer in (1, 11)
    }
    assert len(tokens) == 16
    assert {len(token) for token in tokens} == {64}


def test_whoever_asks_again_asks_the_same_even_with_other_settings() -> None:
    again = decisions.decide_intent(ASKED, "other", "http://moved", NOW + seconds(90))
    assert (again.launch_token, again.params) == (ASKED.launch_token, ASKED.params)
    assert again.asked_at == NOW
    assert again.uncertain


def test_the_stored_parameters_hold_no_secret_and_the_call_has_it() -> None:
    assert ASKED.params is not None
    request = decisions.request_of(ASKED.params, "key")
    assert request.bootstrap_token == bootstrap_token("key", "home", 7, 2)
    assert request.bootstrap_token not in repr(ASKED)
    assert request.max_lifetime_seconds == 3600


@pytest.mark.parametrize("state", list(InstanceState))
@pytest.mark.parametrize("unwanted", [False, True])
def test_an_instance_is_told_wanted_or_not_alive_or_not(
    state: InstanceState, *, unwanted: bool
) -> None:
    instance = Instance(
        instance_id="i-1",
        state=state,
        launch_token=ASKED.launch_token or "",
        job_id=7,
        attempt=2,
        launched_at=NOW,
        instance_type="m7g.large",
        zone="zone-a",
        market="spot",
        hourly_price_usd=0.03,
    )
    verdict = decisions.decide_launched(replace(ASKED, unwanted=unwanted), instance, 41, NOW)
    assert verdict.launch.state == "launched"
    assert verdict.launch.settled_at == NOW
    (event,) = verdict.events
    assert isinstance(event, InstanceLaunched)
    assert event.told == 41
    assert event.dies_by == NOW + seconds(3600)


def test_no_capacity_makes_the_next_offer() -> None:
    verdict = refuse(ASKED, NoCapacity("no m7g.large in zone-a"))
    assert verdict.launch.state == "wanted"
    assert verdict.launch.offer == 2
    assert verdict.launch.due_at == NOW + seconds(5)
    following = decisions.decide_intent(verdict.launch, "home", "http://api", NOW + seconds(5))
    assert following.launch_token == decisions.launch_token("home", 7, 2, 2)
    assert verdict.events == (
        LaunchDelayed(
            job_id=7,
            attempt=2,
            reason="no_capacity",
            message="no m7g.large in zone-a",
            next_try_at=NOW + seconds(5),
        ),
    )


@pytest.mark.parametrize("error", [QuotaReached("64 vCPUs"), Throttled("slow down")])
def test_quota_and_throttling_wait_with_the_same_offer(error: ComputeError) -> None:
    verdict = refuse(ASKED, error)
    assert verdict.launch.state == "wanted"
    assert verdict.launch.launch_token == ASKED.launch_token
    assert verdict.launch.asked_at is None


def test_an_unknown_outcome_stays_asked_and_is_repeated_soon() -> None:
    verdict = refuse(ASKED, Unknown("timeout"))
    assert verdict.launch.state == "asked"
    assert verdict.launch.params == ASKED.params
    assert verdict.launch.asked_at == NOW
    assert verdict.launch.due_at == NOW + seconds(1)


def test_throttling_after_an_unknown_outcome_is_no_refusal_of_the_first_call() -> None:
    uncertain = refuse(ASKED, Unknown("timeout")).launch
    verdict = refuse(uncertain, Throttled("slow down"))
    assert verdict.launch.state == "asked"
    assert verdict.launch.uncertain


def test_no_capacity_after_an_unknown_outcome_is_the_token_speaking() -> None:
    uncertain = refuse(ASKED, Unknown("timeout")).launch
    assert refuse(uncertain, NoCapacity("none")).launch.offer == 2


def test_a_rejection_is_told_in_the_clouds_own_words() -> None:
    verdict = refuse(ASKED, Rejected("InvalidAMIID.NotFound"))
    assert verdict.launch.state == "refused"
    assert verdict.launch.due_at is None
    assert verdict.events == (LaunchRefused(job_id=7, attempt=2, message="InvalidAMIID.NotFound"),)


@pytest.mark.parametrize("kind", [NoCapacity, QuotaReached, Throttled, Rejected])
def test_a_definite_refusal_of_what_nobody_wants_ends_it_without_a_word(
    kind: Callable[[str], ComputeError],
) -> None:
    verdict = refuse(replace(ASKED, unwanted=True), kind("no"))
    assert verdict.launch.state == "cancelled"
    assert verdict.events == ()


def test_an_unknown_outcome_of_what_nobody_wants_goes_on_being_asked() -> None:
    verdict = refuse(replace(ASKED, unwanted=True), Unknown("timeout"))
    assert verdict.launch.state == "asked"
    assert verdict.events == ()


def test_waiting_grows_while_the_reason_stays_and_begins_anew_when_it_changes() -> None:
    launch, waits = ASKED, []
    for error in (*[QuotaReached("64 vCPUs")] * 8, Throttled("slow down")):
        waiting = refuse(launch, error).launch
        assert waiting.due_at is not None
        waits.append((waiting.due_at - NOW).total_seconds())
        launch = decisions.decide_intent(waiting, "home", "http://api", NOW)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 5]


def test_a_delay_is_told_when_the_reason_changes_and_else_once_a_minute() -> None:
    launch, told = ASKED, []
    for at, error in (
        (0, Unknown("a")),
        (1, Unknown("b")),
        (2, Throttled("c")),
        (61, Throttled("d")),
        (62, Throttled("e")),
        (63, Throttled("f")),
    ):
        now = NOW + seconds(at)
        verdict = refuse(decisions.decide_intent(launch, "home", "http://api", now), error, now)
        told += [at for _ in verdict.events]
        launch = verdict.launch
    assert told == [0, 2, 62]


def test_the_watermark_stays_behind_the_oldest_open_call_and_the_clock_by_its_margin() -> None:
    idle = decisions.decide_watermark(9, None, NOW, 60)
    assert (idle.before, idle.told) == (NOW - seconds(60), 9)
    open_since = NOW - seconds(300)
    assert decisions.decide_watermark(9, open_since, NOW, 60).before == open_since - seconds(60)
    ahead = decisions.decide_watermark(9, NOW + seconds(5), NOW, 60)
    assert ahead.before == NOW - seconds(60)


def test_nothing_follows_a_settled_launch() -> None:
    assert settled(TRANSITIONS) == {"launched", "refused", "cancelled"}
    for state in ("launched", "refused", "cancelled"):
        with pytest.raises(ValueError, match="cannot become"):
            refuse(replace(ASKED, state=state), Rejected("no"))


def test_settings_left_out_have_the_defaults_of_the_class_and_hide_the_key() -> None:
    config = from_settings(Settings({}), deployment="d", api_url="u", token_key="hush")
    assert config == LauncherConfig(deployment="d", api_url="u", token_key="hush")
    assert "hush" not in repr(config)


def test_a_longest_wait_below_the_first_is_refused_by_name() -> None:
    environ = {
        "DOCKER_JOB_LAUNCH_RETRY_SECONDS": "9",
        "DOCKER_JOB_LAUNCH_RETRY_LONGEST_SECONDS": "8",
    }
    with pytest.raises(BadSetting, match="LAUNCH_RETRY_LONGEST_SECONDS is 8"):
        from_settings(Settings(environ), deployment="d", api_url="u", token_key="k")
