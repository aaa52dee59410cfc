"""The launcher's decisions: the transition for each answer, and its event."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.launcher import decisions, offers
from services.launcher.config import REFUSED, UNKNOWN, LauncherConfig, from_settings
from services.launcher.decisions import Pace
from services.launcher.model import TRANSITIONS, Launch, Verdict
from services.launcher.offers import Gather, Group, Home
from shared.compute.choice import NotSold
from shared.compute.port import (
    ComputeError,
    Deferred,
    Instance,
    InstanceState,
    NoCapacity,
    Plan,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)
from shared.events.events import InstanceLaunched, LaunchDelayed, LaunchRefused, Market
from shared.events.quotas import Limits
from shared.events.requirements import Capacity, Requirements, Resources
from shared.quota_settings import Quotas
from shared.settings import BadSetting, Settings
from shared.states import settled
from shared.tokens import bootstrap_token

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PACE = Pace(refused=REFUSED, unknown=UNKNOWN, repeat_delay_seconds=60, spot_wait_seconds=600)
HOME = Home(deployment="home", api_url="http://api", spot_wait_seconds=600)
GATHER = Gather(idle_seconds=0.035, longest_seconds=1)
PLAN: Plan = {"image": "ami-1", "subnets": ["a", "b"]}
WANTED = Launch(
    job_id=7,
    attempt=2,
    state="wanted",
    unwanted=False,
    requirements=Requirements(max_lifetime_seconds=3600),
    trace="t",
    offer=1,
    wanted_at=NOW,
    due_at=NOW,
)


def ask(*launches: Launch, now: datetime = NOW) -> tuple[Launch, ...]:
    """Return the launches as they are committed before the cloud is asked."""
    (group,) = offers.decide_groups(launches, now, 100, HOME)
    return offers.decide_batch(group, PLAN, now).launches


(ASKED,) = ask(WANTED)


@pytest.mark.parametrize(
    ("deployment", "of_key", "created_by", "most"),
    [
        (None, None, "1f2e3d4c", None),
        (8, None, "1f2e3d4c", 8),
        (8, 4, "1f2e3d4c", 4),
        (8, 4, None, 8),  # jobs without a key count for the deployment alone
        (None, 4, None, None),
    ],
)
def test_an_offer_has_the_vcpus_that_the_quotas_can_admit(
    deployment: int | None, of_key: int | None, created_by: str | None, most: int | None
) -> None:
    quotas = Quotas(deployment=Limits(vcpus=deployment), key=Limits(vcpus=of_key))
    needs = replace(WANTED.requirements, created_by=created_by)
    launches = [replace(WANTED, requirements=needs)]
    (group,) = offers.decide_groups(launches, NOW, 100, replace(HOME, quotas=quotas))
    assert group.offer.most_vcpus == most


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def refuse(
    launch: Launch, error: ComputeError, now: datetime = NOW, *, repeated: bool = False
) -> Verdict:
    return decisions.decide_refusal(launch, error, now, 0.0, PACE, repeated=repeated)


def wanting(**changes: object) -> Launch:
    """Return the wanted launch with other requirements."""
    return replace(WANTED, requirements=replace(WANTED.requirements, **changes))


def test_the_intent_has_a_token_of_the_deployment_job_attempt_and_offer() -> None:
    tokens = {
        offers.launch_token(deployment, job_id, attempt, offer)
        for deployment in ("home", "work")
        for job_id in (1, 11)
        for attempt in (1, 11)
        for offer in (1, 11)
    }
    assert len(tokens) == 16
    assert {len(token) for token in tokens} == {64}


def test_a_batch_s_token_is_that_of_its_plan_and_its_launches_in_order() -> None:
    one, other = WANTED, replace(WANTED, job_id=8)
    tokens = {
        offers.decide_batch(Group(offer=offer, launches=launches), plan, NOW).token
        for plan in (PLAN, {})
        for launches in ((one,), (one, other), (other, one), (replace(one, offer=2),))
        for offer in (offers.decide_groups([one], NOW, 9, HOME)[0].offer,)
    }
    assert len(tokens) == 8
    assert {len(token) for token in tokens} == {64}


def test_a_plan_has_the_same_hash_whatever_the_order_of_its_names() -> None:
    assert offers.hash_of({"a": 1, "b": {"c": 2, "d": 3}}) == offers.hash_of(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )


def test_each_launch_of_a_batch_has_its_place_and_its_own_token() -> None:
    asked = ask(WANTED, replace(WANTED, job_id=8), replace(WANTED, job_id=9))
    assert [each.batch_place for each in asked] == [0, 1, 2]
    assert len({each.batch_token for each in asked}) == 1
    assert len({each.launch_token for each in asked}) == 3


def test_the_stored_parameters_hold_no_secret_and_the_call_has_it() -> None:
    (group,) = offers.decide_groups([WANTED], NOW, 100, HOME)
    batch = offers.decide_batch(group, PLAN, NOW)
    (request,) = offers.call_of(batch, "key", batch.asked_at).requests
    assert request.bootstrap_token == bootstrap_token("key", "home", 7, 2)
    assert request.bootstrap_token not in repr(batch)
    assert request.max_lifetime_seconds == 3600


@pytest.mark.parametrize(
    ("due", "seen", "until"),
    [
        ((), 0, None),  # nothing is due
        ((0.010,), 0.010, 0.025),  # the newest was seen 10 ms ago: 25 more
        ((0.900, 0.500), 0.010, 0.025),
        ((0.990, 0.010), 0.010, 0.010),  # the oldest has waited a second by then
        ((1.500, 0.001), 0, None),
        ((0.900,), 0.035, None),
        ((0.001,) * 5, 0, None),  # a full batch
    ],
)
def test_launches_are_gathered_until_none_comes_or_the_oldest_has_waited_enough(
    due: tuple[float, ...], seen: float, until: float | None
) -> None:
    launches = [replace(WANTED, due_at=NOW - seconds(each)) for each in due]
    growth = offers.decide_growth(launches, None, NOW - seconds(seen))
    decided = offers.decide_gather(launches, growth, NOW, 5, GATHER)
    assert decided == (None if until is None else NOW + seconds(until))
    assert offers.decide_gather(launches, growth, NOW, 5, None) is None


def test_what_is_due_has_grown_when_its_newest_is_seen_for_the_first_time() -> None:
    older, newer = (replace(WANTED, due_at=NOW - seconds(each)) for each in (2, 1))
    first = offers.decide_growth([older], None, NOW)
    assert first is not None
    assert offers.decide_growth([older], first, NOW + seconds(3)) == first
    grown = offers.decide_growth([older, newer], first, NOW + seconds(3))
    assert grown is not None
    assert grown.seen_at == NOW + seconds(3)
    assert offers.decide_growth([], grown, NOW) is None


def test_what_differs_in_market_or_resources_is_asked_for_apart() -> None:
    due = [
        WANTED,
        wanting(resources=Resources(vcpus=4)),
        wanting(capacity="on_demand"),
        replace(WANTED, job_id=8),
        wanting(max_lifetime_seconds=60),  # the machine's own timer is the deployment's
    ]
    groups = offers.decide_groups(due, NOW, 100, HOME)
    assert [len(each.launches) for each in groups] == [3, 1, 1]
    assert [each.offer.market for each in groups] == ["spot", "spot", "on-demand"]


def test_labels_of_an_event_of_an_earlier_release_have_no_part_in_a_launch() -> None:
    due = [replace(wanting(labels={"run": str(each)}), job_id=each) for each in range(400)]
    asked = ask(*due[:100])
    assert len(offers.decide_groups(due, NOW, 500, HOME)) == 1
    assert {bool(each.params and each.params.labels) for each in asked} == {False}


@pytest.mark.parametrize(("values", "calls"), [(1, 1), (5, 5), (400, 400)])
def test_a_cost_tag_s_equal_values_are_asked_for_together(values: int, calls: int) -> None:
    due = [replace(wanting(tags={"team": str(each % values)}), job_id=each) for each in range(400)]
    groups = offers.decide_groups(due, NOW, 500, HOME)
    assert len(groups) == calls
    for group in groups:
        (tags,) = {tuple(each.requirements.tags.items()) for each in group.launches}
        assert group.offer.tags == dict(tags)


def test_a_launch_that_an_earlier_release_has_asked_for_is_repeated_with_its_labels() -> None:
    (group,) = offers.decide_groups([WANTED], NOW, 100, HOME)
    batch = offers.decide_batch(group, PLAN, NOW)
    (launch,) = batch.launches
    assert launch.params is not None
    before = replace(launch, params=replace(launch.params, labels={"team": "a"}))
    (request,) = offers.call_of(replace(batch, launches=(before,)), "key", NOW).requests
    assert request.labels == {"team": "a"}


def test_no_call_is_larger_than_the_limit() -> None:
    due = [replace(WANTED, job_id=each) for each in range(25)]
    assert [len(each.launches) for each in offers.decide_groups(due, NOW, 10, HOME)] == [10, 10, 5]


@pytest.mark.parametrize(("tries", "most"), [(1, 5), (2, 2), (3, 1), (99, 1)])
def test_what_was_throttled_is_asked_for_in_smaller_calls_each_time(tries: int, most: int) -> None:
    due = [replace(WANTED, job_id=each, reason="throttled", tries=tries) for each in range(10)]
    groups = offers.decide_groups(due, NOW, 10, HOME)
    assert {len(each.launches) for each in groups} <= {most, 10 % most}
    assert sum(len(each.launches) for each in groups) == 10


@pytest.mark.parametrize(
    ("capacity", "own_wait", "after", "market"),
    [
        ("spot", None, 99_999, "spot"),
        ("on_demand", None, 0, "on-demand"),
        ("spot_then_on_demand", None, 599, "spot"),
        ("spot_then_on_demand", None, 600, "on-demand"),
        ("spot_then_on_demand", 60, 60, "on-demand"),
        ("spot_then_on_demand", 0, 0, "on-demand"),
    ],
)
def test_the_market_is_spot_until_the_wait_for_it_is_over(
    capacity: str, own_wait: int | None, after: float, market: str
) -> None:
    launch = wanting(capacity=capacity, spot_wait_seconds=own_wait)
    assert offers.decide_market(launch, NOW + seconds(after), 600) == market


def test_the_next_try_is_not_later_than_the_time_from_which_on_demand_is_allowed() -> None:
    (asked,) = ask(wanting(capacity="spot_then_on_demand", spot_wait_seconds=3))
    assert refuse(asked, NoCapacity("none")).launch.due_at == NOW + seconds(3)


def test_a_job_that_waits_for_spot_alone_and_so_long_is_refused_after_that() -> None:
    (asked,) = ask(wanting(capacity="spot", spot_wait_seconds=60))
    assert refuse(asked, NoCapacity("none"), NOW + seconds(59)).launch.state == "wanted"
    verdict = refuse(asked, NoCapacity("none in zone-a"), NOW + seconds(60))
    assert verdict.launch.state == "refused"
    assert verdict.events == (
        LaunchRefused(job_id=7, attempt=2, message="none in zone-a", reason="no_capacity"),
    )


@pytest.mark.parametrize(
    "error", [Throttled("slow down"), Unknown("timeout"), Stale("the plan is too old")]
)
def test_a_wait_for_spot_ends_only_with_an_answer_that_there_is_no_instance(
    error: ComputeError,
) -> None:
    waiting = wanting(capacity="spot", spot_wait_seconds=60)
    (asked,) = ask(waiting)
    for launch in (waiting, asked):  # while it is planned, and of the call
        assert refuse(launch, error, NOW + seconds(3600)).launch.settled_at is None
    for answer in (NoCapacity("none"), QuotaReached("64 vCPUs"), Deferred("not verified yet")):
        assert refuse(asked, answer, NOW + seconds(3600)).launch.state == "refused"


@pytest.mark.parametrize("kind", [NoCapacity, QuotaReached, Deferred])
def test_what_an_operator_can_change_ends_no_wait_for_spot(kind: type[ComputeError]) -> None:
    error = kind("SpotMaxPriceTooLow: 0.01 is lower than 0.0374")
    error.change = "check DOCKER_JOB_EC2_MAX_PRICE_USD"
    (asked,) = ask(wanting(capacity="spot", spot_wait_seconds=60))
    waiting = refuse(asked, error, NOW + seconds(3600)).launch
    assert (waiting.state, waiting.to_change) == ("wanted", error.change)


def test_a_lack_of_capacity_ends_the_wait_also_if_one_pool_lacks_what_an_operator_can_change() -> (
    None
):
    (asked,) = ask(wanting(capacity="spot", spot_wait_seconds=60))
    error = NoCapacity("none; of other pools: tenancy")
    error.change, error.in_part = "another subnet", True
    assert refuse(asked, error, NOW + seconds(3600)).launch.state == "refused"
    error.in_part = False
    waiting = refuse(asked, error, NOW + seconds(3600)).launch
    assert (waiting.settled_at, waiting.to_change) == (None, "another subnet")


def test_an_error_while_it_is_planned_is_definite_whatever_it_is() -> None:
    for error in (Unknown("timeout"), Throttled("slow down"), NoCapacity("all pools rest")):
        verdict = refuse(WANTED, error)
        assert verdict.launch.state == "wanted"
        assert len(verdict.events) == 1
    assert refuse(WANTED, Rejected("no such parameter")).launch.state == "refused"


@pytest.mark.parametrize(
    ("capacity", "market", "state"),
    [
        ("spot", "spot", "refused"),
        ("on_demand", "on-demand", "refused"),
        ("spot_then_on_demand", "spot", "wanted"),
        ("spot_then_on_demand", "on-demand", "refused"),
    ],
)
def test_a_type_that_spot_never_has_is_final_unless_its_turn_on_demand_comes(
    capacity: Capacity, market: Market, state: str
) -> None:
    launch = wanting(capacity=capacity, spot_wait_seconds=3)
    refused = refuse(launch, NotSold("not sold on Spot: hpc7a.96xlarge", market)).launch
    assert refused.state == state
    if state == "wanted":
        assert (refused.reason, refused.due_at) == ("no_capacity", NOW + seconds(3))


@pytest.mark.parametrize("state", list(InstanceState))
@pytest.mark.parametrize("unwanted", [False, True])
def test_an_instance_is_published_wanted_or_not_alive_or_not(
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
    assert event.launch_sequence == 41
    assert event.dies_by == NOW + seconds(3600)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NoCapacity("no m7g.large in zone-a"), "no_capacity"),
        (QuotaReached("64 vCPUs"), "quota_reached"),
        (Throttled("slow down"), "throttled"),
        (Stale("the template is gone"), "unknown_outcome"),
        (Deferred("PendingVerification: your account is being verified"), "unknown_outcome"),
    ],
)
def test_a_definite_refusal_is_followed_by_another_offer(error: ComputeError, reason: str) -> None:
    verdict = refuse(ASKED, error)
    assert (verdict.launch.state, verdict.launch.offer) == ("wanted", 2)
    assert verdict.launch.asked_at is None
    assert verdict.launch.due_at is not None
    (event,) = verdict.events
    assert isinstance(event, LaunchDelayed)
    assert (event.reason, event.message) == (reason, str(error))
    assert event.next_try_at == verdict.launch.due_at
    (following,) = ask(verdict.launch, now=NOW + seconds(5))
    assert following.launch_token == offers.launch_token("home", 7, 2, 2)


def test_an_unknown_outcome_stays_asked_and_is_repeated_soon() -> None:
    verdict = refuse(ASKED, Unknown("timeout"))
    assert verdict.launch.state == "asked"
    assert verdict.launch.params == ASKED.params
    assert verdict.launch.asked_at == NOW
    assert verdict.launch.due_at == NOW + seconds(1)


def test_throttling_after_an_unknown_outcome_is_no_refusal_of_the_first_call() -> None:
    verdict = refuse(ASKED, Throttled("slow down"), repeated=True)
    assert verdict.launch.state == "asked"


@pytest.mark.parametrize("kind", [NoCapacity, QuotaReached, Deferred, Stale])
def test_any_other_refusal_after_an_unknown_outcome_is_the_token_speaking(
    kind: Callable[[str], ComputeError],
) -> None:
    assert refuse(ASKED, kind("no"), repeated=True).launch.offer == 2


def test_a_rejection_is_published_in_the_clouds_own_words() -> None:
    verdict = refuse(ASKED, Rejected("InvalidAMIID.NotFound"))
    assert verdict.launch.state == "refused"
    assert verdict.launch.due_at is None
    assert verdict.events == (LaunchRefused(job_id=7, attempt=2, message="InvalidAMIID.NotFound"),)


@pytest.mark.parametrize("kind", [NoCapacity, QuotaReached, Throttled, Deferred, Stale, Rejected])
def test_a_definite_refusal_of_an_unwanted_launch_ends_it_without_an_event(
    kind: Callable[[str], ComputeError],
) -> None:
    verdict = refuse(replace(ASKED, unwanted=True), kind("no"))
    assert verdict.launch.state == "cancelled"
    assert verdict.events == ()


def test_an_unknown_outcome_of_an_unwanted_launch_is_asked_again() -> None:
    verdict = refuse(replace(ASKED, unwanted=True), Unknown("timeout"))
    assert verdict.launch.state == "asked"
    assert verdict.events == ()


@pytest.mark.parametrize("kind", [QuotaReached, Deferred])
def test_waiting_grows_while_the_reason_stays_and_starts_over_when_it_changes(
    kind: Callable[[str], ComputeError],
) -> None:
    launch, waits = ASKED, []
    for error in (*[kind("64 vCPUs")] * 8, Throttled("slow down")):
        waiting = refuse(launch, error).launch
        assert waiting.due_at is not None
        waits.append((waiting.due_at - NOW).total_seconds())
        (launch,) = ask(waiting)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 5]


def test_a_delay_is_published_when_the_reason_changes_and_else_once_a_minute() -> None:
    launch, published = ASKED, []
    for at, error in (
        (0, Unknown("a")),
        (1, Unknown("b")),
        (2, Throttled("c")),
        (61, Throttled("d")),
        (62, Throttled("e")),
        (63, Throttled("f")),
    ):
        now = NOW + seconds(at)
        asked = launch if launch.state == "asked" else ask(launch, now=now)[0]
        verdict = refuse(asked, error, now)
        published += [at for _ in verdict.events]
        launch = verdict.launch
    assert published == [0, 2, 62]


def test_the_watermark_stays_behind_the_oldest_open_call_and_the_clock_by_its_margin() -> None:
    idle = decisions.decide_watermark(9, None, NOW, 60)
    assert (idle.before, idle.launch_sequence) == (NOW - seconds(60), 9)
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


def test_the_longest_wait_holds_after_an_unknown_outcome_too() -> None:
    environ = {"DOCKER_JOB_LAUNCH_RETRY_LONGEST_SECONDS": "20"}
    config = from_settings(Settings(environ), deployment="d", api_url="u", token_key="k")
    assert [config.unknown.delay(tries, 0) for tries in (1, 5, 6, 20)] == [1, 16, 20, 20]


def test_a_longest_wait_below_the_first_is_refused_by_name() -> None:
    environ = {
        "DOCKER_JOB_LAUNCH_RETRY_SECONDS": "9",
        "DOCKER_JOB_LAUNCH_RETRY_LONGEST_SECONDS": "8",
    }
    with pytest.raises(BadSetting, match="LAUNCH_RETRY_LONGEST_SECONDS is 8"):
        from_settings(Settings(environ), deployment="d", api_url="u", token_key="k")
