"""Proof of the instance's identity, by its role."""

from __future__ import annotations

import time
from typing import Any

from .aws import Aws, Request, sign

PROOF_SECONDS = 120.0  # how long one signed proof of identity is used; STS takes it for 15 minutes
PROOF_TRIES = 5  # a clock that is not set yet, a role that is not known everywhere yet


class Proof:
    """Signed GetCallerIdentity requests, which the API sends to STS.

    Who holds one can send it for some minutes. So signed headers bind it to one deployment and one
    attempt token: another deployment's API refuses it, and an eavesdropper cannot use it with a
    token of his own.
    """

    BODY = "Action=GetCallerIdentity&Version=2011-06-15"

    def __init__(self, aws: Aws, deployment: str) -> None:
        self._aws = aws
        self._deployment = deployment
        self._made: dict[str, Any] | None = None
        self._made_at = 0.0

    def instance_id(self) -> str | None:
        """Return the id of this instance, if it is known: a claim that names it is served first."""
        return self._aws.instance_id()

    def renew(self) -> None:
        """Discard the signed request, so that the next one has a new signature."""
        self._made = None

    def bound_to(self, token_hash: str) -> dict[str, Any]:
        """Return headers and body of a request bound to the token; raises UnreachableError."""
        if self._made is None or time.monotonic() - self._made_at > PROOF_SECONDS:
            headers = {
                "host": self._aws.sts_host(),
                "content-type": "application/x-www-form-urlencoded; charset=utf-8",
                "x-docker-job-deployment": self._deployment,
                "x-docker-job-token": token_hash,
            }
            request = Request("sts", self._aws.region(), headers, self.BODY.encode())
            signed = sign(request, self._aws.credentials(), self._aws.now())
            self._made = {"headers": signed, "body": self.BODY}
            self._made_at = time.monotonic()
        return self._made
