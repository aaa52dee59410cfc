"""The authority by which agents verify the API, where it is the deployment's own.

It is public. Agents get it in the way in which they get the API's URL, and then trust no other one.
"""

import ssl

from shared.settings import PREFIX, BadSetting, Settings

MOST_BYTES = 8192
"""It is part of EC2's user data, which has 16 KiB."""


def read_api_ca(settings: Settings) -> str:
    """Read `API_CA`, certificates in PEM; empty: agents trust their system's authorities.

    Raises `BadSetting`.
    """
    text = settings.text("API_CA", "").strip()
    if not text:
        return ""
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        message = "it must be the certificate of the authority that issued the API's, in PEM"
        raise BadSetting(f"{PREFIX}API_CA: {message}") from None
    if "PRIVATE KEY" in text:
        raise BadSetting(f"{PREFIX}API_CA holds a private key: agents need the certificate alone")
    if len(text) > MOST_BYTES:
        raise BadSetting(
            f"{PREFIX}API_CA has {len(text)} bytes: it must have {MOST_BYTES} at most. Name the "
            "one authority that issued the API's certificate"
        )
    return text + "\n"
