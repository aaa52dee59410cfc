"""The ways to the API: HTTPS always; plain HTTP beside it only where it must or was asked for.

With an ACM certificate a load balancer serves it; otherwise the API itself, with a certificate of
the deployment's own authority (docs/adr/0023-tls-by-default.md). Plain HTTP is open to users with
`--insecure` alone, which no update keeps. Instances keep the address that they were launched with,
so a stack that served plain HTTP serves it to them, and to nobody else, until the last has ended.
"""

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from deploy import certificate
from deploy.account import Account
from deploy.refusal import Refusal

OPEN = "open"

MARGIN = timedelta(days=1)
"""For launches that were asked for before the update and came after it."""

IN_CLEAR = (
    "warning: --insecure: the API is served over plain HTTP too, to {cidr}: API keys and secrets "
    "travel in clear, and every network on the way can read them, a private one too. Without "
    "--insecure it is served over HTTPS alone"
)


def face(
    account: Account, options: argparse.Namespace, before: Mapping[str, str], lifetime: int
) -> dict[str, str]:
    """Return the parameters, with the certificate checked, the kept one too. Raises `Refusal`.

    *lifetime*: the longest one of job instances, in seconds, before and after.
    """
    domain = certificate.read_domain(options.domain) if options.domain else before.get("Domain", "")
    arn = options.certificate or before.get("CertificateArn", "")
    if arn and not domain:
        raise Refusal("--certificate needs the name that it is for: --domain jobs.example.com")
    if arn and options.insecure:
        raise Refusal(
            "--insecure is for a stack without a load balancer: this one has a certificate, with "
            "which every client reaches it over HTTPS. Leave --insecure out."
        )
    if arn:
        certificate.refuse_unusable(account, arn, domain)
    plain = plain_http(before, lifetime, datetime.now(UTC), insecure=options.insecure)
    return {"Domain": domain, "CertificateArn": arn, "PlainHttp": plain}


def plain_http(before: Mapping[str, str], lifetime: int, now: datetime, *, insecure: bool) -> str:
    """Decide on the parameter `PlainHttp`: empty, `open`, or until when agents are served. Pure.

    A stack of a release before this parameter served plain HTTP alone.
    """
    if insecure:
        return OPEN
    kept = before.get("PlainHttp", OPEN) if before else ""
    if kept == OPEN:
        return f"{now + timedelta(seconds=lifetime) + MARGIN:%Y-%m-%dT%H:%M:%SZ}"
    return kept if kept and datetime.fromisoformat(kept) > now else ""


def describe(parameters: Mapping[str, str]) -> str:
    """Name what clients see, for the plan."""
    if parameters["CertificateArn"]:
        return "a load balancer with HTTPS"
    clear = ", AND PLAIN HTTP" if parameters["PlainHttp"] == OPEN else ""
    return f"a fixed public address, with HTTPS by an authority of its own{clear}"


def describe_transition(parameters: Mapping[str, str]) -> str:
    """Name until when agents of an earlier release are served, as a line; empty: not at all."""
    until = parameters["PlainHttp"]
    if until in ("", OPEN):
        return ""
    return (
        f"  Plain HTTP: until {until}, from job instances alone: those that were launched before "
        "the stack had HTTPS end their jobs with it.\n"
    )


def warning(parameters: Mapping[str, str]) -> str | None:
    """Return the warning of a stack that serves plain HTTP to users; None: it does not."""
    if parameters["PlainHttp"] != OPEN:
        return None
    return IN_CLEAR.format(cidr=parameters["AllowedCidr"])
