"""The certificate of the load balancer: refused before anything is made, in a dry run too."""

import pytest

from deploy.certificate import covers, read_domain
from deploy.refusal import Refusal
from tests.deploy.conftest import REGION, MotoCloud, certificate
from tests.deploy.test_refusals import ALLOW, refusal_of

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

NONE = f"arn:aws:acm:{REGION}:123456789012:certificate/6f1a8a4e-0000-4000-8000-123456789012"


def dry(aws: MotoCloud, domain: str, arn: str) -> str:
    """Return the refusal of a dry run."""
    return refusal_of(aws.deploy(*ALLOW, "--dry-run", "--domain", domain, "--certificate", arn))


def test_a_certificate_that_does_not_exist_is_refused(aws: MotoCloud) -> None:
    assert f"There is no certificate {NONE}" in dry(aws, "jobs.example.com", NONE)


def test_a_certificate_must_be_issued_cover_the_name_and_be_of_the_region(aws: MotoCloud) -> None:
    pending = certificate(aws, "jobs.example.com", status="PENDING_VALIDATION")
    assert "is PENDING_VALIDATION, not ISSUED: validate it" in dry(aws, "jobs.example.com", pending)
    other = certificate(aws, "www.example.com", "*.example.org")
    line = dry(aws, "jobs.example.com", other)
    assert "does not cover jobs.example.com: it is for www.example.com, *.example.org" in line
    elsewhere = NONE.replace(REGION, "eu-west-1")
    assert "is in eu-west-1: a load balancer in us-east-1" in dry(
        aws, "jobs.example.com", elsewhere
    )
    assert "is not the ARN of a certificate" in dry(aws, "jobs.example.com", "arn:aws:iam::1:x")


def test_a_wildcard_covers_and_an_update_checks_the_kept_one(aws: MotoCloud) -> None:
    arn = certificate(aws, "example.com", "*.example.com")
    run = aws.deploy(*ALLOW, "--domain", "Jobs.Example.com.", "--certificate", arn)
    assert run.returncode == 0, run.stderr
    assert "https://jobs.example.com\n" in run.stdout
    line = refusal_of(aws.deploy("--dry-run", "--domain", "jobs.example.org"))
    assert "does not cover jobs.example.org" in line


@pytest.mark.parametrize(
    ("names", "domain", "covered"),
    [
        (["jobs.example.com"], "jobs.example.com", True),
        (["*.example.com"], "jobs.example.com", True),
        (["*.example.com"], "a.jobs.example.com", False),
        (["*.example.com"], "example.com", False),
        (["Jobs.Example.com."], "jobs.example.com", True),
    ],
)
def test_a_wildcard_covers_one_label(names: list[str], domain: str, *, covered: bool) -> None:
    assert covers(names, domain) is covered


@pytest.mark.parametrize("name", ["", "localhost", "https://jobs.example.com", "a b.com", "-a.com"])
def test_a_domain_is_a_host_name(name: str) -> None:
    with pytest.raises(Refusal, match="is not a host name"):
        read_domain(name)
