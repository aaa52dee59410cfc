"""The hosts of ECR in all partitions, with FIPS and for IPv6; and the domains of all services."""

import base64
import gzip
import itertools
import json
import re
from pathlib import Path
from typing import Any

import botocore
import pytest

from agent.docker_job_agent.aws import Aws
from agent.docker_job_agent.job import Job
from agent.docker_job_agent.job_secrets import with_secrets
from agent.docker_job_agent.metadata import Metadata
from agent.docker_job_agent.partitions import domains_of, ecr_registry
from services.api.submission.json_body import BadRequest
from services.api.submission.secret_fields import check_registry_auth
from shared.aws_domains import domain_of
from tests.unit.test_agent_aws import CannedAws
from tests.unit.test_agent_claim import CannedHttp

ACCOUNT = "123456789012"
DATA = Path(botocore.__file__).parent / "data"
PARTITIONS: list[dict[str, Any]] = json.loads((DATA / "partitions.json").read_text())["partitions"]

REGISTRIES = {
    "dkr.ecr.eu-west-1.amazonaws.com": "api.ecr.eu-west-1.amazonaws.com",
    "dkr.ecr-fips.us-east-1.amazonaws.com": "api.ecr-fips.us-east-1.amazonaws.com",
    "dkr.ecr-fips.us-gov-west-1.amazonaws.com": "api.ecr-fips.us-gov-west-1.amazonaws.com",
    "dkr-ecr.us-west-2.on.aws": "ecr.us-west-2.api.aws",
    "dkr-ecr-fips.us-east-2.on.aws": "ecr-fips.us-east-2.api.aws",
    "dkr.ecr.cn-north-1.amazonaws.com.cn": "api.ecr.cn-north-1.amazonaws.com.cn",
    "dkr-ecr.cn-north-1.on.amazonwebservices.com.cn": (
        "ecr.cn-north-1.api.amazonwebservices.com.cn"
    ),
    "dkr.ecr.eusc-de-east-1.amazonaws.eu": "api.ecr.eusc-de-east-1.amazonaws.eu",
    "dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu": (
        "ecr.eusc-de-east-1.api.amazonwebservices.eu"
    ),
    "dkr.ecr.us-iso-east-1.c2s.ic.gov": "api.ecr.us-iso-east-1.c2s.ic.gov",
    "dkr.ecr.us-isob-east-1.sc2s.sgov.gov": "api.ecr.us-isob-east-1.sc2s.sgov.gov",
    "dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk": "api.ecr.eu-isoe-west-1.cloud.adc-e.uk",
    "dkr.ecr.us-isof-south-1.csp.hci.ic.gov": "api.ecr.us-isof-south-1.csp.hci.ic.gov",
}
NONE_OF_ECR = (
    "public.ecr.aws",  # it needs no login
    f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
    f"{ACCOUNT}.dkr.ecr.eu-west-1.on.aws",
    f"{ACCOUNT}.dkr-ecr.eu-west-1.amazonaws.com",
    f"{ACCOUNT}.dkr.ecr-fast.eu-west-1.amazonaws.com",
    f"{ACCOUNT}.dkrxecr.eu-west-1.amazonaws.com",
    "1234.dkr.ecr.eu-west-1.amazonaws.com",
    "ecr.eu-west-1.amazonaws.com",
)


@pytest.mark.parametrize("host", REGISTRIES)
def test_the_login_of_a_registry_comes_from_the_endpoint_of_its_kind(host: str) -> None:
    token = base64.b64encode(b"AWS:canary").decode()
    aws = CannedAws({"authorizationData": [{"authorizationToken": token}]})
    fetch_login = with_secrets(Job(f"{ACCOUNT}.{host}/app:1", [], {}, None), aws).fetch_login
    assert fetch_login is not None
    assert fetch_login().password == "canary"
    region = host.split(".")[2] if host.startswith("dkr.") else host.split(".")[1]
    assert aws.asked == [("ecr", "GetAuthorizationToken", region, {})]
    assert aws.endpoints == [REGISTRIES[host]]


@pytest.mark.parametrize("host", [f"{ACCOUNT}.{each}" for each in REGISTRIES])
def test_the_api_takes_ecr_as_the_login_of_each_of_them(host: str) -> None:
    check_registry_auth("ecr", f"{host}/app", {}, {})


@pytest.mark.parametrize("host", NONE_OF_ECR)
def test_no_other_host_is_taken_for_one_of_ecr(host: str) -> None:
    assert ecr_registry(host) is None
    with pytest.raises(BadRequest, match="is not of ECR"):
        check_registry_auth("ecr", f"{host}/app", {}, {})


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda each: str(each["id"]))
def test_the_domains_are_botocores(partition: dict[str, Any]) -> None:
    expected = partition["outputs"]
    regions = [each for each in partition["regions"] if re.match(partition["regionRegex"], each)]
    assert regions
    for region in regions:
        assert domains_of(region) == (expected["dnsSuffix"], expected["dualStackDnsSuffix"])
        assert domain_of(region) == expected["dnsSuffix"]


def test_each_endpoint_is_one_of_botocores_rules_for_ecr() -> None:
    [path] = (DATA / "ecr").glob("*/endpoint-rule-set-1.json.gz")
    rules = gzip.decompress(path.read_bytes()).decode()
    patterns = set(re.findall(r'"(https://[^"]*\{Region\}[^"]*)"', rules))
    known = set()
    for partition, pattern in itertools.product(PARTITIONS, patterns):
        named = pattern.replace("{PartitionResult#dnsSuffix}", partition["outputs"]["dnsSuffix"])
        dual = partition["outputs"]["dualStackDnsSuffix"]
        named = named.replace("{PartitionResult#dualStackDnsSuffix}", dual)
        known |= {named.replace("{Region}", region) for region in partition["regions"]}
    assert {f"https://{each}" for each in REGISTRIES.values()} <= known


def test_an_endpoint_of_the_environment_comes_before_that_of_the_registry() -> None:
    metadata = Metadata(CannedHttp())
    url = "http://rehearsal:4566"
    assert Aws(metadata, {}).url("ecr", "us-east-1", "api.ecr-fips.x") == "https://api.ecr-fips.x"
    assert Aws(metadata, {"AWS_ENDPOINT_URL_ECR": url}).url("ecr", "us-east-1", "api.x") == url
    assert Aws(metadata, {}).url("ssm", "eusc-de-east-1") == (
        "https://ssm.eusc-de-east-1.amazonaws.eu"
    )
