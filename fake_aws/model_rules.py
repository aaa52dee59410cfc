"""The rules of AWS's own service models for what arrives: names, members, enums, patterns, bounds.

boto3 checks required members and types of what it sends, and no enumeration, pattern or limit: a
call that it lets through may be refused. The codes are those of
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html (`UnknownParameter`,
`MissingParameter`, `InvalidParameterValue`). `LIMITS` has what the models state in prose alone.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from fake_aws.errors import AwsError, invalid, missing

PROTOCOL_NAMES = frozenset({"Action", "Version"})
"""Form fields of every call of the Query protocol."""

OPEN_ENUMS = frozenset({"InstanceType"})
"""Enumerations that grow each week; what they do not have is refused by a rule of its own."""

FILTER_VALUES = 200
"""In one request: EC2's answer in https://github.com/gjbae1212/gossm/issues/47."""

LIMITS: dict[tuple[str, str], tuple[int, int]] = {
    ("CreateFleet", "ClientToken"): (1, 64),
    ("RunInstances", "ClientToken"): (1, 64),
    ("TerminateInstances", "InstanceIds"): (1, 1000),
    ("DescribeInstances", "MaxResults"): (5, 1000),
    ("DescribeSpotInstanceRequests", "MaxResults"): (5, 1000),
    ("DescribeSpotPriceHistory", "MaxResults"): (1, 1000),
    ("DescribeLaunchTemplateVersions", "MaxResults"): (1, 200),
    ("DeleteLaunchTemplateVersions", "Versions"): (1, 200),
}
"""Least and most of a number, of characters, or of members.

From the descriptions in botocore's model of EC2 and in its API reference;
https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html for tokens.
"""

_NUMBER = re.compile(r"\.\d+(?=\.|$)")


def check_members(model: OperationModel, params: Mapping[str, Any]) -> None:
    """Check all that was given against the model. Raises AwsError for the first fault."""
    if model.input_shape is None:
        return
    for error in _faults(model.input_shape, params, ""):
        raise error
    for (action, name), (least, most) in LIMITS.items():
        given = params.get(name)
        if action == model.name and given is not None:
            size = given if isinstance(given, int) else len(given)
            if not least <= size <= most:
                raise invalid(f"{name} is or has {size}: it must be between {least} and {most}")
    values = sum(len(each.get("Values") or ()) for each in params.get("Filters") or ())
    if values > FILTER_VALUES:
        text = f"The maximum number of filter values specified on a single call is {FILTER_VALUES}"
        raise AwsError("FilterLimitExceeded", text)


def check_names(model: OperationModel, form: Mapping[str, str]) -> None:
    """Check that each field of an EC2 form is one of the model. Raises AwsError."""
    known = _known_names(model.input_shape)
    for name in form:
        if name not in PROTOCOL_NAMES and _NUMBER.sub("", name) not in known:
            raise AwsError("UnknownParameter", f"The parameter {name} is not recognized")


@functools.lru_cache(maxsize=512)
def _known_names(shape: Shape | None) -> frozenset[str]:
    return frozenset(_form_names(shape, "")) if shape is not None else frozenset()


def _faults(shape: Shape, value: Any, path: str) -> Iterator[AwsError]:
    if isinstance(shape, StructureShape):
        for name in shape.required_members:
            if name not in value:
                yield missing(_below(path, name))
        for name, given in value.items():
            if name in shape.members and given is not None:
                yield from _faults(shape.members[name], given, _below(path, name))
    elif isinstance(shape, ListShape):
        yield from _bounds(shape, len(value), path, "has {} members")
        for place, given in enumerate(value, start=1):
            yield from _faults(shape.member, given, f"{path}.{place}")
    elif isinstance(shape, MapShape):
        for name, given in value.items():
            yield from _faults(shape.value, given, _below(path, name))
    else:
        yield from _scalar_faults(shape, value, path)


def _scalar_faults(shape: Shape, value: Any, path: str) -> Iterator[AwsError]:
    allowed = getattr(shape, "enum", [])
    if allowed and value not in allowed and shape.name not in OPEN_ENUMS:
        yield invalid(f"Value ({value}) for parameter {path} is invalid. Expecting: {allowed}")
    pattern = shape.metadata.get("pattern")
    if pattern and isinstance(value, str) and not _matches(pattern, value):
        yield invalid(f"Value ({value}) for parameter {path} does not match {pattern}")
    if isinstance(value, str):
        yield from _bounds(shape, len(value), path, "has {} characters")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _bounds(shape, value, path, "is {}")


def _bounds(shape: Shape, size: float, path: str, form: str) -> Iterator[AwsError]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and size < least) or (most is not None and size > most):
        yield invalid(f"{path} {form.format(size)}: it must be between {least} and {most}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:  # Java's own classes, such as \p{Alnum}
        return True


def _form_names(shape: Shape, path: str, depth: int = 0) -> Iterator[str]:
    """Yield each name that EC2's form may have, without the numbers of lists."""
    yield path
    if depth > 8 or isinstance(shape, MapShape):
        return
    if isinstance(shape, ListShape):
        yield from _form_names(shape.member, path, depth + 1)
    elif isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            yield from _form_names(member, _below(path, _form_name(name, member)), depth + 1)


def _form_name(name: str, shape: Shape) -> str:
    """Return the member's name in a form: `queryName`, or the XML name with a capital.

    https://smithy.io/2.0/aws/protocols/aws-ec2-query-protocol.html
    """
    given = shape.serialization.get("queryName")
    if given:
        return str(given)
    found = str(shape.serialization.get("name") or name)
    return found[0].upper() + found[1:]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
