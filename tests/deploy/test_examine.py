"""deploy.sh's checks before anything is made, on the strict cloud."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from msgspec.structs import replace

from deploy.account import Account, open_account
from deploy.examine import NOT_CHECKED, examine, report
from deploy.quotas import code_of
from deploy.refusal import Refusal
from fake_aws import CloudSettings, CloudThread, start_cloud
from shared.compute.ec2.quotas import QUOTAS, quota_of


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
        "  Checked: clock, on-demand quota, jobs' quota, Spot's role, jobs' image, Spot prices\n"
        + NOT_CHECKED
    )
    assert "permissions" in NOT_CHECKED


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


def test_an_account_whose_clock_is_off_is_refused_for_its_clock(cloud: CloudThread) -> None:
    # STS answers at ten minutes' difference, EC2 does not.
    changed = replace(cloud.cloud.settings, clock_ahead_seconds=600.0, verify_signatures=False)
    cloud.call(lambda each: each.front.change(changed))
    with pytest.raises(Refusal, match=r"(599|600|601) s behind AWS; synchronise the clock \(NTP\)"):
        open_account(None, None)


def _of(**settings: str) -> dict[str, str]:
    return {"Settings": json.dumps(settings)}


@pytest.mark.parametrize(
    ("quotas", "settings", "expected"),
    [
        ({"m": 5}, {}, {}),
        ({"m": 5}, {"EC2_VCPUS": "16"}, {"L-34B43A08": "fail"}),
        ({"m": 5}, {"EC2_INSTANCE_TYPES": "m5.4xlarge, c5.4xlarge"}, {"L-34B43A08": "fail"}),
        ({"m": 5, "g": 0}, {"EC2_INSTANCE_TYPES": "m5.large,g5.xlarge"}, {"L-3819A6DF": "warn"}),
        ({"m": 0, "g": 8}, {"EC2_INSTANCE_TYPES": "g5.xlarge"}, {}),
        ({"m": 0, "g": 0}, {"EC2_INSTANCE_TYPES": "g5.xlarge"}, {"L-3819A6DF": "fail"}),
        ({"m": 0}, {"CAPACITY": "on_demand"}, {}),
        ({"m": 1}, {"CAPACITY": "spot_then_on_demand"}, {"L-34B43A08": "warn"}),
    ],
)
def test_the_quotas_of_the_types_that_jobs_get_are_read(
    cloud: CloudThread,
    account: Account,
    quotas: dict[str, int],
    settings: dict[str, str],
    expected: dict[str, str],
) -> None:
    for family, vcpus in quotas.items():
        cloud.control.set_quota(vcpus, market="spot", family=family)
    findings = [each for each in examine(account, _of(**settings)) if each.status != "ok"]
    assert {each.name: each.status for each in findings} == {
        f"jobs' quota {code}": status for code, status in expected.items()
    }
    assert all("--desired-value 32 " in each.do for each in findings)
    ignored = examine(account, _of(**settings), ignore_quota=True)
    assert "fail" not in [each.status for each in ignored]


def test_a_type_that_the_region_does_not_have_is_noted(account: Account) -> None:
    [found] = [
        each
        for each in examine(account, _of(EC2_INSTANCE_TYPES="m5.nothing"))
        if each.name == "jobs' types"
    ]
    assert (found.status, "m5.nothing" in found.found) == ("warn", True)


def test_the_tables_of_quotas_are_those_of_the_launcher() -> None:
    for each in QUOTAS:
        for family in each.families:
            assert code_of(f"{family}5.large", each.market) == each.code
    for name in ("im4gn.large", "gr6.4xlarge", "mac2.metal", "vt1.3xlarge", "hpc7a.12xlarge"):
        for market in ("spot", "on-demand"):
            wanted = quota_of(name, market)
            assert code_of(name, market) == (wanted.code if wanted else "")


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
