"""`deploy.sh --usd-per-day`: the cap is asked for, kept by updates, or said to be absent."""

import pytest

from deploy import cap
from deploy.refusal import Refusal
from tests.deploy.conftest import MotoCloud
from tests.deploy.test_refusals import ALLOW
from tests.deploy.test_settings import chosen

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")


def test_a_cap_is_a_setting_that_updates_keep_until_none_removes_it(aws: MotoCloud) -> None:
    plan = aws.deploy(*ALLOW, "--dry-run", "--usd-per-day", "50")
    assert plan.returncode == 0, plan.stderr
    assert "Jobs may cost: 50 USD a day at most" in plan.stdout
    run = aws.deploy(*ALLOW, "--usd-per-day", "50")
    assert run.returncode == 0, run.stderr
    assert "Limit:    50 USD a day at most" in run.stdout
    update = aws.deploy("--set", "CAPACITY=on_demand")
    assert chosen(aws)[cap.SETTING] == "50"
    assert "Limit:    50 USD a day" in update.stdout
    assert "no limit" in aws.deploy("--usd-per-day", "none").stdout
    assert cap.SETTING not in chosen(aws)


def test_without_a_terminal_it_prints_that_there_is_none(aws: MotoCloud) -> None:
    run = aws.deploy(*ALLOW, "--dry-run")
    assert "Jobs may cost: no limit: whoever may submit jobs decides" in run.stdout


def test_the_answer_on_a_terminal_is_taken_and_a_setting_needs_none() -> None:
    asked: list[str] = []

    def answering(text: str) -> str:
        asked.append(text)
        return " 12.5 "

    assert cap.choose({}, None, answering) == {cap.SETTING: "12.5"}
    assert cap.choose({}, None, lambda _: "") == {}
    assert cap.choose({cap.SETTING: "3"}, None, answering) == {cap.SETTING: "3"}
    assert cap.choose({cap.SETTING: "3"}, "none", answering) == {}
    assert len(asked) == 1


@pytest.mark.parametrize("given", ["0", "-1", "fifty", "nan", "inf", "1e12", ""])
def test_a_bad_cap_is_refused(given: str) -> None:
    with pytest.raises(Refusal, match=r"a number of USD from 0\.01 on, or none"):
        cap.choose({}, given, None)
