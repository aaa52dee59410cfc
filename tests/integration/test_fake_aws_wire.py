"""The fake AWS checks what it receives against AWS's models, which boto3 does only in part."""

from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from fake_aws import CloudSettings, CloudThread, start_cloud
from tests.support.compute.ec2_clouds import code_of

UNCHECKED = Config(parameter_validation=False, retries={"total_max_attempts": 1})
TARGET = {"TotalTargetCapacity": 1}
CONFIGS = [{"LaunchTemplateSpecification": {"LaunchTemplateName": "t-1", "Version": "1"}}]
TOO_MANY = [{"Name": "instance-id", "Values": [f"i-{each:017x}" for each in range(201)]}]

WRONG: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a value outside of an enumeration": (
        "CreateFleet",
        "InvalidParameterValue",
        {
            "Type": "at-once",
            "TargetCapacitySpecification": TARGET,
            "LaunchTemplateConfigs": CONFIGS,
        },
    ),
    "one within a list of structures": (
        "CreateFleet",
        "InvalidParameterValue",
        {
            "Type": "instant",
            "TargetCapacitySpecification": TARGET,
            "LaunchTemplateConfigs": CONFIGS,
            "TagSpecifications": [{"ResourceType": "machine", "Tags": []}],
        },
    ),
    "a member that is required": (
        "CreateFleet",
        "MissingParameter",
        {"LaunchTemplateConfigs": CONFIGS},
    ),
    "a member that is required below": (
        "CreateFleet",
        "MissingParameter",
        {
            "TargetCapacitySpecification": {"DefaultTargetCapacityType": "spot"},
            "LaunchTemplateConfigs": CONFIGS,
        },
    ),
    "a name that does not match its pattern": (
        "DescribeLaunchTemplateVersions",
        "InvalidParameterValue",
        {"LaunchTemplateName": "docker job"},
    ),
    "a name that is too long": (
        "DescribeLaunchTemplateVersions",
        "InvalidParameterValue",
        {"LaunchTemplateName": "n" * 129},
    ),
    "a page that is too small": (
        "DescribeInstances",
        "InvalidParameterValue",
        {"MaxResults": 4},
    ),
    "a list that is too long": (
        "DescribeInstanceTypes",
        "InvalidParameterValue",
        {"InstanceTypes": ["m5.large"] * 101},
    ),
    "more values of filters than one request may have": (
        "DescribeInstances",
        "FilterLimitExceeded",
        {"Filters": TOO_MANY},
    ),
    "a client token that is too long": (
        "CreateFleet",
        "InvalidParameterValue",
        {
            "ClientToken": "t" * 65,
            "TargetCapacitySpecification": TARGET,
            "LaunchTemplateConfigs": CONFIGS,
        },
    ),
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudThread]:
    with start_cloud(CloudSettings(speed=200.0, verify_signatures=False)) as cloud:
        yield cloud


@pytest.mark.parametrize("name", WRONG)
def test_a_call_that_boto3_lets_through_is_refused(cloud: CloudThread, name: str) -> None:
    action, code, params = WRONG[name]
    ec2 = boto3.client("ec2", config=UNCHECKED, **cloud.client_arguments())
    with pytest.raises(ClientError) as error:
        ec2._make_api_call(action, params)
    assert code_of(error) == code


def answer(cloud: CloudThread, **fields: str) -> str:
    """Send a form as no SDK would; return EC2's answer, an error."""
    form = {"Action": "DescribeInstances", "Version": "2016-11-15", **fields}
    answered = httpx.post(cloud.endpoint_url, data=form)
    assert answered.status_code >= 400
    return answered.text


@pytest.mark.parametrize("field", ["MaxResult", "Filter.1.Names.1", "InstanceIds.1"])
def test_a_field_that_no_model_has_is_refused(cloud: CloudThread, field: str) -> None:
    assert "UnknownParameter" in answer(cloud, **{field: "5"})


def test_each_field_of_the_model_is_known(cloud: CloudThread) -> None:
    known = {"Filter.1.Name": "instance-id", "Filter.1.Value.1": "i-0", "InstanceId.1": "i-0"}
    assert "DryRunOperation" in answer(cloud, DryRun="true", **known)
