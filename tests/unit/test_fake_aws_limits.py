"""The token buckets of the fake AWS, on a virtual clock, with EC2's published figures."""

import pytest

from fake_aws.buckets import Limits
from fake_aws.errors import AwsError
from fake_aws.settings import CloudSettings


class Hand:
    """A clock."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(limits: Limits, action: str) -> int:
    """Count the calls before one is throttled."""
    for count in range(10_000):
        try:
            limits.request(action)
        except AwsError:
            return count
    return 10_000


def test_a_throttled_call_is_refused_in_ec2s_words() -> None:
    limits = Limits(CloudSettings(), Hand())
    taken(limits, "RunInstances")

    with pytest.raises(AwsError) as refused:
        limits.request("RunInstances")
    assert (refused.value.code, refused.value.status) == ("RequestLimitExceeded", 503)


@pytest.mark.parametrize(
    ("action", "burst", "a_second"),
    [
        ("RunInstances", 5, 2),
        ("TerminateInstances", 100, 5),
        ("DescribeInstances", 100, 20),
        ("CreateTags", 100, 10),
        ("CreateFleet", 50, 5),
        ("CancelSpotInstanceRequests", 50, 5),
    ],
)
def test_each_action_has_the_bucket_that_ec2_publishes(
    action: str, burst: int, a_second: int
) -> None:
    clock = Hand()
    limits = Limits(CloudSettings(), clock)

    assert taken(limits, action) == burst
    clock.now = 1.0
    assert taken(limits, action) == a_second
    clock.now = 1000.0
    assert taken(limits, action) == burst


def test_a_thousand_instances_start_at_once_and_two_a_second_after() -> None:
    clock = Hand()
    limits = Limits(CloudSettings(), clock)
    limits.instances("RunInstances", 1000)

    with pytest.raises(AwsError):
        limits.instances("RunInstances", 1)
    clock.now = 1.0
    limits.instances("RunInstances", 2)
    with pytest.raises(AwsError):
        limits.instances("RunInstances", 1)


def test_throttling_can_be_off() -> None:
    assert taken(Limits(CloudSettings(throttle=False), Hand()), "RunInstances") == 10_000
