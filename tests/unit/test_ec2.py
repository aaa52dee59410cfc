"""The EC2 adapter's pure parts: EC2's terms and the port's, buckets, pools, types, prices."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    LoginRefreshRequired,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    RefreshWithMFAUnsupportedError,
    SSLError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from msgspec.structs import replace

from shared.compute.choice import choose, wanted_by
from shared.compute.ec2 import fleet
from shared.compute.ec2.buckets import Bucket, CallBuckets, Rate
from shared.compute.ec2.errors import at_fault, error_of, named
from shared.compute.ec2.fleet_plans import Subnet, decimal_text, fleet_of, one_a_zone, overrides_for
from shared.compute.ec2.instance_types import read_instance_type
from shared.compute.ec2.pools import CapacityPool, RestingPools, summarize
from shared.compute.ec2.prices import Change, mean_price
from shared.compute.ec2.settings import Ec2Settings, ec2_settings
from shared.compute.ec2.shapes import read_instance, read_request, tags
from shared.compute.ec2.template import Contents, Version, data_of, hash_of
from shared.compute.port import (
    ComputeError,
    Deferred,
    InstanceState,
    LaunchBatch,
    LaunchRequest,
    Misconfigured,
    NoCapacity,
    Offer,
    QuotaReached,
    Rejected,
    Stale,
    Throttled,
    Unknown,
)
from shared.events.offers import InstanceType
from shared.events.requirements import Resources
from shared.settings import BadSetting, Settings

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
OFFER = Offer(deployment="home", api_url="http://api")
M5 = InstanceType(
    name="m5.large",
    vcpus=2,
    memory_mib=8192,
    gpus=0,
    architectures=("x86_64",),
    markets=("on-demand", "spot"),
    current=True,
    burstable=False,
    bare_metal=False,
)
A, B = (Subnet(id=f"subnet-{each}", zone=f"zone-{each}", free_addresses=9) for each in "ab")


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def client_error(code: str, status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "AWS's own words"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, "CreateFleet")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("InsufficientInstanceCapacity", 500, NoCapacity),
        ("MaxSpotInstanceCountExceeded", 400, QuotaReached),
        ("VcpuLimitExceeded", 400, QuotaReached),
        ("RequestLimitExceeded", 503, Throttled),
        ("IdempotentInstanceTerminated", 400, Stale),
        ("IdempotentParameterMismatch", 400, Stale),
        ("InvalidLaunchTemplateId.VersionNotFound", 400, Stale),
        ("UnauthorizedOperation", 403, Misconfigured),
        ("InvalidAMIID.NotFound", 400, Misconfigured),
        ("SomethingNew", 400, Deferred),
        ("SomethingNew", 403, Deferred),
        ("PendingVerification", 400, Misconfigured),
        ("OptInRequired", 403, Misconfigured),
        ("Blocked", 400, Misconfigured),
        ("AuthFailure", 401, Misconfigured),
        ("MaxFleetCountExceeded", 400, QuotaReached),
        ("InvalidParameterValue", 400, Misconfigured),
        ("AccessDeniedException", 400, Misconfigured),
        ("SomethingNew", 500, Unknown),
        ("InternalError", 500, Unknown),
        ("RequestExpired", 400, Unknown),
        # One error in several spellings.
        ("Client.InvalidLaunchTemplateId.NotFound", 400, Stale),
        ("InvalidLaunchTemplateId.NotFoundException", 400, Stale),
        ("InvalidLaunchTemplateName.NotFoundException", 400, Stale),
        ("InvalidLaunchTemplateName.NotFound", 400, Stale),
        ("launchTemplateVersionDoesNotExist", 400, Stale),
        ("Server.InsufficientInstanceCapacity", 500, NoCapacity),
        ("InsufficientAddressCapacity", 500, NoCapacity),
        ("InsufficientVolumeCapacity", 500, NoCapacity),
        ("InsufficientFreeAddressesInSubnet", 400, NoCapacity),
        ("ReservationCapacityExceeded", 400, NoCapacity),
        ("MaxIOPSLimitExceeded", 400, QuotaReached),
        ("InvalidAMIID.Unavailable", 400, Misconfigured),
        ("ParameterNotFound", 400, Misconfigured),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403, Misconfigured),
        ("InvalidSubnetID.NotFound", 400, Misconfigured),
        ("InvalidGroup.NotFound", 400, Misconfigured),
        ("InvalidKeyPair.NotFound", 400, Misconfigured),
        ("InvalidSubnetID.NotFound", 500, Unknown),
        ("InvalidInstanceType", 400, Rejected),
        ("InvalidInstanceID.NotFound", 400, Rejected),
    ],
)
def test_each_of_ec2_s_errors_says_what_comes_next(
    code: str, status: int, kind: type[ComputeError]
) -> None:
    found = error_of(client_error(code, status))
    assert type(found) is kind
    assert str(found).startswith(f"{code}: AWS's own words")


@pytest.mark.parametrize(
    "message",
    [
        "Value (x) for parameter iamInstanceProfile.name … Invalid IAM Instance Profile name",
        "Value (x) for parameter iamInstanceProfile.arn … Invalid IAM Instance Profile ARN",
        'IAM Instance Profile "x" has no associated IAM Roles',
    ],
)
def test_an_instance_profile_that_ec2_does_not_know_yet_is_waited_for(message: str) -> None:
    error = named("InvalidParameterValue", message)
    assert type(error) is Misconfigured
    assert "DOCKER_JOB_EC2_INSTANCE_PROFILE" in error.change


@pytest.mark.parametrize(
    ("code", "message", "setting"),
    [
        ("InvalidAMIID.NotFound", "", "DOCKER_JOB_EC2_IMAGE_ID"),
        ("ParameterNotFound", "", "DOCKER_JOB_EC2_IMAGE_ID"),
        ("InvalidParameterValue", "The architecture 'arm64' … does not match", "_IMAGE_ID"),
        ("InvalidSubnetID.NotFound", "", "DOCKER_JOB_EC2_SUBNETS"),
        ("InvalidGroup.NotFound", "", "DOCKER_JOB_EC2_SECURITY_GROUPS"),
        ("InvalidParameter", "Security group sg-1 and subnet subnet-1 …", "_SECURITY_GROUPS"),
        ("InvalidKeyPair.NotFound", "", "DOCKER_JOB_EC2_KEY_NAME"),
        ("InvalidParameterValue", "Invalid value '1' for MaxPrice", "_MAX_PRICE_USD"),
        ("UnauthorizedOperation", "", "docs/iam/launcher.json"),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "", "spot.amazonaws.com"),
        ("InvalidClientTokenId", "", "AWS_PROFILE"),
        ("PendingVerification", "", "AWS Support"),
    ],
)
def test_the_deployment_s_fault_names_what_to_change(code: str, message: str, setting: str) -> None:
    error = named(code, message)
    assert type(error) is Misconfigured
    assert setting in error.change
    assert error.change in str(error)


def test_a_call_without_credentials_names_them() -> None:
    error = error_of(NoCredentialsError())
    assert type(error) is Misconfigured
    assert "AWS_PROFILE" in error.change


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnauthorizedSSOTokenError(), Misconfigured),
        (SSOTokenLoadError(error_msg="no token"), Misconfigured),
        (LoginRefreshRequired(), Misconfigured),
        (ConfigParseError(path="config"), Misconfigured),
        (RefreshWithMFAUnsupportedError(), Misconfigured),
        (CredentialRetrievalError(provider="process", error_msg="no"), Unknown),
        (MetadataRetrievalError(error_msg="no"), Unknown),
        (TokenRetrievalError(provider="sso", error_msg="no"), Unknown),
    ],
)
def test_credentials_that_cannot_be_read_are_named(
    error: BotoCoreError, kind: type[ComputeError]
) -> None:
    found = error_of(error)
    assert type(found) is kind
    assert "AWS_PROFILE" in found.change
    assert found.change in str(found)


def test_a_certificate_that_is_not_trusted_names_the_clock_and_a_cut_handshake_does_not() -> None:
    cause = OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid")
    found = error_of(SSLError(endpoint_url="https://ec2", error=cause))
    assert type(found) is Unknown
    assert "clock" in found.change
    cut = SSLError(endpoint_url="https://ec2", error=OSError("UNEXPECTED_EOF"))
    assert error_of(cut).change == ""


def test_a_queue_that_does_not_exist_names_its_setting() -> None:
    for code in ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"):
        error = named(code, "The specified queue does not exist.")
        assert type(error) is Misconfigured
        assert "DOCKER_JOB_INTERRUPTION_QUEUE_URL" in error.change


def test_what_only_sts_can_read_is_left_out_of_the_message() -> None:
    encoded = "You are not authorized. Encoded authorization failure message: AQo-x_y"
    error = str(named("UnauthorizedOperation", encoded))
    assert error.startswith("UnauthorizedOperation: You are not authorized.")
    assert "AQo" not in error


def test_a_job_that_names_no_type_has_no_fault_in_the_type() -> None:
    error = named("InvalidInstanceType", "zz.large does not exist")
    assert at_fault(error, Resources(instance_types=("zz.large",))) is error
    for nothing in (Resources(), Resources(disk_gib=50), Resources(architecture="arm64")):
        spared = at_fault(error, nothing)
        assert type(spared) is Misconfigured
        assert "DOCKER_JOB_EC2_INSTANCE_TYPES" in str(spared)
    for own in (Resources(vcpus=2), Resources(memory_mib=1), Resources(gpus=1)):
        assert at_fault(error, own) is error


def test_no_answer_is_unknown_and_a_call_that_cannot_be_made_is_ours() -> None:
    assert isinstance(error_of(ConnectTimeoutError(endpoint_url="http://ec2")), Unknown)
    assert isinstance(error_of(ParamValidationError(report="no")), Misconfigured)
    with pytest.raises(ZeroDivisionError):
        error_of(ZeroDivisionError())


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = Bucket(Rate(burst=5, per_second=2), now=0)
    assert [bucket.take(0) for _ in range(7)] == [0, 0, 0, 0, 0, 0.5, 1.0]
    assert bucket.take(10) == 0
    assert [bucket.take(99) for _ in range(6)] == [0, 0, 0, 0, 0, 0.5]


def test_a_call_that_would_wait_too_long_takes_nothing_and_each_action_has_its_own() -> None:
    buckets = CallBuckets()
    assert buckets.take("CreateFleet", 1000, now=0, longest=5) == 0
    assert buckets.take("CreateFleet", 100, now=0, longest=5) is None
    assert buckets.take("CreateFleet", 10, now=0, longest=5) == 5
    assert [buckets.take("DescribeInstances", 0, 0, 5) for _ in range(101)] == [0] * 100 + [0.05]
    assert buckets.take("DescribeSubnets", 0, 0, 5) == 0


def instance(**changes: object) -> Mapping[str, Any]:
    return {
        "InstanceId": "i-1",
        "State": {"Name": "running"},
        "LaunchTime": NOW,
        "InstanceType": "m5.large",
        "Placement": {"AvailabilityZone": "zone-a"},
        "Tags": [{"Key": "docker-job:launch", "Value": "token"}],
        **changes,
    }


def test_a_running_spot_instance_is_read() -> None:
    shown = read_instance(instance(InstanceLifecycle="spot", SpotInstanceRequestId="sir-1"))
    assert (shown.state, shown.market) == (InstanceState.RUNNING, "spot")
    assert (shown.launch_token, shown.spot_instance_request_id) == ("token", "sir-1")
    assert shown.priced(0.03, 0.096).job_id is None


@pytest.mark.parametrize(
    ("code", "interrupted"),
    [("Server.SpotInstanceTermination", True), ("Client.UserInitiatedShutdown", False)],
)
def test_why_and_when_it_ended_is_read(code: str, *, interrupted: bool) -> None:
    shown = read_instance(
        instance(
            State={"Name": "terminated"},
            StateReason={"Code": code, "Message": "…"},
            StateTransitionReason="User initiated (2026-01-01 13:00:00 GMT)",
        )
    )
    assert shown.state is InstanceState.TERMINATED
    assert shown.terminated_at == NOW + seconds(3600)
    assert (shown.state_reason, shown.spot_interrupted) == (code, interrupted)


def test_when_it_ended_is_unknown_where_ec2_does_not_say() -> None:
    assert read_instance(instance(State={"Name": "terminated"})).terminated_at is None


@pytest.mark.parametrize(("state", "over"), [("open", False), ("cancelled", True)])
def test_a_spot_request_without_an_instance_is_one_that_may_come(state: str, *, over: bool) -> None:
    shown = read_request(
        {"SpotInstanceRequestId": "sir-1", "State": state, "CreateTime": NOW, "Status": {}}
    )
    assert shown.instance_id == "sir-1"
    assert (shown.state is InstanceState.TERMINATED) is over


def test_our_tags_win_over_the_labels_of_an_earlier_release() -> None:
    found = tags(deployment="home", launch="t", labels={"team": "a", "docker-job:launch": "x"})
    assert {each["Key"]: each["Value"] for each in found} == {
        "docker-job:deployment": "home",
        "docker-job:launch": "t",
        "team": "a",
    }


def machine(name: str, vcpus: int, memory: int, **changes: object) -> InstanceType:
    return replace(M5, name=name, vcpus=vcpus, memory_mib=memory, **changes)


MACHINES = {
    each.name: each
    for each in (
        M5,
        machine("c5.large", 2, 4096),
        machine("c6g.large", 2, 4096, architectures=("arm64",)),
        machine("c5.4xlarge", 16, 32_768),
        machine("t3.large", 2, 8192, burstable=True),
        machine("m1.large", 2, 8192, current=False),
        machine("m5.metal", 96, 393_216, bare_metal=True),
        machine("g5.xlarge", 4, 16_384, gpus=1),
        machine("inf1.large", 2, 8192, accelerated=True),
        machine("g4ad.xlarge", 4, 16_384, accelerated=True),  # AMD's
        machine("g5g.xlarge", 4, 16_384, gpus=1, accelerated=True, architectures=("arm64",)),
        machine("d5.large", 2, 8192, markets=("on-demand",)),
    )
}


@pytest.mark.parametrize(
    ("resources", "names"),
    [
        (Resources(), ["c5.large", "m5.large"]),
        (Resources(memory_mib=8000), ["m5.large"]),
        (Resources(architecture="arm64"), ["c6g.large"]),
        (Resources(vcpus=3), ["c5.4xlarge"]),
        (Resources(gpus=1), ["g5.xlarge"]),
        (Resources(instance_types=("t3.large", "c6g.large")), ["t3.large"]),
        (Resources(instance_types=("c6g.large",)), ["c6g.large"]),
        (Resources(instance_types=("d5.large", "m5.large")), ["m5.large"]),
    ],
)
def test_the_types_that_will_do_are_offered_the_smallest_first(
    resources: Resources, names: list[str]
) -> None:
    chosen = choose(MACHINES, wanted_by(resources, Ec2Settings()), "spot")
    assert [each.name for each in chosen] == names


@pytest.mark.parametrize(
    ("resources", "most", "names"),
    [
        (Resources(), 2, ["c5.large", "m5.large"]),
        (Resources(vcpus=3), 16, ["c5.4xlarge"]),
        (Resources(vcpus=3), 4, ["c5.4xlarge"]),  # the quota then shows why it waits
        (Resources(instance_types=("c5.4xlarge", "m5.large")), 2, ["m5.large"]),
    ],
)
def test_types_that_the_quotas_can_never_admit_are_left_out_while_there_are_others(
    resources: Resources, most: int, names: list[str]
) -> None:
    wanted = replace(wanted_by(resources, Ec2Settings()), most_vcpus=most)
    assert [each.name for each in choose(MACHINES, wanted, "spot")] == names


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(vcpus=999), "no instance type has 999 vCPUs"),
        (Resources(gpus=1, architecture="arm64"), "GPUs go with x86_64 alone"),
        (Resources(instance_types=("zz.large",)), "unknown instance types: zz.large"),
        (
            Resources(instance_types=("m5.large",), architecture="arm64"),
            "none of m5.large is arm64",
        ),
        (
            Resources(instance_types=("d5.large",)),
            "not sold on Spot: d5.large; name other types, or `capacity`: `on_demand`",
        ),
    ],
)
def test_what_no_type_will_ever_do_is_rejected_in_words(
    resources: Resources, expected: str
) -> None:
    with pytest.raises(Rejected, match=expected):
        choose(MACHINES, wanted_by(resources, Ec2Settings()), "spot")


@pytest.mark.parametrize(
    ("shows", "gpus"),
    [
        ({}, 0),
        ({"GpuInfo": {"Gpus": [{"Count": 4, "Manufacturer": "NVIDIA"}]}}, 4),
        ({"GpuInfo": {"Gpus": [{"Count": 4, "Manufacturer": "AMD"}]}}, 0),
        ({"GpuInfo": {"Gpus": [{"Count": 8, "Manufacturer": "Habana"}]}}, 0),
        ({"GpuInfo": {"Gpus": [{"Count": 0, "Manufacturer": "NVIDIA"}]}}, 0),  # a part of one
        ({"FpgaInfo": {"Fpgas": [{"Count": 1, "Manufacturer": "Xilinx"}]}}, 0),
        ({"InferenceAcceleratorInfo": {"Accelerators": [{"Count": 1}]}}, 0),
        ({"MediaAcceleratorInfo": {"Accelerators": [{"Count": 1}]}}, 0),
        ({"NeuronInfo": {"NeuronDevices": [{"Count": 1}]}}, 0),
    ],
)
def test_gpus_of_nvidia_count_and_any_accelerator_is_seen(shows: dict[str, Any], gpus: int) -> None:
    shown = {
        "InstanceType": "x.large",
        "VCpuInfo": {"DefaultVCpus": 2},
        "MemoryInfo": {"SizeInMiB": 8192},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "SupportedUsageClasses": ["spot"],
        "CurrentGeneration": True,
    }
    found = read_instance_type(shown | shows)
    assert (found.gpus, found.accelerated) == (gpus, bool(shows))
    for_no_gpus = wanted_by(Resources(vcpus=2), Ec2Settings())
    if shows:
        with pytest.raises(Rejected):
            choose({"x.large": found}, for_no_gpus, "spot")
    else:
        assert choose({"x.large": found}, for_no_gpus, "spot") == [found]


def test_a_job_that_names_nothing_gets_the_deployment_s_types() -> None:
    wanted = wanted_by(Resources(disk_gib=99), Ec2Settings(instance_types=("m5.large",)))
    assert [each.name for each in choose(MACHINES, wanted, "spot")] == ["m5.large"]


def test_a_pool_that_had_no_capacity_rests_and_comes_back() -> None:
    pools = [CapacityPool("spot", "m5.large", zone) for zone in ("zone-a", "zone-b")]
    resting = RestingPools(180)
    resting.rest(pools[0], NOW)
    assert resting.among(pools, NOW + seconds(179)) == {pools[0]}
    assert overrides_for([M5], [A, B], {pools[0]}, "spot") == [(M5, B)]
    assert resting.among(pools, NOW + seconds(180)) == set()


def test_many_pools_are_named_in_part() -> None:
    expected = summarize(CapacityPool("spot", "m5.large", f"zone-{each}") for each in range(20))
    assert expected.startswith("m5.large in zone-0, ")
    assert expected.endswith(" and 12 more")


def test_one_subnet_a_zone_is_used_the_one_with_the_most_room() -> None:
    roomier = replace(A, id="subnet-z", free_addresses=99)
    assert one_a_zone([B, A, roomier]) == [roomier, B]


def test_a_plan_names_no_price_unless_the_user_does() -> None:
    plans = [fleet_of(OFFER, Version("lt-1", "3"), [(M5, A)], price) for price in (None, 0.05)]
    overrides = [each["fleet"]["LaunchTemplateConfigs"][0]["Overrides"][0] for each in plans]
    assert [each.get("MaxPrice") for each in overrides] == [None, "0.05"]
    assert plans[0]["fleet"]["SpotOptions"]["AllocationStrategy"] == "price-capacity-optimized"
    assert plans[0]["fleet"]["Type"] == "instant"


def batch(count: int) -> LaunchBatch:
    return LaunchBatch(
        token="batch-token",
        plan=fleet_of(OFFER, Version("lt-1", "3"), [(M5, A), (M5, B)], None),
        requests=tuple(
            LaunchRequest(
                token=f"t-{each}",
                deployment="home",
                job_id=each,
                attempt=1,
                max_lifetime_seconds=60,
                api_url="http://api",
                bootstrap_token="secret",
            )
            for each in range(count)
        ),
    )


def test_the_call_for_a_batch_is_one_with_its_token_count_and_tags_and_no_secret() -> None:
    call = fleet.call_of(batch(3))
    assert call["ClientToken"] == "batch-token"
    assert call["TargetCapacitySpecification"]["TotalTargetCapacity"] == 3
    tagged = {each["ResourceType"] for each in call["TagSpecifications"]}
    assert {"instance", "volume"} <= tagged
    keys = {tag["Key"] for each in call["TagSpecifications"] for tag in each["Tags"]}
    assert keys == {"docker-job:deployment", "docker-job:launch"}
    assert "secret" not in repr(call)


def test_the_call_of_a_plan_of_an_earlier_release_is_repeated_with_its_labels_as_tags() -> None:
    now = batch(1)
    before = replace(now, plan=now.plan | {"labels": {"team": "a"}})
    for each in fleet.call_of(before)["TagSpecifications"]:
        assert {"Key": "team", "Value": "a"} in each["Tags"]


def failed(code: str, zone: str = "a") -> dict[str, Any]:
    override = {"InstanceType": "m5.large", "SubnetId": f"subnet-{zone}"}
    return {
        "LaunchTemplateAndOverrides": {"Overrides": override},
        "ErrorCode": code,
        "ErrorMessage": "words",
    }


@pytest.mark.parametrize(
    ("codes", "kind", "expected"),
    [
        (["InsufficientInstanceCapacity"], NoCapacity, "no more Spot capacity now for m5.large in"),
        (["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded"], QuotaReached, "MaxSpot"),
        (["RequestLimitExceeded"], Throttled, "RequestLimitExceeded: words"),
        (["InvalidParameterValue"], Misconfigured, "InvalidParameterValue: words"),
        (["PendingVerification"], Misconfigured, "PendingVerification: words"),
        (["InvalidParameterValue", "SomethingNew"], Deferred, "SomethingNew: words"),
        (["InsufficientInstanceCapacity", "SomethingNew"], Deferred, "SomethingNew: words"),
        (["SomethingNew", "MaxSpotInstanceCountExceeded"], QuotaReached, "MaxSpot"),
        (["InvalidParameterValue", "InsufficientInstanceCapacity"], NoCapacity, "m5.large in"),
        (["InvalidParameterValue", "InsufficientInstanceCapacity"], NoCapacity, "InvalidParameter"),
        (["InsufficientInstanceCapacity", "InvalidLaunchTemplateId.NotFound"], Stale, "Template"),
        (["MaxFleetCountExceeded", "InvalidLaunchTemplateName.NotFoundException"], Stale, "Name"),
        (["AuthFailure.ServiceLinkedRoleCreationNotPermitted"], Misconfigured, "create Spot's"),
        (["InvalidFleetConfiguration"], Deferred, "InvalidFleetConfiguration"),
        (["InternalError"], NoCapacity, "no more Spot capacity"),
        ([], NoCapacity, "no more Spot capacity now"),
    ],
)
def test_a_batch_that_got_too_little_is_explained_by_the_gravest_of_its_errors(
    codes: list[str], kind: type[ComputeError], expected: str
) -> None:
    answer = fleet.read_answer({"Errors": [failed(each) for each in codes]}, batch(2).plan)
    error = fleet.shortfall(answer.failed, "spot")
    assert type(error) is kind
    assert expected in str(error)


def test_a_type_that_no_zone_offers_is_final_and_a_zone_with_capacity_is_not_forgotten() -> None:
    words = "Your requested instance type (x) is not supported in your requested Availability Zone"
    unfit = {**failed("InvalidFleetConfiguration"), "ErrorMessage": words}
    alone = fleet.read_answer({"Errors": [unfit]}, batch(2).plan)
    assert type(fleet.shortfall(alone.failed, "spot")) is Rejected
    full = failed("InsufficientInstanceCapacity", "b")
    both = fleet.read_answer({"Errors": [unfit, full]}, batch(2).plan)
    assert type(fleet.shortfall(both.failed, "spot")) is NoCapacity
    spared = fleet.shortfall(alone.failed, "spot", "m5.large in us-east-1b rests")
    assert type(spared) is NoCapacity
    assert str(spared) == f"InvalidFleetConfiguration: {words}; m5.large in us-east-1b rests"


@pytest.mark.parametrize(
    ("number", "text"), [(0.05, "0.05"), (0.0011, "0.0011"), (1e-5, "0.00001"), (12.0, "12.0")]
)
def test_a_number_in_text_has_no_exponent(number: float, text: str) -> None:
    assert decimal_text(number) == text


def test_instances_and_errors_of_one_answer_are_both_read() -> None:
    came = {
        **{key: each for key, each in failed("").items() if key.startswith("Launch")},
        "InstanceIds": ["i-2", "i-1"],
        "InstanceType": "m5.large",
    }
    shown = {"Instances": [came], "Errors": [failed("InsufficientInstanceCapacity", "b")]}
    answer = fleet.read_answer(shown, batch(3).plan)
    assert [(each.instance_id, each.zone) for each in answer.launched] == [
        ("i-2", "zone-a"),
        ("i-1", "zone-a"),
    ]
    assert [each.pool for each in answer.failed] == [CapacityPool("spot", "m5.large", "zone-b")]


def contents(**changes: object) -> Contents:
    plain = Contents(
        deployment="home",
        market="spot",
        image_id="ami-1",
        root_device="/dev/xvda",
        disk_gib=30,
        user_data="#!/bin/sh\n",
    )
    return replace(plain, **changes)


def test_the_template_keeps_containers_from_the_metadata_service_and_volumes_secret() -> None:
    data = data_of(contents())
    options = data["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 1)
    assert options["HttpProtocolIpv6"] == "disabled"
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    (volume,) = data["BlockDeviceMappings"]
    assert volume["Ebs"]["Encrypted"] is True
    assert volume["Ebs"]["VolumeSize"] == 30
    assert data["TagSpecifications"][0]["ResourceType"] == "spot-instances-request"
    assert "TagSpecifications" not in data_of(contents(market="on-demand"))


def test_other_contents_are_another_version() -> None:
    hashes = {
        hash_of(data_of(contents(**{name: value})))
        for name, value in (
            ("disk_gib", 30),
            ("disk_gib", 31),
            ("image_id", "ami-2"),
            ("user_data", "#!/bin/sh\n:"),
            ("market", "on-demand"),
            ("instance_profile", "arn:aws:iam::1:instance-profile/x"),
        )
    }
    assert len(hashes) == 6


@pytest.mark.parametrize(
    ("changes", "mean"),
    [
        ([], None),
        ([(0, 0.1)], 0.1),
        ([(-7200, 0.9), (-3600, 0.1)], 0.1),  # what was before counts no more
        ([(0, 0.1), (900, 0.2)], 0.175),
        ([(-60, 0.1), (1800, 0.2), (7200, 9.0)], 0.15),
        ([(1800, 0.2)], 0.2),  # it is unknown what was before: the first that is known
    ],
)
def test_the_price_of_a_life_is_the_mean_over_it(
    changes: list[tuple[int, float]], mean: float | None
) -> None:
    history = [Change(NOW + seconds(at), usd) for at, usd in changes]
    found = mean_price(history, NOW, NOW + seconds(3600))
    assert found == (None if mean is None else pytest.approx(mean))


@pytest.mark.parametrize("value", ["0", "70000", "large", "1.5"])
def test_the_disk_of_gpus_is_checked(value: str) -> None:
    assert ec2_settings(Settings({"DOCKER_JOB_EC2_GPU_DISK_GIB": "200"})).gpu_disk_gib == 200
    with pytest.raises(BadSetting, match="DOCKER_JOB_EC2_GPU_DISK_GIB"):
        ec2_settings(Settings({"DOCKER_JOB_EC2_GPU_DISK_GIB": value}))


def test_settings_left_out_have_the_defaults_of_the_class() -> None:
    assert ec2_settings(Settings({})) == Ec2Settings()


def test_a_list_in_the_settings_is_parted_by_commas_and_checked() -> None:
    environ = {"DOCKER_JOB_EC2_INSTANCE_TYPES": "m5.large, c5.large"}
    assert ec2_settings(Settings(environ)).instance_types == ("m5.large", "c5.large")
    with pytest.raises(BadSetting, match="EC2_SUBNETS has 'default'"):
        ec2_settings(Settings({"DOCKER_JOB_EC2_SUBNETS": "subnet-1,default"}))
