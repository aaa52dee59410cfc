"""The cost that a job's last event tells."""

import pytest
from msgspec.structs import replace

from shared.events.costs import OtherPrices
from shared.events.events import JobFinished
from tests.support.api.api_story import (
    DONE,
    STOPPED,
    Story,
    after,
    an_attempt,
    launched,
    terminated,
)


def cost(story: Story) -> float | None:
    [finished] = story.published_of(JobFinished)
    found: float | None = finished.cost_usd
    return found


def test_an_instance_that_still_runs_counts_with_its_time_until_now() -> None:
    """At 0.01 USD an hour."""
    story = Story()
    story.deliver(launched(at=after(100)), after(101))
    story.claim(now=after(130))
    story.call_back(DONE, now=after(460))
    assert cost(story) == 0.001


def test_a_terminated_instance_counts_with_what_it_cost() -> None:
    story = Story()
    story.deliver(launched())
    story.claim()
    story.call_back(STOPPED)
    story.deliver(terminated(spot=True), after(60))
    story.deliver(launched(2, at=after(60)), after(60))
    story.claim(2, after(70))
    story.call_back(DONE, 2, after(420))
    assert cost(story) == pytest.approx(0.02 + 0.001)


def test_address_and_volume_count_from_the_launch_on() -> None:
    story = Story()
    others = OtherPrices(public_ipv4_hourly_usd=0.005, volume_hourly_usd=0.005)
    story.deliver(replace(launched(at=after(100)), other_prices=others), after(101))
    story.claim(now=after(130))
    story.call_back(DONE, now=after(460))
    assert cost(story) == 0.002


def test_an_unknown_price_of_the_volume_makes_the_cost_unknown() -> None:
    story = Story()
    others = OtherPrices(public_ipv4_hourly_usd=0.005, volume_hourly_usd=None)
    story.deliver(replace(launched(), other_prices=others))
    story.claim()
    story.call_back(DONE, now=after(60))
    assert cost(story) is None


def test_an_unknown_price_makes_the_cost_unknown() -> None:
    story = Story()
    story.deliver(replace(launched(), hourly_price_usd=None))
    story.claim()
    story.call_back(DONE, now=after(60))
    assert cost(story) is None


def test_a_job_without_an_instance_has_no_cost() -> None:
    story = Story(None, an_attempt(due_at=after(60)))
    story.cancel(after(5))
    assert cost(story) is None


def test_a_cloud_whose_clock_runs_ahead_makes_no_negative_cost() -> None:
    story = Story()
    story.deliver(launched(at=after(100)), after(1))
    story.claim(now=after(2))
    story.call_back(DONE, now=after(3))
    assert cost(story) == 0.0
