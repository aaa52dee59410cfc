"""The certificate of the load balancer, checked before anything is made.

A load balancer takes only an issued certificate of its own region, and a client refuses one that
does not cover the name
(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/https-listener-certificates.html).
A wildcard covers one label (https://docs.aws.amazon.com/acm/latest/userguide/acm-concepts.html).
"""

import re
from collections.abc import Sequence

from botocore.exceptions import ClientError, ParamValidationError

from deploy.account import Account
from deploy.refusal import Refusal, code_of

ARN = re.compile(r"arn:[a-z-]+:acm:(?P<region>[a-z0-9-]+):\d{12}:certificate/[A-Za-z0-9-]+")
LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")

REMEDY = {
    "PENDING_VALIDATION": "validate it first (the ACM console shows the DNS record), then run this "
    "again",
    "EXPIRED": "renew it or request another",
}


def read_domain(given: str) -> str:
    """Return the name in lower case and without a final dot. Raises `Refusal`."""
    name = given.strip().rstrip(".").lower()
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(LABEL.fullmatch(each) for each in labels):
        raise Refusal(f"--domain {given!r} is not a host name like jobs.example.com.")
    return name


def refuse_unusable(account: Account, arn: str, domain: str) -> None:
    """Raise `Refusal` unless the certificate exists, is issued, and covers *domain*."""
    found = ARN.fullmatch(arn)
    if found is None:
        raise Refusal(f"--certificate {arn!r} is not the ARN of a certificate of ACM.")
    if found["region"] != account.region:
        raise Refusal(
            f"The certificate {arn} is in {found['region']}: a load balancer in {account.region} "
            "takes only one of its own region; request it there."
        )
    try:
        certificate = account.client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
    except ParamValidationError as error:
        raise Refusal(f"--certificate {arn!r} is not the ARN of a certificate of ACM.") from error
    except ClientError as error:
        if code_of(error) not in ("ResourceNotFoundException", "InvalidArnException"):
            raise
        raise Refusal(f"There is no certificate {arn} in this account (--certificate).") from error
    status = str(certificate.get("Status"))
    if status != "ISSUED":
        remedy = REMEDY.get(status, "name one that is issued")
        raise Refusal(f"The certificate {arn} is {status}, not ISSUED: {remedy}.")
    names = [certificate["DomainName"], *certificate.get("SubjectAlternativeNames", [])]
    if not covers(names, domain):
        raise Refusal(
            f"The certificate {arn} does not cover {domain}: it is for "
            f"{', '.join(dict.fromkeys(names))}. Name another with --certificate, or another "
            "--domain."
        )


def covers(names: Sequence[str], domain: str) -> bool:
    """Return whether one of a certificate's *names* is, or matches, *domain*."""
    parent = "*." + domain.partition(".")[2]
    return any(each.rstrip(".").lower() in (domain, parent) for each in names)
