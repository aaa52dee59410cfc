"""Identification of an instance by its role: the right one gets the job, any other nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from msgspec import structs

from agent.build import build
from agent.docker_job_agent.aws import Credentials, Request, sign
from agent.docker_job_agent.identity import Proof
from shared import tokens
from shared.clock import VirtualClock
from shared.events.events import InstanceInterrupted
from tests.integration.test_api_agent_groups import start_calls
from tests.integration.test_api_handlers import locked
from tests.support.api.api_world import DEPLOYMENT, World, a_config, message_of
from tests.support.compute.aws_account import REGION, ROLE_ARN, FakeSts, session_of

INSTANCE = "i-0123456789abcdef0"
TOKEN = "ab" * 32
OTHER_TOKEN = "cd" * 32


@pytest.fixture
def sts(clock: VirtualClock) -> Any:
    server = FakeSts(clock.now)
    with server.serving():
        yield server


@pytest.fixture
async def ec2(world: World, sts: FakeSts) -> AsyncIterator[World]:
    """Make the API of a deployment whose instances have a role."""
    config = a_config(INSTANCE_ROLE_ARN=ROLE_ARN, STS_REGION=REGION, STS_URL=sts.url)
    ec2 = World(world.ports, world.clock, config)
    yield ec2
    await ec2.close()


class Signer:
    """Signs as the agent does; every part can be replaced."""

    def __init__(self, sts: FakeSts, clock: VirtualClock, arn: str | None = None) -> None:
        self.sts = sts
        self.clock = clock
        self.key, self.secret = sts.give(arn or session_of(INSTANCE))

    def proof(
        self,
        token: str = TOKEN,
        *,
        body: str = Proof.BODY,
        region: str = REGION,
        service: str = "sts",
        without: str | None = None,
        **changed: str,
    ) -> dict[str, Any]:
        headers = {
            "host": self.sts.url.removeprefix("http://"),
            "content-type": "application/x-www-form-urlencoded; charset=utf-8",
            "x-docker-job-deployment": DEPLOYMENT,
            "x-docker-job-token": tokens.token_hash(token).hex(),
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        headers.pop(without or "", None)
        request = Request(service, region, headers, body.encode())
        role = Credentials(self.key, self.secret, "session-token")
        return {"headers": sign(request, role, self.clock.now()), "body": body}


async def claim(
    world: World, proof: dict[str, Any], token: str = TOKEN, **more: Any
) -> httpx.Response:
    body = {"identity": proof, "token": token, "runtime": "docker", **more}
    return await world.http.post("/agent/claim", json=body)


async def launched(world: World, instance: str = INSTANCE) -> int:
    job_id = int((await world.post())["id"])
    fact = structs.replace(world.launched(job_id), instance_id=instance)
    await world.deliver(fact)
    return job_id


async def test_an_instance_gets_the_attempt_that_was_launched_on_it(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2, "i-00000000000000000")
    job_id = await launched(ec2)
    answer = await claim(ec2, Signer(sts, clock).proof())
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert (given["job"]["id"], given["attempt"], given["instance_id"]) == (job_id, 1, INSTANCE)
    report = await ec2.http.post(
        f"/agent/jobs/{job_id}/report", json={}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert report.status_code == 200


async def test_a_lost_answer_is_given_again_without_asking_sts_again(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    proof = Signer(sts, clock).proof()
    first = await claim(ec2, proof)
    before = await ec2.rows()
    clock.advance(60)
    second = await claim(ec2, proof)
    given, again = first.json(), second.json()
    left = "free_if_interrupted_within_seconds"  # counts down
    assert given["settings"].pop(left) - again["settings"].pop(left) == 60
    assert (second.status_code, again) == (200, given)
    assert sts.asked == 1
    assert await ec2.rows() == before


async def test_an_instance_that_is_not_known_yet_waits(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    job_id = (await ec2.post())["id"]
    before = await ec2.rows()
    proof = Signer(sts, clock).proof()
    answer = await claim(ec2, proof)
    assert (answer.status_code, answer.json()) == (
        202,
        {"wait": f"instance {INSTANCE} is not known yet", "retry_seconds": 2},
    )
    assert await ec2.rows() == before
    await ec2.deliver(structs.replace(ec2.launched(job_id), instance_id=INSTANCE))
    assert (await claim(ec2, proof)).status_code == 200


REFUSED_BEFORE_STS: dict[str, tuple[dict[str, Any], str]] = {
    "another deployment": ({"x_docker_job_deployment": "another"}, "for another deployment"),
    "another host": ({"host": "sts.evil.example"}, "not signed for the STS of"),
    "another region": ({"region": "us-east-1"}, "not signed for the STS of"),
    "another service": ({"service": "iam"}, "not that of a signed STS request"),
    "another action": ({"body": "Action=GetSessionToken&Version=2011-06-15"}, "nothing else"),
    "two actions": ({"body": Proof.BODY + "&Action=AssumeRole"}, "nothing else"),
    "no deployment": ({"without": "x-docker-job-deployment"}, "must be signed over"),
    "no token": ({"without": "x-docker-job-token"}, "must be signed over"),
    "no host": ({"without": "host"}, "must be signed over"),
    "a header of its own": ({"x_forwarded_host": "evil"}, "no agent sends"),
    "a line break": ({"content_type": "a\r\nhost: evil"}, "no agent sends"),
}


@pytest.mark.parametrize("case", REFUSED_BEFORE_STS)
async def test_what_is_not_meant_for_us_never_reaches_sts(
    ec2: World, sts: FakeSts, clock: VirtualClock, case: str
) -> None:
    changed, message = REFUSED_BEFORE_STS[case]
    await launched(ec2)
    before = await ec2.rows()
    answer = await claim(ec2, Signer(sts, clock).proof(**changed))
    assert answer.status_code == 401
    assert message in message_of(answer)
    assert sts.asked == 0
    assert await ec2.rows() == before


async def test_a_header_that_was_added_or_changed_on_the_way_is_refused(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    signer = Signer(sts, clock)
    for name, value in (
        ("x-docker-job-deployment", DEPLOYMENT + " "),
        ("x-extra", "1"),
        ("x-amz-date", "20260101T000001Z"),
        ("x-amz-security-token", "another"),
        ("authorization", "AWS4-HMAC-SHA256"),
    ):
        proof = signer.proof()
        proof["headers"][name] = value
        assert (await claim(ec2, proof)).status_code == 401, name


async def test_a_caught_claim_is_of_no_use_with_another_token(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    proof = Signer(sts, clock).proof()
    assert (await claim(ec2, proof, OTHER_TOKEN)).status_code == 401
    assert (await claim(ec2, proof)).status_code == 200
    before = await ec2.rows()
    answer = await claim(ec2, proof, OTHER_TOKEN)
    assert (answer.status_code, message_of(answer)) == (401, "the claim is not bound to this token")
    answer = await claim(ec2, Signer(sts, clock).proof(OTHER_TOKEN), OTHER_TOKEN)
    assert (answer.status_code, message_of(answer)) == (409, "attempt 1 is already claimed")
    assert await ec2.rows() == before


async def test_a_claim_is_good_for_five_minutes(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    signer = Signer(sts, clock)
    late, fresh = signer.proof(), signer.proof(content_type="text/plain")
    clock.advance(300)
    assert (await claim(ec2, late)).status_code == 200
    clock.advance(1)
    assert (await claim(ec2, late)).status_code == 401
    assert (await claim(ec2, fresh)).status_code == 401
    clock.advance(3600)
    await ec2.stage.sweep("prune_proofs")
    assert await ec2.stage.rows("SELECT * FROM used_proofs") == []


async def test_a_claim_from_the_future_is_a_clock_that_is_wrong(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    ahead = VirtualClock(clock.now() + timedelta(seconds=301))
    answer = await claim(ec2, Signer(sts, ahead).proof())
    assert (answer.status_code, "a clock is wrong" in message_of(answer)) == (401, True)


async def test_a_forged_signature_is_refused_by_sts(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    signer = Signer(sts, clock)
    signer.secret = "guessed"
    answer = await claim(ec2, signer.proof())
    assert (answer.status_code, sts.asked) == (401, 1)
    signer.key = "ASIAUNKNOWN0000000000"
    assert (await claim(ec2, signer.proof())).status_code == 401


@pytest.mark.parametrize(
    "arn",
    [
        session_of(INSTANCE, account="210987654321"),
        session_of(INSTANCE, role="docker-job-instance-2"),
        session_of("somebody@example.com"),
        session_of("i-0123456789abcdef0-2"),
        "arn:aws:iam::123456789012:user/somebody",
        "arn:aws-cn:sts::123456789012:assumed-role/docker-job-instance/i-0123456789abcdef0",
        "arn:aws:iam::123456789012:root",
    ],
)
async def test_whoever_is_not_an_instance_of_ours_gets_nothing(
    ec2: World, sts: FakeSts, clock: VirtualClock, arn: str
) -> None:
    await launched(ec2)
    before = await ec2.rows()
    answer = await claim(ec2, Signer(sts, clock, arn).proof())
    assert answer.status_code == 403
    assert await ec2.rows() == before


async def test_an_instance_whose_attempt_is_over_is_asked_to_stop(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    job_id = await launched(ec2)
    await ec2.cancel(job_id)
    before = await ec2.rows()
    answer = await claim(ec2, Signer(sts, clock).proof())
    assert (answer.status_code, answer.json()["cause"]) == (409, "cancelled")
    assert await ec2.rows() == before


async def test_where_instances_have_a_role_no_bootstrap_token_counts(ec2: World) -> None:
    job_id = (await ec2.post())["id"]
    assert (await ec2.claim(job_id)).status_code == 401


async def test_where_they_have_none_no_proof_counts(
    world: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(world)
    answer = await claim(world, Signer(sts, clock).proof())
    assert (answer.status_code, sts.asked) == (401, 0)


async def test_while_sts_is_away_the_agent_is_asked_to_try_again(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    sts.away = True
    proof = Signer(sts, clock).proof()
    assert (await claim(ec2, proof)).status_code == 503
    sts.away = False
    assert (await claim(ec2, proof)).status_code == 200


async def test_of_two_agents_of_one_instance_at_once_one_gets_the_job(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    signer = Signer(sts, clock)
    answers = await asyncio.gather(
        *(claim(ec2, signer.proof(token), token) for token in (TOKEN, OTHER_TOKEN))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_claims_by_role_that_are_served_in_one_group_get_each_their_own_job(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    instances = [f"i-{number:017x}" for number in range(4)]
    ids = [await launched(ec2, each) for each in instances]
    signers = [Signer(sts, clock, session_of(each)) for each in instances]
    nobody = Signer(sts, clock, session_of("i-00000000000000099"))
    async with ec2.ports.db.transaction() as tx:
        await tx.conn.execute("LOCK TABLE jobs IN EXCLUSIVE MODE")
        first = asyncio.create_task(claim(ec2, signers[0].proof()))
        await locked(ec2)
        others = await start_calls(
            ec2,
            claim(ec2, nobody.proof()),
            claim(ec2, signers[1].proof()),  # with the first one's token
            claim(ec2, signers[2].proof("2" * 64), "2" * 64),
            claim(ec2, signers[3].proof("3" * 64), "3" * 64),
            claim(ec2, signers[2].proof("4" * 64), "4" * 64),
        )
    answers = [await each for each in (first, *others)]
    assert [each.status_code for each in answers] == [200, 202, 409, 200, 200, 409]
    given = [each.json()["job"]["id"] for each in answers if each.status_code == 200]
    assert given == [ids[0], ids[2], ids[3]]
    assert len(await ec2.stage.rows("SELECT * FROM used_proofs")) == 3


async def test_a_claim_that_is_not_right_is_a_400(ec2: World) -> None:
    wrong: list[Any] = [
        {},
        {"token": TOKEN, "runtime": "docker"},
        {"token": TOKEN, "runtime": "docker", "identity": {"headers": [], "body": ""}},
        {"token": TOKEN, "runtime": "docker", "identity": {"headers": {"Host": "x"}, "body": ""}},
        {"token": TOKEN, "runtime": "docker", "identity": {"headers": {"host": 1}, "body": ""}},
        {"token": TOKEN, "runtime": "docker", "identity": {"headers": {}, "body": None}},
    ]
    for body in wrong:
        answer = await ec2.http.post("/agent/claim", json=body)
        assert answer.status_code == 400, body
        assert message_of(answer)


async def test_the_agent_is_served_with_its_hash(world: World) -> None:
    answer = await world.http.get("/agent/agent.py")
    assert answer.content == build()
    digest = hashlib.sha256(answer.content).hexdigest()
    assert answer.headers["x-docker-job-sha256"] == digest
    assert answer.headers["etag"] == f'"{digest}"'


async def test_an_agent_learns_how_much_of_its_free_hour_is_left(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    await launched(ec2)
    clock.advance(100)
    answer = await claim(ec2, Signer(sts, clock).proof())
    assert answer.status_code == 200
    assert answer.json()["settings"]["free_if_interrupted_within_seconds"] == 3500


async def test_so_does_an_agent_that_has_to_wait(
    ec2: World, sts: FakeSts, clock: VirtualClock
) -> None:
    """Covers a replacement that gets a notice itself, before it has the job."""
    job_id = await launched(ec2)
    assert (await claim(ec2, Signer(sts, clock).proof())).status_code == 200
    headers = {"Authorization": f"Bearer {TOKEN}"}
    await ec2.http.put(f"/callback/{job_id}", json={"schedule": ""}, headers=headers)
    second = "i-0fedcba9876543210"
    await ec2.deliver(structs.replace(ec2.launched(job_id, 2), instance_id=second))
    clock.advance(30)
    signer = Signer(sts, clock, session_of(second))
    answer = await claim(ec2, signer.proof(OTHER_TOKEN), OTHER_TOKEN)
    assert answer.status_code == 202
    assert answer.json()["settings"] == {"free_if_interrupted_within_seconds": 3570}


@pytest.mark.parametrize("by_event", [True, False])
async def test_an_agent_that_is_refused_for_a_notice_learns_it_too(
    ec2: World, sts: FakeSts, clock: VirtualClock, *, by_event: bool
) -> None:
    job_id = await launched(ec2)
    clock.advance(60)
    more: dict[str, Any] = {"interrupted": True}
    if by_event:
        notice = InstanceInterrupted(
            instance_id=INSTANCE,
            job_id=job_id,
            attempt=1,
            kind="interruption",
            noticed_at=clock.now(),
        )
        await ec2.deliver(notice)
        more = {}
    answer = await claim(ec2, Signer(sts, clock).proof(), **more)
    assert (answer.status_code, answer.json()["cause"]) == (409, "interrupted")
    assert answer.json()["settings"] == {"free_if_interrupted_within_seconds": 3540}
