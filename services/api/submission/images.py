"""Refusals of image references that the grammar in `jobs/fields.py` allows.

Either no engine pulls them, or `registries` refuses their registry.

The rules are those of https://github.com/distribution/reference (normalize.go, reference.go) and of
https://github.com/opencontainers/go-digest; tried on Docker 20.10.
"""

import re
from ipaddress import IPv6Address

from services.api.jobs.fields import HOST
from services.api.submission.faults import short
from services.api.submission.json_body import BadRequest
from services.api.submission.registries import RegistryRules

MAX_NAME = 255
MAX_PORT = 65_535
DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}
HUB = "docker.io"

_HOST = re.compile(HOST)
_ID = re.compile("[0-9a-f]{64}")
_HEX = re.compile("[0-9a-f]+")


def check_image(image: str, registries: RegistryRules) -> None:
    """Refuse a reference that no engine pulls, or of a refused registry. Raises `BadRequest`."""
    reason = _fault(image, registries)
    if reason is not None:
        raise BadRequest(f"docker_image {short(image)} cannot be pulled: {reason}")


def host_of(image: str) -> str | None:
    """Return the registry's host, perhaps with a port, as it is written; None if none is."""
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else None


def _fault(image: str, registries: RegistryRules) -> str | None:
    if _ID.fullmatch(image):
        return "64 hexadecimal digits are an image's id, and not its name"
    reference, _, digest = image.partition("@")
    host = host_of(reference)
    path = reference[len(host) + 1 :] if host else reference
    name = path.partition(":")[0]
    fault = _fault_of_host(host) or _fault_of_name(host, name) or _fault_of_digest(digest)
    return fault or (registries.fault_of(host) if host else None)


def _fault_of_host(host: str | None) -> str | None:
    if host is None:
        return None
    if not _HOST.fullmatch(host):
        return f"{short(host)} is not a registry's host"
    address = host.partition("]")[0]
    if address.startswith("[") and not _is_address(address[1:]):
        return f"{short(host)} has no IPv6 address"
    port = host.rpartition("]")[2].partition(":")[2]
    if port and not 1 <= int(port[:6]) <= MAX_PORT:
        return f"its registry's port must be from 1 to {MAX_PORT}"
    return None


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _fault_of_name(host: str | None, name: str) -> str | None:
    if name != name.lower():
        return "its repository's name must be in lower case"
    if host in (None, HUB, f"index.{HUB}"):
        name = name if "/" in name else f"library/{name}"
        host = HUB
    if name == "library/scratch" and host == HUB:
        return "'scratch' is a reserved name, for building images"
    if len(f"{host}/{name}") > MAX_NAME:
        return f"its name, with the registry's, has more than {MAX_NAME} characters"
    return None


def _fault_of_digest(digest: str) -> str | None:
    if not digest:
        return None
    algorithm, _, digits = digest.partition(":")
    if algorithm not in DIGITS:
        return f"the algorithm of its digest must be one of {', '.join(DIGITS)}"
    if len(digits) != DIGITS[algorithm] or not _HEX.fullmatch(digits):
        return f"a digest of {algorithm} has {DIGITS[algorithm]} hexadecimal digits, in lower case"
    return None
