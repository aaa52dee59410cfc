"""deploy.sh's checks before anything is made, on the strict cloud."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from deploy.account import Account, open_account
from deploy.examine import examine, report
from deploy.refusal import Refusal
from fake_aws import CloudSettings, CloudThread, start_cloud


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudThread]:
    with start_cloud(CloudSettings(speed=200.0, throttle=False)) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        yield cloud


@pytest.fixture
def account(cloud: CloudThread) -> Account:
    return open_account(None, None)


def test_a_good_account_has_only_good_findings(account: Account) -> None:
    out = io.StringIO()
    report(examine(account, {}), out)
    assert out.getvalue() == (
        "  Checked: clock, on-demand quota, Spot's role, jobs' image, Spot prices\n"
    )


@pytest.mark.parametrize(("seconds", "status"), [(90, "warn"), (-400, "fail"), (400, "fail")])
def test_a_clock_that_differs_is_found(account: Account, seconds: int, status: str) -> None:
    there = datetime.now(UTC) + timedelta(seconds=seconds)
    findings = examine(account, {}, there)
    assert [(each.name, each.status) for each in findings if each.status != "ok"] == [
        ("clock", status)
    ]
    if status == "fail":
        with pytest.raises(Refusal, match="NTP"):
            report(findings, io.StringIO())
    else:
        out = io.StringIO()
        report(findings, out)
        assert "To note: clock" in out.getvalue()


def test_a_quota_too_small_for_the_services_is_refused(
    cloud: CloudThread, account: Account
) -> None:
    cloud.control.set_quota(1, market="on-demand")
    with pytest.raises(Refusal, match="request-service-quota-increase"):
        report(examine(account, {}), io.StringIO())


def test_the_role_of_spot_is_made_with_the_stack(cloud: CloudThread, account: Account) -> None:
    iam = boto3.client("iam", **cloud.client_arguments())
    iam.delete_role(RoleName="AWSServiceRoleForEC2Spot")
    [found] = [each for each in examine(account, {}) if each.name == "Spot's role"]
    assert found.status == "ok"
    assert "made with the stack" in found.found


def test_an_image_of_the_operators_own_is_not_looked_for(account: Account) -> None:
    settings = {"Settings": '{"EC2_IMAGE_ID": "ami-1"}'}
    assert "jobs' image" not in [each.name for each in examine(account, settings)]


def test_nothing_is_changed(cloud: CloudThread, account: Account) -> None:
    examine(account, {})
    made = cloud.call(lambda each: {call.action for call in each.front.log})
    assert all(each.startswith(("Get", "Describe")) for each in made)
