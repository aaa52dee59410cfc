"""The template by itself."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy import costs
from deploy.up import ROOT_GIB
from tests.support.deploy.iam import TEMPLATE, matches, resolve, template

BODY_BYTES = 51_200
"""What CloudFormation takes without a bucket."""


def test_cfn_lint_has_nothing_to_say() -> None:
    lint = Path(sys.executable).parent / "cfn-lint"
    run = subprocess.run([lint, TEMPLATE], capture_output=True, text=True, check=False)
    assert run.stdout + run.stderr == ""
    assert run.returncode == 0


def test_it_is_small_enough_to_be_sent() -> None:
    assert TEMPLATE.stat().st_size < BODY_BYTES


def test_the_data_volume_outlives_the_stack_and_any_change_of_it() -> None:
    volume = template()["Resources"]["DataVolumeOwn"]
    assert (volume["DeletionPolicy"], volume["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert volume["Properties"]["Encrypted"] is True


def test_the_stack_succeeds_only_when_the_instance_says_that_it_is_ready() -> None:
    group = template()["Resources"]["Services"]
    assert group["CreationPolicy"]["ResourceSignal"]["Count"] == 1
    rolling = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert rolling["WaitOnResourceSignals"] is True
    assert rolling["MinInstancesInService"] == 0, "one volume, so one instance at a time"


def test_job_instances_accept_no_connection_and_of_ours_reach_the_api_alone() -> None:
    resources = template()["Resources"]
    group = resources["JobSecurityGroup"]["Properties"]
    assert "SecurityGroupIngress" not in group
    assert [rule["FromPort"] for rule in group["SecurityGroupEgress"]] == [443]
    to_api = resolve(resources["JobsToApi"]["Properties"])
    assert (to_api["FromPort"], to_api["DestinationSecurityGroupId"]) == (8443, "ApiSecurityGroup")
    into_jobs = [
        name
        for name, each in resources.items()
        if each["Type"] == "AWS::EC2::SecurityGroupIngress"
        and resolve(each["Properties"]["GroupId"]) == "JobSecurityGroup"
    ]
    assert into_jobs == []


def test_the_disk_that_is_counted_in_the_costs_is_the_disk_that_is_made() -> None:
    data = template()["Resources"]["Template"]["Properties"]["LaunchTemplateData"]
    assert data["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == ROOT_GIB
    assert "KeyName" not in data


def test_no_container_reaches_the_credentials_of_the_services_instance() -> None:
    data = template()["Resources"]["Template"]["Properties"]["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1


def lines(region: str, instance_type: str, **more: Any) -> list[costs.Line]:
    return costs.monthly(region, instance_type, data_gib=20, root_gib=16, balancer=False, **more)


def test_what_is_not_known_of_a_price_is_said_and_left_out_of_the_sum() -> None:
    known = costs.table(lines("us-east-1", "t4g.small"))
    assert "not known" not in known
    unknown = costs.table(lines("mx-central-1", "t4g.small"))
    assert unknown.count("not known") == 5
    assert "4.15 + not known" in unknown


@pytest.mark.parametrize("region", costs.REGIONS)
def test_every_region_of_the_table_has_every_price(region: str) -> None:
    assert "not known" not in costs.table(lines(region, "t4g.medium"))


def test_no_policy_of_jobs_opens_a_deployments_secrets() -> None:
    """As with AmazonSSMManagedInstanceCore, which allows `ssm:GetParameter` of everything."""
    [policy] = resolve(template()["Resources"]["JobRole"]["Properties"]["Policies"])
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    parameters = "arn:aws:ssm:us-east-1:123456789012:parameter"
    probes = [
        (action, f"{parameters}{path}")
        for action in ("GetParameter", "GetParameters", "GetParameterHistory")
        for path in ("/docker-job/docker-job/secrets_key", "/docker-job/another/token_key")
    ]
    probes += [
        ("GetParametersByPath", f"{parameters}{path}")
        for path in ("/docker-job/docker-job", "/docker-job/docker-job/", "/docker-job", "/")
    ]
    denied = [
        each
        for each in probes
        if matches(f"ssm:{each[0]}", statement["Action"])
        and any(matches(each[1], resource) for resource in statement["Resource"])
    ]
    print(f"{len(denied)} of {len(probes)} ways to the secrets are denied to job instances")
    assert denied == probes
    others = f"{parameters}/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    assert not any(matches(others, resource) for resource in statement["Resource"])
