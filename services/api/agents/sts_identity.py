"""Identity of an instance, verified by AWS STS: the agent sends a signed request for STS to answer.

HashiCorp Vault's AWS auth method works the same way. The agent signs `GetCallerIdentity` with the
credentials of its instance's role and sends the parts; only STS can check the signature, and it
answers with the role's session, which EC2 names after the instance. The guarantees:

- Only the STS of the settings is called: the parts contain no URL, and the signed host must be
  that of the settings. So no other server can answer.
- The deployment and the hash of the attempt token are signed too: a proof for another deployment or
  token is refused before STS is called.
- The signature is valid for five minutes, and recorded until then (`store.py`).
- What STS answered is remembered for the very same signed request and token (`sts_calls.py`).
- The role's trust policy must name EC2 alone: a principal that may assume the role can choose the
  session's name.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Protocol
from urllib.parse import urlsplit

import aiohttp
from msgspec import Meta, Struct

from services.api.agents.refusals import Refused
from services.api.agents.sts_calls import AnswerMemory, Lane, StsUnavailable
from services.api.jobs.fields import whole
from shared import tokens
from shared.clock import Clock
from shared.log import get_logger

_log = get_logger(service="api", part="identity")

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
SIGNED = frozenset(
    {"host", "x-amz-date", "x-amz-security-token", "x-docker-job-deployment", "x-docker-job-token"}
)
"""The headers that must be signed; only `content-type` may be added."""

MAX_VALUE = 8192
SKEW = timedelta(minutes=5)
STS_SECONDS = 5.0

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[A-Z0-9]{16,128}/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/sts/"
    r"aws4_request, SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z")
_ROLE = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/(?:.+/)?(?P<name>[\w+=,.@-]+)"
)
_SESSION = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sts::(?P<account>\d{12}):assumed-role/(?P<name>[\w+=,.@-]+)/"
    r"(?P<session>[\w+=,.@-]+)"
)
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_ARN = re.compile(r"<Arn>([^<]*)</Arn>")


HeaderName = Annotated[
    str,
    Meta(
        pattern=whole("[^A-Z]*"),
        extra={"wrong": "{path} must have names in small letters"},
    ),
]


class Proof(Struct, frozen=True):
    """The parts of a signed request, as an agent sends them."""

    headers: Annotated[
        dict[HeaderName, str], Meta(max_length=20, description="Names are in small letters.")
    ]
    body: Annotated[str, Meta(description="The request's body.")]


class VerifiedInstance(Struct, frozen=True):
    """The instance of a proof; its signature (hashed) is recorded until it expires."""

    instance_id: str
    signature: bytes
    expires_at: datetime


class Role(Struct, frozen=True):
    """The IAM role of the instances."""

    partition: str
    account: str
    name: str


@dataclass(frozen=True)
class IdentityConfig:
    """The STS to call, and the role and deployment that a proof must name."""

    sts_url: str
    region: str
    role: Role
    deployment: str


class Identity(Protocol):
    """Port: verify the instance of a proof. The one adapter calls STS."""

    def recall(self, proof: Proof, token: str) -> VerifiedInstance | None:
        """Return the instance of a proof that was verified before. Raises `Refused`."""
        ...

    async def verify(
        self, proof: Proof, token: str, claimant: str | None = None
    ) -> VerifiedInstance:
        """Verify *proof*, which is bound to the agent's *token*; *claimant*: the instance it names.

        Raises `Refused` and `StsUnavailable`.
        """
        ...


def read_role(arn: str) -> Role | None:
    """Parse the ARN of an IAM role, or return None; sessions do not contain the role's path."""
    match = _ROLE.fullmatch(arn)
    return None if match is None else Role(match["partition"], match["account"], match["name"])


def check_proof(
    proof: Proof, token: str, config: IdentityConfig, now: datetime
) -> VerifiedInstance:
    """Check all that needs no STS; the instance is not known yet. Raises `Refused`."""
    headers = proof.headers
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise Refused(401, "the claim's Authorization is not that of a signed STS request")
    signed = set(match["signed"].split(";"))
    if not signed >= SIGNED or signed != headers.keys() - {"authorization"}:
        raise Refused(401, f"the claim must be signed over {', '.join(sorted(SIGNED))} and no more")
    if not signed <= SIGNED | {"content-type"} or not all(map(_is_plain, headers.values())):
        raise Refused(401, "the claim has headers that no agent sends")
    if proof.body != BODY:
        raise Refused(401, "the claim must ask for GetCallerIdentity and nothing else")
    if headers["host"] != urlsplit(config.sts_url).netloc or match["region"] != config.region:
        raise Refused(401, f"the claim is not signed for the STS of {config.region}")
    if headers["x-docker-job-deployment"] != config.deployment:
        raise Refused(401, "the claim is for another deployment")
    if not tokens.same(headers["x-docker-job-token"], tokens.token_hash(token).hex()):
        raise Refused(401, "the claim is not bound to this token")
    at = _timestamp(headers["x-amz-date"], match["day"])
    if at is None or abs(now - at) > SKEW:
        raise Refused(401, "the claim is older than five minutes, or a clock is wrong")
    return VerifiedInstance("", hashlib.sha256(match["signature"].encode()).digest(), at + SKEW)


def digest_of(proof: Proof, token: str) -> bytes:
    """Hash every part of a proof and its token: none can be replaced in what is remembered.

    JSON separates the parts: no header can take the place of two.
    """
    parts = [sorted(proof.headers.items()), proof.body, token]
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def read_instance(answer: str, role: Role) -> str:
    """Read the instance id from STS's answer. Raises `Refused` if it is not of the role."""
    arns = _ARN.findall(answer)
    match = _SESSION.fullmatch(arns[0]) if len(arns) == 1 else None
    if match is None or Role(match["partition"], match["account"], match["name"]) != role:
        raise Refused(403, "the claim is not by the instances' role")
    if not _INSTANCE.fullmatch(match["session"]):
        raise Refused(403, "the claim is not by an instance")
    return match["session"]


def _is_plain(value: str) -> bool:
    return len(value) <= MAX_VALUE and value.isascii() and value.isprintable()


def _timestamp(text: str, day: str) -> datetime | None:
    if not _TIMESTAMP.fullmatch(text) or text[:8] != day:
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass
class StsIdentity:
    """Verifies proofs with STS, and remembers what it answered: agents claim again.

    An answer counts only for the very same request and token: each header, the body, the token.
    """

    config: IdentityConfig
    clock: Clock
    _known: AnswerMemory[VerifiedInstance] = field(default_factory=AnswerMemory)
    _refused: AnswerMemory[tuple[int, str]] = field(default_factory=AnswerMemory)
    _named: Lane = field(default_factory=Lane)
    _unnamed: Lane = field(default_factory=Lane)

    def recall(self, proof: Proof, token: str) -> VerifiedInstance | None:
        """Return the instance of a proof that STS has verified before.

        Raises `Refused` for one that no agent sends, or that STS has refused before.
        """
        check_proof(proof, token, self.config, self.clock.now())
        digest = digest_of(proof, token)
        refused = self._refused.get(digest)
        if refused is not None:
            raise Refused(*refused)
        return self._known.get(digest)

    async def verify(
        self, proof: Proof, token: str, claimant: str | None = None
    ) -> VerifiedInstance:
        """Verify *proof*; return its instance. *claimant*: the known instance that it names."""
        known = self.recall(proof, token)
        if known is not None:
            return known
        checked = check_proof(proof, token, self.config, self.clock.now())
        lane = self._unnamed if claimant is None else self._named
        digest = digest_of(proof, token)
        try:
            async with lane.room(claimant):
                answer = await self._ask(proof)
            instance_id = read_instance(answer, self.config.role)
        except Refused as refused:
            self._refused.add(digest, (refused.status, str(refused)))
            raise
        verified = VerifiedInstance(instance_id, checked.signature, checked.expires_at)
        self._known.add(digest, verified)
        return verified

    async def _ask(self, proof: Proof) -> str:
        """Call STS; return its answer. Raises `Refused` if STS refuses, else `StsUnavailable`."""
        timeout = aiohttp.ClientTimeout(total=STS_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    self.config.sts_url.rstrip("/") + "/",
                    data=proof.body.encode(),
                    headers=proof.headers,
                    allow_redirects=False,
                ) as response,
            ):
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("STS does not answer", error=type(error).__name__)
            raise StsUnavailable("STS does not answer now: try again") from None
        if response.status == 200:
            return raw.decode(errors="replace")
        # Throttling is a 400 of the query protocol:
        # https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
        if response.status >= 500 or response.status == 429 or b"Throttling" in raw:
            raise StsUnavailable(f"STS answered {response.status}: try again")
        _log.warning("STS refused a claim", status=response.status)
        raise Refused(401, f"STS refused the claim's signature (status {response.status})")
