"""The doctor's tables and report, without AWS."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from operations.doctor import command_line, report
from operations.doctor.checks.api import _check_address
from operations.doctor.checks.stores import stores
from operations.doctor.installation import read_ec2, read_installation
from shared.compute.ec2.doctor.account import _mend
from shared.compute.ec2.doctor.asking import shorten
from shared.compute.ec2.doctor.permissions import BY_ROLE, CHANGING, PROBES, WITHIN
from shared.compute.ec2.doctor.queue import _arn
from shared.compute.ec2.doctor.routes import trouble_with
from shared.compute.ec2.doctor.run import run_bounded
from shared.compute.ec2.doctor.scene import Scene
from shared.findings import Finding, FindingGroup
from shared.settings import BadSetting, Settings

IAM = Path(__file__).parents[2] / "docs" / "iam"
EVERYWHERE = "0.0.0.0/0"


def actions_of(name: str) -> set[str]:
    """Return the actions of docs/iam/*name*.json."""
    statements = json.loads((IAM / f"{name}.json").read_text())["Statement"]
    given = [each["Action"] for each in statements]
    return {one for each in given for one in ([each] if isinstance(each, str) else each)}


@pytest.mark.parametrize("role", BY_ROLE)
def test_each_action_of_the_documents_is_proven(role: Any) -> None:
    assert set(BY_ROLE[role]) == actions_of(role)
    assert set(BY_ROLE[role]) <= {*PROBES, *WITHIN}


def test_the_doctors_own_policy_only_reads() -> None:
    reading = ("Describe", "Get", "List", "TestEventPattern")
    assert all(each.partition(":")[2].startswith(reading) for each in actions_of("doctor"))


def test_every_call_that_would_change_something_is_a_dry_run() -> None:
    reading = ("Describe", "Get", "Decode", "Receive")
    changing = {each for each in PROBES if not each.partition(":")[2].startswith(reading)}
    assert changing - {"sqs:DeleteMessage"} == set(CHANGING)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("NoCredentialsError", "name credentials"),
        ("UnauthorizedSSOTokenError", "aws sso login"),
        ("ConfigParseError", "cannot be read"),
        ("RequestExpired", "clock"),
        ("ExpiredTokenException", "get new ones"),
        ("InvalidSignatureException", "clock"),
        ("AuthFailure", "clock"),
        ("EndpointConnectionError", "AWS_ENDPOINT_URL"),
    ],
)
def test_each_fault_of_the_credentials_has_its_own_remedy(code: str, words: str) -> None:
    assert words in _mend(code, None)


def route(gateway: str, **more: str) -> dict[str, Any]:
    """Return a default route through *gateway*."""
    return {"DestinationCidrBlock": EVERYWHERE, "GatewayId": gateway, "State": "active", **more}


def table(*routes: dict[str, Any], subnet: str = "") -> dict[str, Any]:
    """Return the route table of *subnet*, or the VPC's main one."""
    association = {"SubnetId": subnet} if subnet else {"Main": True}
    return {"VpcId": "vpc-1", "Associations": [association], "Routes": list(routes)}


@pytest.mark.parametrize(
    ("public", "tables", "trouble"),
    [
        (True, [table(route("igw-1"))], ""),
        (False, [table(route("igw-1"))], "no public address"),
        (False, [table(route("", NatGatewayId="nat-1"))], ""),
        (False, [table(route("", TransitGatewayId="tgw-1"))], ""),
        (False, [table(route("", NatGatewayId="nat-1", State="blackhole"))], "blackhole"),
        (True, [table()], "no route out"),
        (True, [table(route("igw-1")), table(subnet="subnet-1")], "no route out"),
        (True, [table(), table(route("igw-1"), subnet="subnet-1")], ""),
        (True, [table(), table(route("igw-1"), subnet="subnet-2")], "no route out"),
        (True, [{**table(route("igw-1")), "VpcId": "vpc-2"}], "no route out"),
        (True, [], "no route out"),
    ],
)
def test_the_way_out_of_a_subnet(
    *, public: bool, tables: list[dict[str, Any]], trouble: str
) -> None:
    subnet = {"SubnetId": "subnet-1", "VpcId": "vpc-1", "MapPublicIpOnLaunch": public}
    found = trouble_with(subnet, tables)
    assert trouble in found
    assert bool(found) == bool(trouble)


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "arn:aws:sqs:eu-west-1:1:q"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "arn:aws-cn:sqs:cn-north-1:1:q"),
        ("http://127.0.0.1:4566/1/q", "arn:aws:sqs:us-east-1:1:q"),
    ],
)
def test_a_queues_arn_follows_from_its_url(url: str, arn: str) -> None:
    assert _arn(url, "us-east-1") == arn


def test_the_encoded_part_of_a_refusal_is_left_out() -> None:
    text = "You are not authorized. Encoded authorization failure message: AQICAHhx"
    assert shorten(text) == "You are not authorized."


FINDINGS = [
    Finding(group="account", name="clock", status="ok", found="it agrees"),
    Finding(group="network", name="routes", status="fail", found="no route", do="add\none"),
    Finding(group="account", name="region", status="warn", found="x", do="y"),
]


def test_the_report_has_a_line_for_each_finding_by_group() -> None:
    assert list(report.lines(FINDINGS)) == [
        "account",
        "  ok    clock   it agrees",
        "  warn  region  x; y",
        "network",
        "  fail  routes  no route; add one",
        "1 failed: 1 ok, 1 to note, 0 not checked",
    ]


def test_only_a_failure_makes_the_exit_status_1() -> None:
    assert report.exit_status(FINDINGS) == 1
    assert report.exit_status([FINDINGS[0], FINDINGS[2]]) == 0
    shown = json.loads(report.as_json(FINDINGS))
    assert shown["ok"] is False
    assert shown["checks"][1] == {
        "group": "network",
        "name": "routes",
        "status": "fail",
        "found": "no route",
        "do": "add\none",
    }


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"DOCKER_JOB_COMPUTE_URL": "ec2://"}, "DOCKER_JOB_COMPUTE_URL"),
        ({"DOCKER_JOB_EC2_VCPUS": "many"}, "DOCKER_JOB_EC2_VCPUS"),
        ({"DOCKER_JOB_DEPLOYMENT": ""}, "DOCKER_JOB_DEPLOYMENT"),
        ({"DOCKER_JOB_API_URL": "api"}, "DOCKER_JOB_API_URL"),
        ({"DOCKER_JOB_AGENT_PATH": "/missing"}, "DOCKER_JOB_AGENT_PATH"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], message: str, tmp_path: Path) -> None:
    given = {
        "DOCKER_JOB_COMPUTE_URL": "ec2://us-east-1",
        "DOCKER_JOB_DEPLOYMENT": "test",
        "DOCKER_JOB_DATA_DIR": str(tmp_path),
        **environ,
    }
    settings = Settings(given)
    with pytest.raises(BadSetting, match=message):
        read_ec2(settings, read_installation(settings, given))


@pytest.mark.parametrize(
    ("url", "address", "endpoint", "status"),
    [
        ("https://api.example.com", "8.8.8.8", "", "ok"),
        ("http://api.example.com", "8.8.8.8", "", "warn"),
        ("http://api.internal", "10.0.0.7", "", "ok"),
        ("http://localhost:8000", "127.0.0.1", "", "fail"),
        ("http://localhost:8000", "::1", "", "fail"),
        ("http://localhost:8000", "127.0.0.1", "http://127.0.0.1:4566", "ok"),
    ],
)
def test_the_apis_address_is_one_that_instances_reach_safely(
    url: str, address: str, endpoint: str, status: str, tmp_path: Path
) -> None:
    given = {
        "DOCKER_JOB_COMPUTE_URL": "ec2://us-east-1",
        "DOCKER_JOB_API_URL": url,
        "DOCKER_JOB_DATA_DIR": str(tmp_path),
        "AWS_ENDPOINT_URL": endpoint,
    }
    found = FindingGroup("API")
    _check_address(found, read_installation(Settings(given), given), (address,))
    assert [each.status for each in found.all] == [status]


def test_without_settings_it_is_the_installation_of_make_run(tmp_path: Path) -> None:
    given = {"DOCKER_JOB_DATA_DIR": str(tmp_path)}
    installation = read_installation(Settings(given), given)
    assert (installation.scheme, installation.is_embedded) == ("process", True)
    assert installation.api_url == "http://127.0.0.1:8000"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_role_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command_line.parse(["--as", "scheduler"])
    assert "launcher" in capsys.readouterr().err


async def test_a_check_that_fails_itself_is_one_line() -> None:
    async def broken(_scene: Scene) -> list[Finding]:
        raise KeyError("Vpcs")

    async def endless(_scene: Scene) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    scene = cast("Scene", None)
    for check, text, do in ((broken, "KeyError", "bug"), (endless, "no result", "network")):
        [line] = await run_bounded(check, scene, 0.01)
        assert (line.name, line.status) == (check.__name__, "fail")
        assert text in line.found
        assert do in line.do


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("BUS_URL", "amqp://"),
        ("BUS_URL", "amqp:///vhost"),
        ("BUS_URL", "nonsense"),
        ("DATABASE_URL", "nonsense"),
    ],
)
async def test_an_address_that_is_none_is_a_bad_setting(name: str, url: str) -> None:
    given = {
        "DOCKER_JOB_COMPUTE_URL": "sim://",
        "DOCKER_JOB_DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "DOCKER_JOB_BUS_URL": "memory://",
        f"DOCKER_JOB_{name}": url,
    }
    settings = Settings(given)
    with pytest.raises(BadSetting, match=name):
        await stores(settings, read_installation(settings, given), "all")
