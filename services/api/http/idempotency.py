"""`Idempotency-Key`: the header, and the hash by which a repeated request is recognised."""

import hmac

from starlette.requests import Request

from services.api.http.headers import header_of
from services.api.submission.request import BadRequest

MAX_KEY_LENGTH = 255


def read_key(request: Request) -> str | None:
    """Read the header; None if there is none. Raises `BadRequest`."""
    key = header_of(request, b"idempotency-key")
    if key is None:
        return None
    # As the header's octets: the bytes of UTF-8 beyond ASCII are octets like others.
    if not 1 <= len(key) <= MAX_KEY_LENGTH or any(each < " " or each == "\x7f" for each in key):
        raise BadRequest(
            f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} bytes, none of them a control character"
        )
    return key


def keyed(secret: str, raw: bytes) -> bytes:
    """Hash a request under *secret*: a plain hash in the row would allow to guess its secrets."""
    return hmac.digest(secret.encode(), raw, "sha256")
