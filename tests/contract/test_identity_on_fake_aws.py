"""The claim by role on the fake AWS, which checks signatures and issues instances' keys."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from agent.docker_job_agent.aws import Aws, Credentials
from agent.docker_job_agent.identity import Proof as SignedProof
from services.api.agents.refusals import Refused
from services.api.agents.sts_identity import IdentityConfig, Proof, Role, StsIdentity
from shared import tokens
from shared.clock import VirtualClock
from tests.support.compute.ec2_clouds import Strict, strict_cloud

REGION = "us-east-1"
INSTANCE = "i-0123456789abcdef0"
ROLE = "docker-job-instance"
TOKEN = "ab" * 32


@pytest.fixture
def cloud() -> Iterator[Strict]:
    with strict_cloud() as made:
        yield made


class OnInstance(Aws):
    """AWS from an instance of *role*, with keys from its metadata service."""

    def __init__(self, cloud: Strict, role: str, session: str = INSTANCE) -> None:
        now = datetime.now(UTC)
        given = cloud.thread.call(lambda c: c.keys.for_role(role, session, 3600.0, now))
        self._environment = {"AWS_ENDPOINT_URL": cloud.thread.endpoint_url}
        self._region = REGION
        self._given = Credentials(given.access_key, given.secret, given.session_token)

    def credentials(self) -> Credentials:
        return self._given


def identity_of(cloud: Strict, account: str | None = None) -> StsIdentity:
    """Make the API's side, which asks the fake STS."""
    role = Role("aws", account or cloud.thread.cloud.account, ROLE)
    config = IdentityConfig(
        sts_url=cloud.thread.endpoint_url, region=REGION, role=role, deployment="ours"
    )
    return StsIdentity(config, VirtualClock(datetime.now(UTC)))


def proof_of(aws: Aws, deployment: str = "ours") -> Proof:
    made = SignedProof(aws, deployment).bound_to(tokens.token_hash(TOKEN).hex())
    return Proof(made["headers"], made["body"])


async def test_an_instance_of_our_role_is_known(cloud: Strict) -> None:
    shown = await identity_of(cloud).verify(proof_of(OnInstance(cloud, ROLE)), TOKEN)
    assert shown.instance_id == INSTANCE


async def test_another_role_account_or_session_is_not_one_of_ours(cloud: Strict) -> None:
    for identity, aws in (
        (identity_of(cloud), OnInstance(cloud, "another-role")),
        (identity_of(cloud), OnInstance(cloud, ROLE, session="somebody")),
        (identity_of(cloud, account="000000000000"), OnInstance(cloud, ROLE)),
    ):
        with pytest.raises(Refused) as refused:
            await identity.verify(proof_of(aws), TOKEN)
        assert refused.value.status == 403


async def test_a_header_that_was_changed_after_signing_is_refused_by_sts(cloud: Strict) -> None:
    caught = proof_of(OnInstance(cloud, ROLE), deployment="another")
    forged = Proof(caught.headers | {"x-docker-job-deployment": "ours"}, caught.body)
    with pytest.raises(Refused, match="STS refused the claim's signature") as refused:
        await identity_of(cloud).verify(forged, TOKEN)
    assert refused.value.status == 401
