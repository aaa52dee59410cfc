"""AWS's partitions: the domains of their services, and the hosts of ECR's registries."""

from __future__ import annotations

import re
from typing import NamedTuple


class Domains(NamedTuple):
    """The domains of a partition's endpoints: over IPv4 alone, and over IPv6 too."""

    plain: str
    dual_stack: str


# By how the names of their regions begin; AWS_DOMAINS has the others.
# https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json
AWS_DOMAINS = Domains("amazonaws.com", "api.aws")
DOMAINS = {
    "cn": Domains("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    "eusc": Domains("amazonaws.eu", "api.amazonwebservices.eu"),
    "us-iso": Domains("c2s.ic.gov", "api.aws.ic.gov"),
    "us-isob": Domains("sc2s.sgov.gov", "api.aws.scloud"),
    "eu-isoe": Domains("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    "us-isof": Domains("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
}

# https://docs.aws.amazon.com/general/latest/gr/ecr.html (`dkr.ecr`, `dkr.ecr-fips`, `dkr-ecr`,
# `dkr-ecr-fips`); those of all partitions are in the kubelet's list of what to log in to ECR for:
# https://github.com/kubernetes/cloud-provider-aws/tree/master/cmd/ecr-credential-provider
ECR_HOST = re.compile(
    r"[0-9]{12}\.(?:"
    r"dkr\.ecr(?P<fips>-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com|amazonaws\.com\.cn"
    r"|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)"
    r"|dkr-ecr(?P<dual_fips>-fips)?\.(?P<dual_region>[a-z0-9-]+)\.on\."
    r"(?:aws|amazonwebservices\.com\.cn|amazonwebservices\.eu))"
)


class EcrRegistry(NamedTuple):
    """A registry of ECR: its region, and the endpoint of the API that logs in to it."""

    region: str
    endpoint: str


def domains_of(region: str) -> Domains:
    """Return the domains of a region's partition."""
    found = (DOMAINS[each] for each in DOMAINS if region.startswith(f"{each}-"))
    return next(found, AWS_DOMAINS)


def ecr_registry(host: str) -> EcrRegistry | None:
    """Return the registry of ECR with this host, None if it is none.

    Whoever names a host with FIPS or for IPv6 has a reason, which holds for the login's call too.
    The endpoints are those of botocore's rules for ECR (`endpoint-rule-set-1.json`).
    """
    found = ECR_HOST.fullmatch(host)
    if found is None:
        return None
    if found["region"] is not None:
        region = found["region"]
        name = f"api.ecr{found['fips'] or ''}.{region}.{domains_of(region).plain}"
    else:
        region = found["dual_region"]
        name = f"ecr{found['dual_fips'] or ''}.{region}.{domains_of(region).dual_stack}"
    return EcrRegistry(region, name)
