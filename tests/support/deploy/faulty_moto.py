"""Faults of moto: an action of AWS refuses its next calls, as AWS does in its first minute.

The error is made by moto's own serializers, in the form of the service's protocol.
"""

import warnings
from collections import Counter
from typing import Any

import pytest
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.s3.responses import S3Response

S3_REFUSES = (
    "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code>"
    "<Message>refused</Message><RequestId>1</RequestId></Error>"
)


class Refused(ServiceException):
    """An error that belongs to no service of moto."""


class Faults:
    """Which actions fail next, and with which code."""

    def __init__(self, environment: pytest.MonkeyPatch) -> None:
        self._left: Counter[str] = Counter()
        self._codes: dict[str, str] = {}
        self.refused: list[str] = []
        """The actions that were refused, in their order."""
        self._patch(environment)

    def fail(self, action: str, code: str, times: int = 1) -> None:
        """Refuse the next calls of *action* with *code*."""
        self._left[action] += times
        self._codes[action] = code

    def _take(self, action: str) -> str | None:
        if not self._left[action]:
            return None
        self._left[action] -= 1
        self.refused.append(action)
        return self._codes[action]

    def _patch(self, environment: pytest.MonkeyPatch) -> None:
        faults, call_action = self, BaseResponse.call_action
        key_response = S3Response._key_response

        def call_or_refuse(self: BaseResponse) -> Any:
            code = faults._take(self._get_action())
            if code is None:
                return call_action(self)
            with warnings.catch_warnings():
                # moto knows only the errors in the service's model, where IAM's are not.
                warnings.simplefilter("ignore")
                return self.serialized(ActionResult(Refused(code, "refused")))

        def object_or_refuse(self: S3Response, request: Any, full_url: str) -> Any:
            code = faults._take("GetObject") if request.method == "GET" else None
            if code is None:
                return key_response(self, request, full_url)
            return 403, {}, S3_REFUSES.format(code=code)

        environment.setattr(BaseResponse, "call_action", call_or_refuse)
        environment.setattr(S3Response, "_key_response", object_or_refuse)
