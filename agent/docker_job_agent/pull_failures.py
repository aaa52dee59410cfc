"""The errors of failed pulls: who said them, and whether another try may help. Pure.

The engine gives texts alone, so this is a table of them, in the words of its two image stores:

- the older one: moby 20.10 to 28 `distribution/errors.go`, `distribution/pull_v2.go`; a registry's
  own errors come as "code: message", in docker/distribution `registry/client/errors.go` and
  `registry/api/errcode`, `registry/api/v2/errors.go`;
- containerd's: containerd `core/remotes/docker/{resolver,fetcher,authorizer}.go`, moby
  `daemon/containerd/{image_pull,registry_errors}.go`;
- below both: Go's `net`, `net/http` and `crypto/x509`.

A name that someone chose must not decide, so what is quoted, addresses and the image's own name are
left out before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Who said it.
DISK = "disk"
LIMIT = "rate limit"
DNS = "DNS"
NETWORK = "network"
CERTIFICATE = "certificate"
PROXY = "proxy"
REGISTRY = "registry"
LOGIN = "login"
ENGINE = "engine"

PHRASES = {
    DISK: "the machine's disk takes no more",
    LIMIT: "the registry limits the rate of pulls",
    DNS: "the registry's name cannot be resolved",
    NETWORK: "the registry does not answer",
    CERTIFICATE: "the registry's certificate is not accepted",
    PROXY: "something else answers in the registry's place",
    REGISTRY: "the registry cannot serve the image",
    LOGIN: "the registry asks for a login",
    ENGINE: "the engine could not pull the image",
}


class Failure(NamedTuple):
    """A failed try: its text, who said it, and whether another try cannot help."""

    text: str
    origin: str = ENGINE
    permanent: bool = False


class Saying(NamedTuple):
    """A kind of text: who says it, and whether it is for good."""

    origin: str
    permanent: bool
    pattern: re.Pattern[str]


def _saying(origin: str, *parts: str, permanent: bool = False) -> Saying:
    flags = re.IGNORECASE | re.MULTILINE  # several errors of a registry are a line each
    return Saying(origin, permanent, re.compile("|".join(parts), flags))


CODE = r"(?:^|: )"  # before a registry's error code …
END = r"(?::| - |$)"  # … and after it
STATUS = "(?:unexpected status|failed with status code)"  # containerd from 1.7 on, and before

# The first that fits counts: a text names the outer trouble first, and the cause last.
SAYINGS = (
    # docker's own client: the engine is away.
    _saying(
        ENGINE,
        *("docker daemon", "error during connect", "the container engine"),
        "failed to open the raw stream connection",
    ),
    # This machine's disk: another instance may have room.
    _saying(DISK, "no space left on device", "disk quota exceeded", "read-only file system"),
    # "toomanyrequests: You have reached your pull rate limit", of Docker Hub and others; newer
    # engines leave the code out, and a body that is no JSON leaves the status alone.
    _saying(
        LIMIT, "toomanyrequests", "too many requests", "rate limit", "rate exceeded", r"HTTP 429\b"
    ),
    # net.DNSError: "lookup HOST on SERVER: no such host". Names come and go, resolvers too.
    _saying(DNS, "no such host", "server misbehaving", r"\blookup \S+", "name resolution"),
    # A clock that is wrong, or a certificate that is being renewed.
    _saying(CERTIFICATE, "x509: certificate has expired or is not yet valid"),
    # A certificate of an authority that the engine does not know, or of another name; a registry
    # without TLS. The engine must be configured.
    _saying(CERTIFICATE, "x509: ", "server gave HTTP response to HTTPS", permanent=True),
    _saying(
        NETWORK,
        *("dial tcp", "connection refused", "connection reset", "i/o timeout", "broken pipe"),
        *("TLS handshake timeout", "request canceled", "deadline exceeded", r"\bEOF\b"),
        *("no route to host", "network is unreachable", "proxyconnect", "http2: "),
        *("connection timed out", r"\b(?:read|write) tcp\b", r"\btls: ", "malformed HTTP response"),
        "the pull made no progress",  # our own words
    ),
    # An answer without a registry's JSON: a proxy's page, a mirror that is being started.
    _saying(
        PROXY,
        *(r"error parsing HTTP \d+ response body", "proxy authentication required"),
        *("error unmarshalling content", "invalid character .* looking for beginning of"),
    ),
    # 5xx; a registry, or its storage, that sends its client round.
    _saying(REGISTRY, "received unexpected HTTP status", r"stopped after \d+ redirects"),
    # containerd's client names the status alone: that of the registry, of its token server or of a
    # proxy. It never says 404 of an image so: that is "not found", below.
    _saying(LOGIN, STATUS + r".*\b(?:401|403)\b", permanent=True),
    _saying(REGISTRY, STATUS),
    # The reference itself.
    _saying(
        ENGINE,
        *("invalid reference format", "invalid tag format", "invalid repository name"),
        *("64-byte hexadecimal", "must be lowercase", "is a reserved name", "checksum digest"),
        permanent=True,
    ),
    # The image: none for this machine, or none that the engine can run.
    _saying(
        ENGINE,
        *("no matching manifest for", "no match for platform", "image operating system"),
        *("cannot download image with operating system", "not match the specified platform"),
        *("unsupported manifest", "unsupported media ?type", "unsupported schema version"),
        *("encountered remote", "Docker Image Format v1", "no longer supported since containerd"),
        *("AI models are not", "max depth exceeded", "mediaType in manifest should be"),
        permanent=True,
    ),
    # Contents that are missing or wrong though the registry has the image: broken on the way, or a
    # mirror that does not have all of it yet.
    _saying(
        REGISTRY,
        *("unknown blob", "blob unknown", "verification failed for digest", "failed precondition"),
        *("unexpected commit digest", "could not fetch content", "content at", "digest mismatch"),
    ),
    # The registry asks for a login, or refuses the one that it got. Many answer so for a repository
    # that does not exist.
    _saying(
        LOGIN,
        *("pull access denied", "no basic auth credentials", "authorization failed"),
        *("authentication required", "incorrect username or password", "access to the resource is"),
        CODE + r"(?:unauthorized|denied)" + END,
        permanent=True,
    ),
    # https://distribution.github.io/distribution/spec/api/#errors-2
    _saying(
        REGISTRY,
        CODE + r"(?:manifest (?:unknown|invalid|unverified)|unsupported)" + END,
        CODE + r"(?:name (?:unknown|invalid)|tag invalid|repository name not known)" + END,
        CODE + r"unknown: .*(?:not found|does not exist)",  # of Harbor and others: code NOT_FOUND
        r"failed to resolve reference .*: not found$",
        r"error from registry: .*(?:not found|does not exist)",
        permanent=True,
    ),
    _saying(REGISTRY, CODE + r"(?:unavailable|unknown): ", "error from registry"),
)


def read_failure(text: str, image: str) -> Failure:
    """Return who said the error of a pull of *image*, and whether it is for good."""
    said = _without_names(text, image)
    for saying in SAYINGS:
        if saying.pattern.search(said):
            return Failure(text, saying.origin, saying.permanent)
    return Failure(text)


def _without_names(text: str, image: str) -> str:
    """Return the text without quotations, URLs and the image's own name."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "…", text)
    text = re.sub(r"https?://\S+?(?=[:,]?(?:\s|$))", "…", text)
    name = re.sub(r":[^/:]*$", "", image.partition("@")[0])
    if "/" in name:  # a single word may be one of theirs
        text = re.sub(rf"{re.escape(name)}[\w.:@-]*\b", "…", text)
    return "\n".join(line.strip() for line in text.splitlines())
