"""The errors of failed pulls: who said them, and whether another try may help. Pure.

An engine's text may quote what the registry has answered, or whatever listens in its place: a
page, a banner, the addresses of a private network. None of that is passed on: a `Failure` has a
reason in the words of this table, and the status of HTTP. The engine's log has the text.

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
DEPLOYMENT = "deployment"
TIME = "time limit"

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
    DEPLOYMENT: "this deployment does not allow the registry",
    TIME: "the pull takes too long",
}


class Failure(NamedTuple):
    """A failed try: who said so, whether another try cannot help, and why, in words of our own."""

    reason: str = ""
    origin: str = ENGINE
    permanent: bool = False

    @property
    def text(self) -> str:
        """Return the failure in words for users: who said so, and why."""
        return ": ".join(each for each in (PHRASES[self.origin], self.reason) if each)

    @property
    def message(self) -> str:
        """Return the job's error: the same, or the reason alone if that is clear enough."""
        return self.reason if self.reason and self.origin in (ENGINE, TIME) else self.text


class Saying(NamedTuple):
    """A kind of text: its origin, whether it is for good, and the reason that users see."""

    origin: str
    permanent: bool
    pattern: re.Pattern[str]
    reason: str | None


def _saying(origin: str, *parts: str, permanent: bool = False, reason: str | None = None) -> Saying:
    """Make a row. Without a *reason* the words that fit are the reason: they must be literal."""
    flags = re.IGNORECASE | re.MULTILINE  # several errors of a registry are a line each
    return Saying(origin, permanent, re.compile("|".join(parts), flags), reason)


CODE = r"(?:^|: )"  # before a registry's error code …
END = r"(?::| - |$)"  # … and after it
STATUS = "(?:unexpected status|failed with status code)"  # containerd from 1.7 on, and before
HTTP_STATUS = re.compile(
    r"(?:error parsing HTTP |unexpected HTTP status: |(?:unexpected status|status code)[^\n]*?: )"
    r"([1-5][0-9]{2})\b"
)

# The first that fits counts: a text names the outer trouble first, and the cause last.
SAYINGS = (
    # docker's own client: the engine is away.
    _saying(
        ENGINE, "permission denied while trying to connect", reason="its socket denies the agent"
    ),
    _saying(ENGINE, "docker could not be started"),
    _saying(
        ENGINE,
        *("docker daemon", "error during connect", "the container engine"),
        "failed to open the raw stream connection",
        reason="the engine does not answer",
    ),
    # This machine's disk: another instance may have room.
    _saying(DISK, "no space left on device", "disk quota exceeded", "read-only file system"),
    # "toomanyrequests: You have reached your pull rate limit", of Docker Hub and others; newer
    # engines leave the code out, and a body that is no JSON leaves the status alone.
    _saying(
        LIMIT,
        *("toomanyrequests", "too many requests", "rate limit", "rate exceeded", r"HTTP 429\b"),
        reason="",
    ),
    # net.DNSError: "lookup HOST on SERVER: no such host". Names come and go, resolvers too.
    _saying(
        DNS,
        *("no such host", "server misbehaving", r"\blookup \S+", "name resolution"),
        reason="",
    ),
    # A clock that is wrong, or a certificate that is being renewed.
    _saying(
        CERTIFICATE,
        "x509: certificate has expired or is not yet valid",
        reason="it has expired or is not yet valid",
    ),
    # A certificate of an authority that the engine does not know, or of another name; a registry
    # without TLS. The engine must be configured.
    _saying(
        CERTIFICATE,
        "x509: certificate signed by unknown authority",
        permanent=True,
        reason="it is signed by an unknown authority",
    ),
    _saying(
        CERTIFICATE,
        "server gave HTTP response to HTTPS",
        permanent=True,
        reason="the registry answers with HTTP, not HTTPS",
    ),
    _saying(CERTIFICATE, "x509: ", permanent=True, reason=""),
    _saying(
        NETWORK,
        *("connection refused", "connection reset", "i/o timeout", "broken pipe"),
        *("TLS handshake timeout", "request canceled", "deadline exceeded", r"\bEOF\b"),
        *("no route to host", "network is unreachable", "connection timed out"),
        "malformed HTTP response",
    ),
    _saying(NETWORK, r"\btls: ", reason="TLS failed"),
    _saying(NETWORK, "dial tcp", "proxyconnect", "http2: ", r"\b(?:read|write) tcp\b", reason=""),
    # An answer without a registry's JSON: a proxy's page, a mirror that is being started.
    _saying(
        PROXY,
        *(r"error parsing HTTP \d+ response body", "proxy authentication required"),
        *("error unmarshalling content", "invalid character .* looking for beginning of"),
        reason="",
    ),
    # 5xx; a registry, or its storage, that sends its client round.
    _saying(REGISTRY, "received unexpected HTTP status", reason=""),
    _saying(REGISTRY, r"stopped after \d+ redirects", reason="too many redirects"),
    # containerd's client names the status alone: that of the registry, of its token server or of a
    # proxy. It never says 404 of an image so: that is "not found", below.
    _saying(LOGIN, STATUS + r".*\b(?:401|403)\b", permanent=True, reason=""),
    _saying(REGISTRY, STATUS, reason=""),
    # The reference itself.
    _saying(
        ENGINE,
        *("invalid reference format", "invalid tag format", "invalid repository name"),
        *("64-byte hexadecimal", "must be lowercase", "is a reserved name", "checksum digest"),
        permanent=True,
        reason="the image's name is not valid",
    ),
    # The image: none for this machine, or none that the engine can run.
    _saying(
        ENGINE,
        r"no matching manifest for [a-z]{1,10}(?:/[a-z0-9]{1,10}){1,2}\b",
        *("no matching manifest for", "no match for platform", "not match the specified platform"),
        permanent=True,
    ),
    _saying(
        ENGINE,
        *("image operating system", "cannot download image with operating system"),
        permanent=True,
        reason="the image is for another operating system",
    ),
    _saying(
        ENGINE,
        *("unsupported manifest", "unsupported media ?type", "unsupported schema version"),
        *("encountered remote", "Docker Image Format v1", "no longer supported since containerd"),
        *("AI models are not", "max depth exceeded", "mediaType in manifest should be"),
        permanent=True,
        reason="the image has a format that the engine cannot run",
    ),
    # Contents that are missing or wrong though the registry has the image: broken on the way, or a
    # mirror that does not have all of it yet.
    _saying(
        REGISTRY,
        *("unknown blob", "blob unknown", "verification failed for digest", "failed precondition"),
        *("unexpected commit digest", "could not fetch content", "content at", "digest mismatch"),
        reason="contents of the image are missing or damaged",
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
        permanent=True,
    ),
    _saying(
        REGISTRY,
        CODE + r"unknown: .*(?:not found|does not exist)",  # of Harbor and others: code NOT_FOUND
        r"failed to resolve reference .*: not found$",
        r"error from registry: .*(?:not found|does not exist)",
        permanent=True,
        reason="not found",
    ),
    _saying(REGISTRY, CODE + r"(?:unavailable|unknown): ", "error from registry", reason=""),
)


def read_failure(text: str, image: str) -> Failure:
    """Return who said the error of a pull of *image*, whether it is for good, and the reason."""
    said = _without_names(text, image)
    status = HTTP_STATUS.search(said)
    http = f"HTTP {status[1]}" if status else ""
    for saying in SAYINGS:
        match = saying.pattern.search(said)
        if match:
            words = match[0].strip(" :-") if saying.reason is None else saying.reason
            return Failure(words or http, saying.origin, saying.permanent)
    return Failure(http)


def _without_names(text: str, image: str) -> str:
    """Return the text without quotations, URLs and the image's own name."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "…", text)
    text = re.sub(r"https?://\S+?(?=[:,]?(?:\s|$))", "…", text)
    name = re.sub(r":[^/:]*$", "", image.partition("@")[0])
    if "/" in name:  # a single word may be one of theirs
        text = re.sub(rf"{re.escape(name)}[\w.:@-]*\b", "…", text)
    return "\n".join(line.strip() for line in text.splitlines())
