"""Errors of pulls: who said them, and whether another try may help. The texts are engines' own."""

import pytest

from agent.docker_job_agent.pull import pause_seconds
from agent.docker_job_agent.pull_failures import (
    CERTIFICATE,
    DISK,
    DNS,
    ENGINE,
    LIMIT,
    LOGIN,
    NETWORK,
    PHRASES,
    PROXY,
    REGISTRY,
    Failure,
    read_failure,
)

IMAGE = "registry.example.com/team/app:1"
V2 = '"https://registry.example.com/v2/"'
HEAD = '"https://registry.example.com/v2/team/app/manifests/1"'
RESOLVE = f'failed to resolve reference "{IMAGE}": '

# Of engine 20.10 and of 24 to 28 with their own image store.
OF_THE_ENGINE = [
    (f"Get {V2}: dial tcp: lookup registry.example.com on 10.0.0.2:53: no such host", DNS, False),
    (f"Get {V2}: dial tcp: lookup registry.example.com: server misbehaving", DNS, False),
    (
        f"Get {V2}: dial tcp: lookup registry.example.com: Temporary failure in name resolution",
        DNS,
        False,
    ),
    (f"Get {V2}: dial tcp 127.0.0.1:9: connect: connection refused", NETWORK, False),
    (f"Get {V2}: dial tcp 10.1.2.3:443: i/o timeout", NETWORK, False),
    (f"Get {V2}: net/http: TLS handshake timeout", NETWORK, False),
    (f"Get {V2}: EOF", NETWORK, False),
    ("unexpected EOF", NETWORK, False),
    ("read tcp 10.0.0.9:4422->10.1.2.3:443: read: connection reset by peer", NETWORK, False),
    (
        f"Get {V2}: net/http: request canceled while waiting for connection (Client.Timeout "
        "exceeded while awaiting headers)",
        NETWORK,
        False,
    ),
    (f"Get {V2}: context deadline exceeded", NETWORK, False),
    (f"Get {V2}: proxyconnect tcp: dial tcp: lookup proxy: no such host", DNS, False),
    (f"Get {V2}: Forbidden", ENGINE, False),  # the status of a proxy's CONNECT
    (f"Get {V2}: Proxy Authentication Required", PROXY, False),
    (
        "error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: \""
        '<html>404 Not Found, denied: unauthorized:</html>"',
        PROXY,
        False,
    ),
    ('error parsing HTTP 403 response body: unexpected end of JSON input: ""', PROXY, False),
    ('error parsing HTTP 429 response body: unexpected end of JSON input: ""', LIMIT, False),
    ("received unexpected HTTP status: 503 Service Unavailable", REGISTRY, False),
    (
        "toomanyrequests: You have reached your pull rate limit. You may increase the limit by "
        "authenticating and upgrading: https://www.docker.com/increase-rate-limit",
        LIMIT,
        False,
    ),
    ("toomanyrequests: Rate exceeded", LIMIT, False),
    ("unknown: the message", REGISTRY, False),
    ("unavailable: service unavailable", REGISTRY, False),
    ("unknown blob", REGISTRY, False),
    ("filesystem layer verification failed for digest sha256:0dfc899c215e", REGISTRY, False),
    ("image config verification failed for digest sha256:0dfc899c215e", REGISTRY, False),
    (
        f"Get {V2}: x509: certificate has expired or is not yet valid: current time "
        "2026-01-01T00:00:00Z is before 2026-06-01T00:00:00Z",
        CERTIFICATE,
        False,
    ),
    (f"Get {V2}: x509: certificate signed by unknown authority", CERTIFICATE, True),
    (
        f"Get {V2}: tls: failed to verify certificate: x509: certificate is valid for a.example, "
        "not registry.example.com",
        CERTIFICATE,
        True,
    ),
    (f"Get {V2}: http: server gave HTTP response to HTTPS client", CERTIFICATE, True),
    (f"manifest for {IMAGE} not found: manifest unknown: manifest unknown", REGISTRY, True),
    (
        "repository registry.example.com/team/app not found: name unknown: The repository with name "
        "'team/app' does not exist in the registry with id '123456789012'",
        REGISTRY,
        True,
    ),
    ("name invalid: invalid repository name", ENGINE, True),
    ("unsupported: The operation is unsupported.", REGISTRY, True),
    (
        "pull access denied for team/app, repository does not exist or may require 'docker login': "
        "denied: requested access to the resource is denied",
        LOGIN,
        True,
    ),
    (f"Head {HEAD}: no basic auth credentials", LOGIN, True),
    (f"Get {V2}: unauthorized: incorrect username or password", LOGIN, True),
    ("unauthorized: authentication required", LOGIN, True),
    ("unauthorized: access to the requested resource is not authorized", LOGIN, True),
    ("denied: Your authorization token has expired. Reauthenticate and try again.", LOGIN, True),
    (
        "errors:\ndenied: requested access to the resource is denied\nunauthorized: no\n",
        LOGIN,
        True,
    ),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", ENGINE, True),
    ('image operating system "windows" cannot be used on this platform', ENGINE, True),
    ("invalid reference format: repository name must be lowercase", ENGINE, True),
    ("unsupported media type application/vnd.oci.image.manifest.v2+json", ENGINE, True),
    ("unsupported manifest format", ENGINE, True),
    (
        'Encountered remote "application/vnd.docker.plugin.v1+json"(plugin) when fetching',
        ENGINE,
        True,
    ),
    (
        "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 "
        "support is disabled by default",
        ENGINE,
        True,
    ),
    ("failed to register layer: max depth exceeded", ENGINE, True),
    ("write /var/lib/docker/tmp/GetImageBlob4099: no space left on device", DISK, False),
    (
        "failed to register layer: Error processing tar file(exit status 1): write /usr/lib/a: no "
        "space left on device",
        DISK,
        False,
    ),
    ("context canceled", ENGINE, False),
    ("archive/tar: invalid tar header", ENGINE, False),
    (
        "Cannot connect to the Docker daemon at tcp://10.0.0.5:2376. Is the docker daemon running?",
        ENGINE,
        False,
    ),
    (
        "permission denied while trying to connect to the Docker daemon socket at "
        "unix:///var/run/docker.sock",
        ENGINE,
        False,
    ),
]

# Of engines with containerd's image store, 23 to 29.
OF_CONTAINERD = [
    (
        f"{RESOLVE}failed to do request: Head {HEAD}: dial tcp: lookup registry.example.com: "
        "no such host",
        DNS,
        False,
    ),
    (
        f"{RESOLVE}failed to do request: Head {HEAD}: dial tcp 10.1.2.3:443: connect: "
        "connection refused",
        NETWORK,
        False,
    ),
    (f"{RESOLVE}{IMAGE}: not found", REGISTRY, True),
    (
        f"{RESOLVE}unexpected status from HEAD request to https://registry.example.com/v2/team/app/"
        "manifests/1: 401 Unauthorized",
        LOGIN,
        True,
    ),
    (f"{RESOLVE}unexpected status code [manifests 1]: 403 Forbidden", LOGIN, True),
    (
        f"{RESOLVE}unexpected status from HEAD request to https://registry.example.com/v2/team/app/"
        "manifests/1: 502 Bad Gateway",
        REGISTRY,
        False,
    ),
    (
        f"{RESOLVE}unexpected status from HEAD request to https://registry.example.com/v2/team/app/"
        "manifests/1: 429 Too Many Requests",
        LIMIT,
        False,
    ),
    (
        f"{RESOLVE}pull access denied, repository does not exist or may require authorization: "
        "server message: insufficient_scope: authorization failed",
        LOGIN,
        True,
    ),
    (
        f"{RESOLVE}failed to authorize: failed to fetch oauth token: unexpected status from POST "
        "request to https://auth.example.com/token: 401 Unauthorized",
        LOGIN,
        True,
    ),
    (
        f"{RESOLVE}failed to authorize: failed to fetch anonymous token: Get "
        '"https://auth.example.com/token?scope=repository%3Ateam%2Fapp%3Apull": net/http: TLS '
        "handshake timeout",
        NETWORK,
        False,
    ),
    (
        "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for "
        "platform in manifest: not found",
        ENGINE,
        True,
    ),
    (
        'failed commit on ref "layer-sha256:aa": unexpected commit digest sha256:bb, expected '
        "sha256:aa: failed precondition",
        REGISTRY,
        False,
    ),
    (
        "failed to copy: httpReadSeeker: failed open: could not fetch content descriptor sha256:aa "
        "(application/vnd.oci.image.layer.v1.tar+gzip) from remote: not found",
        REGISTRY,
        False,
    ),
    (
        "failed to extract layer sha256:aa: mount callback failed on /var/lib/c/tmpmounts/1: write "
        "/var/lib/c/tmpmounts/1/a: no space left on device: unknown",
        DISK,
        False,
    ),
    ("error from registry: You have reached your unauthenticated pull rate limit.", LIMIT, False),
    ("error from registry: authentication required", LOGIN, True),
    ("error from registry: manifest unknown", REGISTRY, True),
    ("error from registry: unknown error", REGISTRY, False),
]


@pytest.mark.parametrize(("text", "origin", "permanent"), OF_THE_ENGINE + OF_CONTAINERD)
def test_an_error_is_judged_by_who_said_it(text: str, origin: str, *, permanent: bool) -> None:
    assert read_failure(text, IMAGE) == Failure(text, origin, permanent)


@pytest.mark.parametrize(
    "image",
    ["ghcr.io/denied/manifest unknown", "r.example/no such host/eof", "r.example/not-found:denied"],
)
def test_a_name_that_someone_chose_decides_nothing(image: str) -> None:
    name = image.rpartition(":")[0] or image
    assert read_failure(f"repository {image}: something new", image).origin == ENGINE
    text = f"repository {name} not found: name unknown: {name}"
    assert read_failure(text, image) == Failure(text, REGISTRY, permanent=True)


def test_each_origin_has_its_words_for_users() -> None:
    origins = {each.origin for each in (read_failure(row[0], IMAGE) for row in OF_THE_ENGINE)}
    assert origins == set(PHRASES)


def test_the_pauses_grow_and_those_for_a_rate_limit_are_long() -> None:
    failed, limited = Failure("", NETWORK), Failure("", LIMIT)
    pauses = [pause_seconds(failed, tries, 1.0) for tries in range(1, 9)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert [pause_seconds(limited, tries, 1.0) for tries in range(1, 5)] == [60, 120, 240, 240]
    assert pause_seconds(failed, 1, 0.0) == 1
