# Made by `make client` from docker_job/_async/keys.py: change that file.
"""Calls of admins: API keys and the audit trail."""

import json
from collections.abc import Sequence
from typing import Unpack
from urllib.parse import quote

from docker_job._sync.transport import Transport, next_cursor
from docker_job.key_documents import ApiKey, AuditEntry
from docker_job.queries import AuditFilters, encode

PAGE = 1000


class KeyCalls:
    """Calls that need a key of scope `admin`."""

    _transport: Transport

    def create_key(self, name: str, *, scope: str = "submit", project: str = "default") -> ApiKey:
        """Make an API key; `key` is its text, which no later call returns.

        It is not sent again after a lost connection: a key may have been made then.
        """
        body = json.dumps({"name": name, "scope": scope, "project": project}).encode()
        response = self._transport.send("POST", "/keys", body=body, repeatable=False)
        return self._transport.read(ApiKey, self._transport.json(response))

    def list_keys(self) -> Sequence[ApiKey]:
        """Return all API keys without their texts, revoked ones too, the oldest first."""
        answer = self._transport.json(self._transport.send("GET", "/keys"))
        return [self._transport.read(ApiKey, each) for each in answer]

    def revoke_key(self, prefix: str) -> None:
        """Revoke an API key for good. Raises `NotFound`, and `Conflict` for the last admin's."""
        self._transport.send("DELETE", f"/keys/{quote(prefix, safe='')}")

    def audit(
        self, *, limit: int | None = None, **filters: Unpack[AuditFilters]
    ) -> Sequence[AuditEntry]:
        """Return who did what, the newest first: up to *limit* acts, None: all."""
        found: list[AuditEntry] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            query = encode({**filters, "limit": size, "cursor": cursor})
            response = self._transport.send("GET", "/audit", query=query)
            answer = self._transport.json(response)
            found += [self._transport.read(AuditEntry, each) for each in answer]
            cursor = next_cursor(response)
            if cursor is None:
                break
        return found
