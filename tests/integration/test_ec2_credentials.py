"""Credentials that AWS refuses, or that cannot be read, and a clock that is off, are named.

On the strict EC2, which refuses each in the words of the service that was called.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fake_aws.credentials import Credential
from services.launcher.service import build
from shared.clock import VirtualClock
from shared.compute.ec2 import client
from shared.compute.ec2.client import Aws
from shared.compute.port import ComputeError, Misconfigured, Unknown
from shared.events.events import InstanceLaunched, LaunchDelayed
from shared.runtime.service import Ports
from tests.integration.test_ec2_own_faults import named_by_readiness
from tests.integration.test_ec2_refusals import CONFIG, LAUNCH, RESTLESS, settle
from tests.integration.test_launcher import requested
from tests.support.compute.compute_api import FakeApi
from tests.support.compute.compute_ec2 import REGION, Ec2World
from tests.support.compute.stage import Stage

SSO = """[profile me]
sso_session = us
sso_account_id = 1
sso_role_name = x
[sso-session us]
sso_region = us-east-1
sso_start_url = https://none.example
"""
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "ec2": ("DescribeSubnets", {}),
    "sts": ("GetCallerIdentity", {}),
    "ssm": ("GetParameter", {"Name": "/none"}),
    "sqs": ("ListQueues", {}),
}


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("launcher")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ec2World]:
    monkeypatch.setattr(client, "RENEW_SECONDS", 0.0)
    world = Ec2World(FakeApi(), boot="none", visible_after_seconds=0)
    yield world
    await world.close()


def turn_clock(world: Ec2World, ahead: float, **changes: Any) -> None:
    """Set AWS's clock *ahead* seconds before this machine's."""
    changed = replace(world.cloud.cloud.settings, clock_ahead_seconds=ahead, **changes)
    world.cloud.call(lambda cloud: cloud.front.change(changed))


def use(world: Ec2World, credential: Credential) -> None:
    """Give the processes of this test these credentials."""
    for name, value in world.cloud.environment(credential).items():
        world.environment.setenv(name, value)


def expired(world: Ec2World) -> Credential:
    now = datetime.now(UTC)
    return world.cloud.call(lambda cloud: cloud.keys.for_role("worker", "me", -1, now))


async def refusal(service: str, aws: Aws | None = None) -> ComputeError:
    """Return the error of a call of *service*."""
    action, parameters = CALLS[service]
    with pytest.raises(ComputeError) as refused:
        await (aws or Aws(REGION)).call(action, service=service, **parameters)
    return refused.value


@pytest.mark.parametrize("ahead", [400, -400])
@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("ec2", "AuthFailure: AWS was not able to validate"),
        ("sts", "SignatureDoesNotMatch: Signature "),
        ("ssm", "InvalidSignatureException: Signature "),
        ("sqs", "InvalidSignatureException: Signature "),
    ],
)
async def test_a_clock_that_is_off_is_named_beside_the_credentials(
    world: Ec2World, service: str, code: str, ahead: float
) -> None:
    turn_clock(world, ahead)
    error = await refusal(service)
    assert str(error).startswith(code)
    assert "clock" in error.change
    assert "AWS_PROFILE" in error.change


async def test_the_other_code_of_a_clock_that_is_off_names_it_too(world: Ec2World) -> None:
    turn_clock(world, 400, ec2_clock_error="RequestExpired")
    error = await refusal("ec2")
    assert type(error) is Unknown
    assert str(error).startswith("RequestExpired")
    assert "clock" in error.change


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("ec2", "RequestExpired"),
        ("sts", "ExpiredToken"),
        ("ssm", "ExpiredTokenException"),
        ("sqs", "ExpiredTokenException"),
    ],
)
async def test_expired_credentials_are_named(world: Ec2World, service: str, code: str) -> None:
    use(world, expired(world))
    error = await refusal(service)
    assert type(error) is Unknown
    assert str(error).startswith(f"{code}: ")
    assert "AWS_PROFILE" in error.change


async def test_jobs_wait_for_other_credentials_and_go_on_without_a_restart(
    ports: Ports, world: Ec2World, clock: VirtualClock, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"

    def write(credential: Credential) -> None:
        file.write_text(
            f"[default]\naws_access_key_id = {credential.access_key}\n"
            f"aws_secret_access_key = {credential.secret}\n"
            + (f"aws_session_token = {credential.session_token}\n" * bool(credential.session_token))
        )

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        world.environment.delenv(name, raising=False)
    world.environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write(expired(world))
    stage = Stage(build(CONFIG, ports, world.adapter(settings=RESTLESS)))
    await stage.deliver(requested(1, capacity="spot", spot_wait_seconds=1))
    for _ in range(2):
        assert await stage.sweep(LAUNCH) is not None
        clock.advance(600)
    (delay, *_) = await stage.published(LaunchDelayed)
    assert "RequestExpired" in delay.message
    assert "AWS_PROFILE" in await named_by_readiness(stage)
    write(world.cloud.cloud.keys.operator)
    await settle(stage, clock)
    assert len(await stage.published(InstanceLaunched)) == 1
    assert await named_by_readiness(stage) == ""


async def test_a_launch_whose_answer_was_lost_is_repeated_when_the_credentials_are_renewed(
    ports: Ports, world: Ec2World, clock: VirtualClock
) -> None:
    stage = Stage(build(CONFIG, ports, world.adapter(settings=RESTLESS)))
    world.cloud.control.fail("CreateFleet", kind="lost_after")
    await stage.deliver(requested(1))
    await stage.sweep(LAUNCH)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        world.environment.setenv(name, "none")
    world.cloud.control.fail(code="RequestExpired", status=400, times=None)
    for _ in range(3):  # refused by AWS, then not found here
        clock.advance(CONFIG.lease_seconds)
        await stage.sweep(LAUNCH)
        assert "AWS_PROFILE" in await named_by_readiness(stage)
    world.environment.delenv("AWS_PROFILE")
    world.environment.delenv("AWS_DEFAULT_PROFILE")
    world.cloud.control.heal()
    clock.advance(CONFIG.lease_seconds)
    await settle(stage, clock)
    assert len(await stage.published(InstanceLaunched)) == 1
    assert len(world.cloud.control.running()) == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("not a section", "Unable to parse config file"),
        ("[profile me]\nsource_profile = me\nrole_arn = arn:aws:iam::1:role/x\n", "nfinite loop"),
        (SSO, "SSO"),
        ("[profile me]\ncredential_process = false\n", "credentials from custom-process"),
    ],
)
async def test_credentials_that_cannot_be_read_are_named(
    world: Ec2World, tmp_path: Path, config: str, words: str
) -> None:
    file = tmp_path / "config"
    file.write_text(config)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        world.environment.delenv(name)
    world.environment.setenv("AWS_CONFIG_FILE", str(file))
    world.environment.setenv("AWS_PROFILE", "me")
    error = await refusal("ec2")
    assert words in str(error)
    assert "AWS_PROFILE" in error.change
    assert "AWS_PROFILE" in str(error)


@pytest.mark.parametrize(
    ("errno", "change"), [(socket.EAI_NONAME, "AWS_REGION"), (socket.EAI_AGAIN, "")]
)
async def test_a_region_without_a_name_is_named_and_a_resolver_without_an_answer_is_not(
    world: Ec2World, monkeypatch: pytest.MonkeyPatch, errno: int, change: str
) -> None:
    world.environment.delenv("AWS_ENDPOINT_URL")

    def no_address(*_: object, **__: object) -> None:
        raise socket.gaierror(errno, "no address")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    error = await refusal("ec2", Aws("us-esat-1"))
    assert type(error) is Unknown
    assert "ec2.us-esat-1.amazonaws.com" in str(error)
    assert change in error.change
    assert bool(error.change) is bool(change)


@pytest.mark.parametrize(
    ("region", "url"), [("us east", "http://127.0.0.1:1"), (REGION, "not a url")]
)
async def test_a_region_or_an_address_that_is_none_is_named(
    world: Ec2World, region: str, url: str
) -> None:
    world.environment.setenv("AWS_ENDPOINT_URL", url)
    error = await refusal("ec2", Aws(region))
    assert type(error) is Misconfigured
    assert "AWS_ENDPOINT_URL" in error.change


async def test_a_refused_connection_is_an_outage_and_no_fault_of_settings(world: Ec2World) -> None:
    world.environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    error = await refusal("ec2")
    assert type(error) is Unknown
    assert error.change == ""
