"""The control API of the fake AWS over HTTP, for callers in another process."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from tests.support.compute.ec2_clouds import Launcher, Strict, eventually, ids_of, strict_cloud


@pytest.fixture
def cloud() -> Iterator[Strict]:
    with strict_cloud() as made:
        yield made


def post(cloud: Strict, command: str, **arguments: Any) -> httpx.Response:
    return httpx.post(f"{cloud.thread.endpoint_url}/rehearsal/{command}", json=arguments)


def test_an_instance_is_interrupted_on_command(cloud: Strict) -> None:
    launcher = Launcher(cloud)
    [instance_id] = launcher.launch()
    eventually(lambda: launcher.state(instance_id) == "running")

    answer = post(cloud, "interrupt", instance_id=instance_id)

    assert answer.status_code == 200, answer.text
    eventually(lambda: launcher.state(instance_id) == "terminated")
    [bill] = httpx.get(f"{cloud.thread.endpoint_url}/rehearsal/ledger").json()
    assert bill["cause"] == "Server.SpotInstanceTermination"
    assert bill["instance_usd"] == 0
    assert bill["cost_usd"] == pytest.approx(bill["public_ipv4_usd"] + bill["volume_usd"])


def test_capacity_and_faults_are_set_on_command(cloud: Strict) -> None:
    launcher = Launcher(cloud)
    post(cloud, "set_capacity", size=0, market="spot")
    assert ids_of(launcher.fleet()) == []
    post(cloud, "set_capacity", size=None, market="spot")

    armed = post(cloud, "fail", action="DescribeInstances", code="InternalError").json()

    assert armed["status"] == 500
    with pytest.raises(Exception, match="InternalError"):
        launcher.shown()
    assert launcher.launch()
    [truth] = post(cloud, "instances").json()
    assert truth["state"] in {"pending", "running"}


@pytest.mark.parametrize("by_id", [False, True])
def test_a_hidden_instance_runs_on_and_no_list_shows_it(cloud: Strict, *, by_id: bool) -> None:
    launcher = Launcher(cloud)
    [instance_id] = launcher.launch()
    eventually(lambda: launcher.state(instance_id) == "running")

    assert post(cloud, "hide", instance_id=instance_id, by_id=by_id).status_code == 200

    described = launcher.ec2.describe_instances
    named = [{"Name": "instance-id", "Values": [instance_id]}]
    assert described()["Reservations"] == described(Filters=named)["Reservations"] == []
    if by_id:
        with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
            described(InstanceIds=[instance_id])
    else:
        assert described(InstanceIds=[instance_id])["Reservations"]
    [truth] = post(cloud, "instances").json()
    assert truth["state"] == "running"
    post(cloud, "reveal")
    assert launcher.state(instance_id) == "running"


def test_what_makes_no_sense_is_refused_in_words(cloud: Strict) -> None:
    assert post(cloud, "interrupt", instance_id="i-0123456789abcdef0").status_code == 400
    assert post(cloud, "interrupt").status_code == 400
    assert post(cloud, "fail", kind="flood").status_code == 400
    assert post(cloud, "__init__").status_code == 404
    looked = httpx.get(f"{cloud.thread.endpoint_url}/rehearsal/heal")
    assert looked.status_code == 404, "GET only looks"


@pytest.mark.parametrize(
    "page",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_web_page_commands_nothing(cloud: Strict, page: dict[str, str]) -> None:
    launcher = Launcher(cloud)
    [instance_id] = launcher.launch()
    eventually(lambda: launcher.state(instance_id) == "running")
    url = cloud.thread.endpoint_url
    command = f'{{"instance_id": "{instance_id}"}}'
    for path in ("/rehearsal/interrupt", "/rehearsal/crash", "/"):
        for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
            headers = {**page, "Content-Type": kind}
            assert httpx.post(url + path, content=command, headers=headers).status_code == 403
    assert httpx.get(f"{url}/rehearsal/ledger", headers=page).status_code == 403
    assert launcher.state(instance_id) == "running"
