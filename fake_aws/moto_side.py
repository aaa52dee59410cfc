"""The part of the cloud that moto serves: all services but instances, and an account's defaults.

Calls without a handler here go to moto's own WSGI application, in one thread, since moto's state is
not thread-safe. The state is global in the process; the account id keeps clouds apart.
"""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS, INSTANCE_TYPES
from moto.events.models import events_backends
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sqs.models import sqs_backends
from werkzeug.test import EnvironBuilder, run_wsgi_app

from fake_aws.deliveries import EVENTBRIDGE, queues_for
from fake_aws.errors import AwsError
from fake_aws.other_types import add_other_types
from fake_aws.wire import QUERY_ERROR, Answer, Request

T = TypeVar("T")
# The front has checked the signature already; the header passes the account on.
ACCOUNT_HEADER = "x-moto-account-id"
SPOT = "spot.amazonaws.com"
SPOT_ROLE = "AWSServiceRoleForEC2Spot"
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html"""


class Subnet(NamedTuple):
    """A subnet, with its VPC and zone, and whether it assigns public IPv4 addresses."""

    id: str
    vpc: str
    zone: str
    public: bool = False


class Image(NamedTuple):
    """An AMI; *platform* is empty for Linux."""

    id: str
    architecture: str
    root_device: str
    platform: str
    name: str = ""
    volumes: tuple[dict[str, Any], ...] = ()
    """Its block device mappings."""


class InstanceType(NamedTuple):
    """The size and features of an instance type."""

    name: str
    vcpus: int
    memory_mib: int
    architectures: tuple[str, ...]
    gpus: int
    nvidia_gpus: int
    current_generation: bool
    bare_metal: bool
    burstable: bool
    usage_classes: tuple[str, ...]
    nitro: bool = True
    """Whether its hypervisor is Nitro, or it is one machine as a whole of that kind."""


class MotoSide:
    """One account in one region, in moto's state."""

    def __init__(self, account: str, region: str) -> None:
        self.account = account
        self.region = region
        add_other_types(region)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="moto")
        self._app = DomainDispatcherApplication(create_backend_app)

    async def answer(self, request: Request) -> Answer:
        """Return moto's answer to a request of any service."""
        return await self._in_thread(lambda: self._answer(request))

    async def prepare(self, role: str = "") -> None:
        """Create an account's defaults, so that the first call need not wait.

        With *role*, also create a role that only EC2 may assume, and a profile of that name.
        """
        await self._in_thread(self._make_defaults)
        if role:
            await self._in_thread(lambda: self._make_role(role))

    def _make_defaults(self) -> None:
        """Make what moto leaves out: the default VPC's way out, and the role of Spot's first use.

        https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
        """
        ec2, iam = self._ec2, iam_backends[self.account]["aws"]
        vpc = ec2.describe_subnets()[0].vpc_id
        gateway = ec2.create_internet_gateway().id
        ec2.attach_internet_gateway(gateway, vpc)
        main = next(each for each in ec2.describe_route_tables() if each.vpc_id == vpc)
        ec2.create_route(main.id, "0.0.0.0/0", gateway_id=gateway)
        path = f"/aws-service-role/{SPOT}/"
        iam.create_role(SPOT_ROLE, json.dumps(_trusting(SPOT)), path, None, "", [], "3600")

    def _make_role(self, name: str) -> None:
        iam = iam_backends[self.account]["aws"]
        iam.create_role(name, json.dumps(_trusting("ec2.amazonaws.com")), "/", None, "", [], "3600")
        iam.create_instance_profile(name, "/", [])
        iam.add_role_to_instance_profile(name, name)

    async def make_event_queue(self, name: str) -> None:
        """Create an SQS queue, and the rule of EventBridge that sends all events of EC2 to it."""
        await self._in_thread(lambda: self._make_event_queue(name))

    def _make_event_queue(self, name: str) -> None:
        sqs = sqs_backends[self.account][self.region]
        events = events_backends[self.account][self.region]
        arn = str(sqs.create_queue(name).queue_arn)
        policy = _allowing(EVENTBRIDGE, "sqs:SendMessage", Resource=arn)
        sqs.set_queue_attributes(name, {"Policy": json.dumps(policy)})
        events.put_rule(name, event_pattern=json.dumps({"source": ["aws.ec2"]}), state="ENABLED")
        events.put_targets(name, None, [{"Id": "queue", "Arn": arn}])

    async def send_message(self, queue_url: str, body: str) -> None:
        """Send a message to a queue of this account, as EventBridge does."""
        name = queue_url.rpartition("/")[2]
        await self._in_thread(lambda: self._send(name, body))

    def _send(self, queue: str, body: str) -> None:
        queues = sqs_backends[self.account][self.region]
        if queue in queues.queues:  # a deleted target loses its events, as on AWS
            queues.send_message(queue, body)

    async def put_event(self, event: Any) -> None:
        """Deliver an event to the queues of every matching rule that may send to them."""
        await self._in_thread(lambda: self._put_event(event))

    def _put_event(self, event: Any) -> None:
        for queue in queues_for(self.account, self.region, event):
            self._send(queue, json.dumps(event))

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown()

    @property
    def _ec2(self) -> Any:
        return ec2_backends[self.account][self.region]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _answer(self, request: Request) -> Answer:
        builder = EnvironBuilder(
            method=request.method,
            path=request.path,
            query_string=request.query,
            headers=[*request.headers.items(), (ACCOUNT_HEADER, self.account)],
            data=request.body,
        )
        body, status, headers = run_wsgi_app(self._app, builder.get_environ(), buffered=True)
        kind = headers.get("Content-Type", "text/xml")
        query_error = headers.get(QUERY_ERROR, "")
        return Answer(int(status.split()[0]), kind, b"".join(body), query_error)

    def subnet(self, subnet_id: str) -> Subnet:
        """Return the subnet. Raises AwsError."""
        try:
            found = self._ec2.get_subnet(subnet_id)
        except EC2ClientError as error:
            raise AwsError(
                "InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist"
            ) from error
        return _subnet(found)

    def default_subnets(self) -> list[Subnet]:
        """Return the subnets of the default VPC, one in each zone."""
        return [_subnet(each) for each in self._ec2.describe_subnets() if each.default_for_az]

    def has_security_group(self, group_id: str) -> bool:
        """Return True if the security group exists."""
        return self._ec2.get_security_group_from_id(group_id) is not None

    def image(self, image_id: str) -> Image:
        """Return the image. Raises AwsError."""
        if not image_id.startswith("ami-"):
            raise AwsError("InvalidAMIID.Malformed", f'Invalid id: "{image_id}"')
        found = self._ec2.amis.get(image_id)
        if found is None:
            raise AwsError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
        if found.state != "available":
            # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
            text = (
                f"The image ID '{image_id}' is {found.state}, and nothing can be launched from it"
            )
            raise AwsError("InvalidAMIID.Unavailable", text)
        return Image(
            found.id,
            found.architecture or "x86_64",
            found.root_device_name,
            found.platform or "",
            found.name or "",
            tuple(found.block_device_mappings),
        )

    def profile(self, name: str, arn: str) -> str:
        """Return the ARN of the instance profile with this name or ARN. Raises AwsError."""
        for each in list(iam_backends[self.account]["aws"].instance_profiles.values()):
            if (each.name if name else each.arn) == (name or arn):
                return str(each.arn)
        field = "name" if name else "arn"
        raise AwsError(
            "InvalidParameterValue",
            f"Value ({name or arn}) for parameter iamInstanceProfile.{field} is invalid. "
            f"Invalid IAM Instance Profile {field}",
        )

    def role_of(self, profile_arn: str) -> str | None:
        """Return the name of the role in an instance profile, or None."""
        for each in list(iam_backends[self.account]["aws"].instance_profiles.values()):
            if each.arn == profile_arn and each.roles:
                return str(each.roles[0].name)
        return None

    def types_in(self, zone: str) -> frozenset[str]:
        """Return the names of the instance types that the zone offers."""
        offered = INSTANCE_TYPE_OFFERINGS["availability-zone"][self.region]
        return frozenset(each["InstanceType"] for each in offered if each["Location"] == zone)


def _subnet(found: Any) -> Subnet:
    public = str(found.map_public_ip_on_launch).lower() == "true"
    return Subnet(found.id, found.vpc_id, found.availability_zone, public)


def _trusting(service: str) -> dict[str, Any]:
    """Return the trust policy of a role that *service* alone may assume."""
    return _allowing(service, "sts:AssumeRole")


def _allowing(service: str, action: str, **more: str) -> dict[str, Any]:
    """Return a policy of a resource that allows *action* to *service* alone."""
    principal = {"Service": service}
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, **more}
    return {"Version": "2012-10-17", "Statement": [statement]}


def instance_type(name: str) -> InstanceType:
    """Return the instance type. Raises AwsError."""
    found = INSTANCE_TYPES.get(name)
    if found is None:
        raise AwsError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    gpus = found.get("GpuInfo", {}).get("Gpus", ())
    return InstanceType(
        name=name,
        vcpus=found["VCpuInfo"]["DefaultVCpus"],
        memory_mib=found["MemoryInfo"]["SizeInMiB"],
        architectures=tuple(found["ProcessorInfo"]["SupportedArchitectures"]),
        gpus=sum(each["Count"] for each in gpus),
        nvidia_gpus=sum(
            each["Count"] or each.get("LogicalGpuCount", 0)  # a part of one is one for its driver
            for each in gpus
            if each["Manufacturer"] == "NVIDIA"
        ),
        current_generation=found["CurrentGeneration"],
        bare_metal=found["BareMetal"],
        burstable=found["BurstablePerformanceSupported"],
        usage_classes=tuple(found["SupportedUsageClasses"]),
        nitro=found.get("Hypervisor", "nitro") == "nitro",
    )


def all_instance_types() -> list[InstanceType]:
    """Return every instance type, sorted by name."""
    return [instance_type(name) for name in sorted(INSTANCE_TYPES)]
