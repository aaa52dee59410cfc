"""The HTTP server: receives every call of every service, as boto3 sends it.

The order is AWS's: faults, the signature, the rate limits, the policies, then the call itself. A
lost answer is a connection that is cut before its first byte. `DryRun` ends a call of EC2 after its
policies: what it names need not exist. RunInstances alone checks its values too, since its policies
concern what it would launch (https://github.com/aws/karpenter-provider-aws,
pkg/controllers/nodeclass/validation.go, relies on both).
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
from aiohttp import web

from fake_aws.buckets import Limits
from fake_aws.calls import Calls
from fake_aws.credentials import Credential, Keys
from fake_aws.endpoints import check_endpoint
from fake_aws.errors import AwsError, dry_run
from fake_aws.faults import Fault, Faults
from fake_aws.longpoll import receive
from fake_aws.moto_side import MotoSide
from fake_aws.settings import CloudSettings
from fake_aws.signature import region_of, verify
from fake_aws.wire import (
    QUERY_ERROR,
    SHORT_NAMES,
    Answer,
    Call,
    Request,
    knows,
    read_call,
    write_error,
    write_result,
)

MOST_BYTES = 2 * 1024 * 1024
Allow = Callable[[Credential, str, str, dict[str, Any]], None]


class LoggedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A received call and its outcome: "ok", an error code, or "lost"."""

    at: float
    """`time.monotonic()`."""
    service: str
    action: str
    outcome: str
    caller: str
    params: dict[str, Any]
    instances: int
    """The number of instances in the answer."""


class Front:
    """Reads, checks, answers and logs each call."""

    def __init__(
        self,
        settings: CloudSettings,
        keys: Keys,
        limits: Limits,
        faults: Faults,
        calls: Calls,
        moto: MotoSide,
        allow: Allow,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._limits = limits
        self._faults = faults
        self._calls = calls
        self._moto = moto
        self._allow = allow
        self.log: list[LoggedCall] = []

    def change(self, settings: CloudSettings) -> None:
        """Take other settings of the calls: of the clock, of signatures, of `DryRun`."""
        self._settings = settings

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer one HTTP request."""
        request = Request(
            method=http.method,
            path=http.rel_url.raw_path,
            query=http.rel_url.raw_query_string,
            headers={name.lower(): value for name, value in http.headers.items()},
            body=await http.read(),
        )
        try:
            call = read_call(request)
        except AwsError as error:
            return self._respond(write_error("ec2", error, "-"))
        fault = self._faults.strike(call.action)
        if fault is not None and fault.kind == "delay":
            await asyncio.sleep(fault.seconds)
        answer = None
        if fault is not None and fault.kind == "delay_after":
            answer = await self._answer_slowly(call, fault.seconds)
        elif fault is None or fault.kind in {"delay", "lost_after", "error_after"}:
            answer = await self._answer(call, lost=fault is not None and fault.kind != "delay")
        elif fault.kind == "error":
            answer = self._fail(call, _error_of(fault))
        else:
            self._note(call, "lost")
        if fault is not None and fault.kind == "error_after":
            answer = write_error(call.protocol, _error_of(fault), call.request_id)
        if answer is None or (fault is not None and fault.kind == "lost_after"):
            if http.transport is not None:
                http.transport.abort()
            return web.Response(status=500)
        return self._respond(answer)

    async def _answer_slowly(self, call: Call, seconds: float) -> Answer:
        """Make the call, and send its answer *seconds* later."""
        self._faults.begin(call.params().get("ClientToken") or "", seconds)
        answer = await self._answer(call, lost=False)
        await asyncio.sleep(seconds)
        return answer

    async def _answer(self, call: Call, *, lost: bool) -> Answer:
        caller: Credential | None = None
        params: dict[str, Any] = {}
        try:
            caller = self._caller(call)
            params = call.params()
            self._check(call, caller, params)
            if (call.service, call.action) == ("sts", "GetCallerIdentity"):
                result = self._calls.caller_identity(caller)
            else:
                handler = self._calls.find(call.service, call.action, params)
                if handler is None:
                    return await self._pass_on(call, caller, params)
                result = handler(params)
            self._note(call, "lost" if lost else "ok", caller, params, _instances_in(result))
            return write_result(call, result)
        except AwsError as error:
            return self._fail(call, error, caller, params)

    async def _pass_on(
        self, call: Call, caller: Credential | None, params: dict[str, Any]
    ) -> Answer:
        if (call.service, call.action) == ("sqs", "ReceiveMessage"):
            answer = await receive(self._moto, call.request, params)
        else:
            answer = await self._moto.answer(call.request)
        self._note(call, "ok" if answer.status < 300 else str(answer.status), caller, params)
        return answer

    def _check(self, call: Call, caller: Credential, params: dict[str, Any]) -> None:
        if call.service == "ec2":
            self._limits.request(call.action)
        self._allow(caller, call.service, call.action, params)
        if not self._settings.knows_dry_run:
            params.pop("DryRun", None)
        if params.get("DryRun") and call.action != "RunInstances":
            raise dry_run()

    def _caller(self, call: Call) -> Credential:
        if not knows(call.service, call.action):
            message = f"The action {call.action} is not valid for this web service."
            raise AwsError("InvalidAction", message)
        if not self._settings.verify_signatures:
            return self._keys.operator
        check_endpoint(call.service, region_of(call.request), self._settings.region)
        signed_for = SHORT_NAMES.get(call.service, call.service)
        clock_error = self._settings.ec2_clock_error
        return verify(call.request, signed_for, self._keys, self._now(), clock_error)

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._settings.clock_ahead_seconds)

    def _respond(self, answer: Answer) -> web.Response:
        headers = {
            "Content-Type": answer.content_type,
            "Date": format_datetime(self._now(), usegmt=True),
        }
        if answer.query_error:
            headers[QUERY_ERROR] = answer.query_error
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    def _fail(
        self,
        call: Call,
        error: AwsError,
        caller: Credential | None = None,
        params: dict[str, Any] | None = None,
    ) -> Answer:
        self._note(call, error.code, caller, params)
        return write_error(call.protocol, error, call.request_id)

    def _note(
        self,
        call: Call,
        outcome: str,
        caller: Credential | None = None,
        params: dict[str, Any] | None = None,
        instances: int = 0,
    ) -> None:
        self.log.append(
            LoggedCall(
                at=time.monotonic(),
                service=call.service,
                action=call.action,
                outcome=outcome,
                caller=caller.arn if caller else "",
                params=params or {},
                instances=instances,
            )
        )


def _instances_in(result: dict[str, Any]) -> int:
    listed = result.get("Instances") or result.get("TerminatingInstances") or []
    return sum(len(each.get("InstanceIds", "1")) for each in listed)


def _error_of(fault: Fault) -> AwsError:
    return AwsError(fault.code, fault.message, fault.status)
