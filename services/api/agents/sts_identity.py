"""Who an instance is: it shows a signed request that asks AWS STS, and we have STS answer it.

As HashiCorp Vault's AWS auth method does it. The agent signs `GetCallerIdentity` with the
credentials of its instance's role and hands us the pieces; only STS can check the signature, and it
answers with the role's session, which EC2 names after the instance. What holds, and why:

- We ask the STS of our own settings and no other: the pieces name no URL, and the host that was
  signed must be ours. So nobody can have a server of his own answer.
- The deployment and the hash of the attempt token are signed too: what was made for another
  deployment, or with another token, is refused before STS is asked.
- The signature is good for five minutes, and remembered until then (`store.py`).
- The role's trust policy must name EC2 alone: whoever may assume the role himself can choose the
  session's name.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct

from services.api.agents.refusals import Refused
from shared import tokens
from shared.clock import Clock
from shared.log import get_logger

_log = get_logger(service="api", part="identity")

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
SIGNED = frozenset(
    {"host", "x-amz-date", "x-amz-security-token", "x-docker-job-deployment", "x-docker-job-token"}
)
"""What must be signed; with `content-type` also all that may be sent."""

MAX_VALUE = 8192
SKEW = timedelta(minutes=5)
STS_SECONDS = 5.0
AT_ONCE = 16
REMEMBERED = 10_000

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[A-Z0-9]{16,128}/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/sts/"
    r"aws4_request, SignedHeaders=(?P<signed>[a-z0-9;-]+), Signature=(?P<signature>[0-9a-f]{64})"
)
_MOMENT = re.compile(r"\d{8}T\d{6}Z")
_ROLE = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/(?:.+/)?(?P<name>[\w+=,.@-]+)"
)
_SESSION = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sts::(?P<account>\d{12}):assumed-role/(?P<name>[\w+=,.@-]+)/"
    r"(?P<session>[\w+=,.@-]+)"
)
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_ARN = re.compile(r"<Arn>([^<]*)</Arn>")


class StsAway(Exception):
    """STS does not answer now: the agent asks again."""


class Proof(Struct, frozen=True):
    """The pieces of a signed request, as an agent hands them over. Names are in small letters."""

    headers: dict[str, str]
    body: str


class VerifiedInstance(Struct, frozen=True):
    """Who showed a proof, and what of it is remembered until it is worth nothing any more."""

    instance_id: str
    signature: bytes
    expires_at: datetime


class Role(Struct, frozen=True):
    """The one role that our instances have."""

    partition: str
    account: str
    name: str


@dataclass(frozen=True)
class IdentityConfig:
    """Whom to ask, and what must come out."""

    sts_url: str
    region: str
    role: Role
    deployment: str


class Identity(Protocol):
    """Port: which instance showed this. The one adapter asks STS."""

    async def who(self, proof: Proof, token: str) -> VerifiedInstance:
        """Raises `Refused` and `StsAway`. *token* is the agent's own, which is bound in."""
        ...


def read_role(arn: str) -> Role | None:
    """The role that an IAM ARN names, or None; sessions do not bear the role's path."""
    match = _ROLE.fullmatch(arn)
    return None if match is None else Role(match["partition"], match["account"], match["name"])


def check_proof(
    proof: Proof, token: str, config: IdentityConfig, now: datetime
) -> VerifiedInstance:
    """Everything that can be told without STS; the instance is not known yet. Raises `Refused`."""
    headers = proof.headers
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise Refused(401, "the claim's Authorization is not that of a signed STS request")
    signed = set(match["signed"].split(";"))
    if not signed >= SIGNED or signed != headers.keys() - {"authorization"}:
        raise Refused(401, f"the claim must be signed over {', '.join(sorted(SIGNED))} and no more")
    if not signed <= SIGNED | {"content-type"} or not all(map(_is_plain, headers.values())):
        raise Refused(401, "the claim has headers that no agent of ours sends")
    if proof.body != BODY:
        raise Refused(401, "the claim must ask for GetCallerIdentity and nothing else")
    if headers["host"] != urlsplit(config.sts_url).netloc or match["region"] != config.region:
        raise Refused(401, f"the claim is not signed for the STS of {config.region}")
    if headers["x-docker-job-deployment"] != config.deployment:
        raise Refused(401, "the claim is for another deployment")
    if not tokens.same(headers["x-docker-job-token"], tokens.token_hash(token).hex()):
        raise Refused(401, "the claim is not bound to this token")
    at = _moment(headers["x-amz-date"], match["day"])
    if at is None or abs(now - at) > SKEW:
        raise Refused(401, "the claim is older than five minutes, or a clock is wrong")
    return VerifiedInstance("", hashlib.sha256(match["signature"].encode()).digest(), at + SKEW)


def read_instance(answer: str, role: Role) -> str:
    """The instance in STS's answer. Raises `Refused` where it is not one of ours."""
    arns = _ARN.findall(answer)
    match = _SESSION.fullmatch(arns[0]) if len(arns) == 1 else None
    if match is None or Role(match["partition"], match["account"], match["name"]) != role:
        raise Refused(403, "the claim is not by our instances' role")
    if not _INSTANCE.fullmatch(match["session"]):
        raise Refused(403, "the claim is not by an instance")
    return match["session"]


def _is_plain(value: str) -> bool:
    return len(value) <= MAX_VALUE and value.isascii() and value.isprintable()


def _moment(text: str, day: str) -> datetime | None:
    if not _MOMENT.fullmatch(text) or text[:8] != day:
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass
class StsIdentity:
    """Asks STS. An answer is remembered as long as its proof is good: who must wait asks often."""

    config: IdentityConfig
    clock: Clock
    _known: dict[bytes, VerifiedInstance] = field(default_factory=dict)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def who(self, proof: Proof, token: str) -> VerifiedInstance:
        """The instance that *proof* is by."""
        checked = check_proof(proof, token, self.config, self.clock.now())
        known = self._known.get(checked.signature)
        if known is not None:
            return known
        answer = await self._ask(proof)
        shown = VerifiedInstance(
            read_instance(answer, self.config.role), checked.signature, checked.expires_at
        )
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[shown.signature] = shown
        return shown

    async def _ask(self, proof: Proof) -> str:
        """STS's own answer. Raises `Refused` where it refuses and `StsAway` where it has none."""
        timeout = aiohttp.ClientTimeout(total=STS_SECONDS)
        try:
            async with (
                asyncio.timeout(2 * STS_SECONDS),
                self._room,
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
            raise StsAway("STS does not answer now: ask again") from None
        if response.status == 200:
            return raw.decode(errors="replace")
        if response.status >= 500 or response.status == 429:
            raise StsAway(f"STS answered {response.status}: ask again")
        _log.warning("STS refused a claim", status=response.status)
        raise Refused(401, f"STS does not take the claim's signature (status {response.status})")
