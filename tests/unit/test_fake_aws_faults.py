"""The chances of the fake AWS's faults: a seed's series is the same in every run."""

from fake_aws.faults import Fault, Faults


def faults() -> Faults:
    found = Faults(seed=11)
    found.add(Fault(action="CreateFleet", kind="lost_after", times=None, chance=0.3))
    found.add(Fault(action="Describe*", status=503, times=None, chance=0.5))
    return found


def struck(found: Faults, action: str) -> bool:
    return found.strike(action) is not None


def test_what_the_nth_call_of_an_action_meets_does_not_depend_on_the_calls_between() -> None:
    alone = faults()
    expected = [struck(alone, "CreateFleet") for _ in range(40)]
    assert {True, False} == set(expected)
    mixed = faults()
    found = []
    for number in range(40):
        for _ in range(number % 3):
            mixed.strike("DescribeInstances")
        found.append(struck(mixed, "CreateFleet"))
    assert found == expected


def test_two_actions_that_one_fault_strikes_have_series_of_their_own() -> None:
    found = faults()
    instances = [struck(found, "DescribeInstances") for _ in range(40)]
    images = [struck(found, "DescribeImages") for _ in range(40)]
    assert instances != images
