"""The instance metadata service (IMDSv2): one for each instance, on an address of its own.

A request needs a session token, which a PUT issues for a number of seconds; without one the answer
is 401, as for HttpTokens "required". The effect of the hop limit is kept: only the instance itself
gets answers, and a connection from another address (a job's container) is cut. Role credentials are
valid at this cloud's STS.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from fake_aws.credentials import Credential, Keys
from fake_aws.instance import Instance

LONGEST_TTL = 21_600
CREDENTIAL_SECONDS = 6 * 3600.0
RENEW_BEFORE = timedelta(minutes=5)
TOKEN, TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"
META = "/latest/meta-data"


class Metadata:
    """The metadata service of one instance."""

    def __init__(
        self,
        instance: Instance,
        keys: Keys,
        role: Callable[[str], str | None],
        region: str,
    ) -> None:
        """*role* returns the name of an instance profile's role."""
        self._instance = instance
        self._keys = keys
        self._role = role
        self._region = region
        self._allowed: Collection[str] = ()
        self._known = asyncio.Event()
        self._tokens: dict[str, float] = {}
        self._credential: Credential | None = None
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.refused = 0
        """The number of connections from other addresses."""

    async def start(self, host: str) -> None:
        """Listen on a free port of *host*."""
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, 0).start()
        self.port = self._runner.addresses[0][1]

    def allow(self, addresses: Collection[str]) -> None:
        """Set the instance's addresses, which get answers; until then every request waits."""
        self._allowed = addresses
        self._known.set()

    async def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        await self._known.wait()
        if request.remote not in self._allowed:
            self.refused += 1
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=403)
        if request.method == "PUT" and request.path == "/latest/api/token":
            return self._issue(request)
        refusal = self._refusal(request)
        if refusal:
            return web.Response(status=refusal)
        body = self._find(request.path.rstrip("/"))
        if body is None:
            return web.Response(status=404)
        return web.Response(body=body, content_type="text/plain")

    def _refusal(self, request: web.Request) -> int | None:
        options = self._instance.plan.metadata
        if options.get("HttpEndpoint") == "disabled":
            return 403
        if request.method not in {"GET", "HEAD"}:
            return 405
        given = request.headers.get(TOKEN)
        if given is None:
            return 401 if options.get("HttpTokens", "required") == "required" else None
        return None if self._is_good(given) else 401

    def _issue(self, request: web.Request) -> web.Response:
        disabled = self._instance.plan.metadata.get("HttpEndpoint") == "disabled"
        if disabled or "X-Forwarded-For" in request.headers:  # the caller is behind a proxy
            return web.Response(status=403)
        ttl = request.headers.get(TTL, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= LONGEST_TTL:
            return web.Response(status=400)
        token = secrets.token_urlsafe(40)
        self._tokens[token] = time.monotonic() + int(ttl)
        return web.Response(text=token, headers={TTL: ttl})

    def _is_good(self, token: str) -> bool:
        return time.monotonic() < self._tokens.get(token, 0.0)

    def _find(self, path: str) -> bytes | None:
        if path == "/latest/user-data":
            return base64.b64decode(self._instance.plan.user_data) or None
        if path == "/latest/dynamic/instance-identity/document":
            return json.dumps(self._document(), indent=2).encode()
        values = self._values()
        if path in values:
            value = values[path]
            return value.encode() if value is not None else None
        below = {
            name.removeprefix(path + "/").partition("/")
            for name, value in values.items()
            if name.startswith(path + "/") and value is not None
        }
        names = sorted({first + slash for first, slash, _ in below})
        return "\n".join(names).encode() if names else None

    def _values(self) -> dict[str, str | None]:
        instance, plan = self._instance, self._instance.plan
        values: dict[str, str | None] = {
            f"{META}/ami-id": plan.image.id,
            f"{META}/ami-launch-index": "0",
            f"{META}/instance-id": instance.id,
            f"{META}/instance-type": plan.kind.name,
            f"{META}/instance-life-cycle": plan.market,
            f"{META}/instance-action": "none",
            f"{META}/local-ipv4": instance.address,
            f"{META}/mac": "0e:00:00:00:00:01",
            f"{META}/reservation-id": instance.reservation,
            f"{META}/placement/availability-zone": plan.subnet.zone,
            f"{META}/placement/region": self._region,
            f"{META}/services/domain": "amazonaws.com",
            f"{META}/services/partition": "aws",
            f"{META}/spot/instance-action": _notice(instance),
            f"{META}/spot/termination-time": _stamp(instance.interrupt_at),
            f"{META}/events/recommendations/rebalance": _recommendation(instance),
        }
        if plan.metadata.get("InstanceMetadataTags") == "enabled":
            values |= {f"{META}/tags/instance/{key}": value for key, value in instance.tags.items()}
        role = self._role(plan.profile) if plan.profile else None
        if role:
            values[f"{META}/iam/info"] = json.dumps(
                {
                    "Code": "Success",
                    "LastUpdated": _stamp(_now()),
                    "InstanceProfileArn": plan.profile,
                }
            )
            values[f"{META}/iam/security-credentials/{role}"] = json.dumps(self._secrets(role))
        return values

    def _secrets(self, role: str) -> dict[str, Any]:
        known = self._credential
        if known is None or known.expires_at is None or known.expires_at - _now() < RENEW_BEFORE:
            known = self._keys.for_role(role, self._instance.id, CREDENTIAL_SECONDS, _now())
            self._credential = known
        return {
            "Code": "Success",
            "LastUpdated": _stamp(_now()),
            "Type": "AWS-HMAC",
            "AccessKeyId": known.access_key,
            "SecretAccessKey": known.secret,
            "Token": known.session_token,
            "Expiration": _stamp(known.expires_at),
        }

    def _document(self) -> dict[str, Any]:
        instance, plan = self._instance, self._instance.plan
        return {
            "accountId": instance.owner,
            "architecture": plan.kind.architectures[0],
            "availabilityZone": plan.subnet.zone,
            "imageId": plan.image.id,
            "instanceId": instance.id,
            "instanceType": plan.kind.name,
            "pendingTime": _stamp(instance.launched_at),
            "privateIp": instance.address,
            "region": self._region,
            "version": "2017-09-30",
        }


def _now() -> datetime:
    return datetime.now(UTC)


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _notice(instance: Instance) -> str | None:
    if instance.interrupt_at is None:
        return None
    return json.dumps({"action": "terminate", "time": _stamp(instance.interrupt_at)})


def _recommendation(instance: Instance) -> str | None:
    if instance.rebalance_at is None:
        return None
    return json.dumps({"noticeTime": _stamp(instance.rebalance_at)})
