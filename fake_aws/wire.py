"""AWS's protocols: parses requests and writes answers.

EC2 and STS speak the Query protocol (a form in, XML out), SSM, SQS and the price list JSON. The
shapes are botocore's own service models, read by moto's parsers and serializers: the same data as
boto3's.
"""

import json
import re
import uuid
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.model import OperationNotFoundError
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.serialize import SerializationContext, get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.datastructures import Headers, MultiDict

from fake_aws.errors import AwsError
from fake_aws.model_rules import check_members, check_names

SCOPE = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
QUERY_ERROR = "x-amzn-query-error"
"""Beside an error of SQS in JSON: its code in the Query protocol's spelling, which boto3 shows.
https://smithy.io/2.0/aws/protocols/aws-query-protocol.html (`awsQueryCompatible`)
"""
FORM = "application/x-www-form-urlencoded"
# The service's name in X-Amz-Target, and botocore's name.
TARGETS = {
    "AmazonSSM": "ssm",
    "AmazonSQS": "sqs",
    "AWSPriceListService": "pricing",
    "AWSEvents": "events",
    "ServiceQuotasV20190624": "service-quotas",
    "secretsmanager": "secretsmanager",
}
# The name in signatures and in policies, where it is not botocore's.
SHORT_NAMES = {"service-quotas": "servicequotas"}
VERSIONS = {
    "2016-11-15": "ec2",
    "2011-06-15": "sts",
    "2010-05-08": "iam",
    "2010-05-15": "cloudformation",
}


class Request(NamedTuple):
    """One HTTP request, as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Answer(NamedTuple):
    """One HTTP answer."""

    status: int
    content_type: str
    body: bytes
    query_error: str = ""


class Call(NamedTuple):
    """The call in a request."""

    service: str
    action: str
    protocol: str
    request: Request
    request_id: str

    def params(self) -> dict[str, Any]:
        """Parse the parameters by the service's model, into the form of boto3's arguments."""
        model = get_service_model(self.service).operation_model(self.action)
        form = parse_qsl(self.request.body.decode() or self.request.query, keep_blank_values=True)
        try:
            parsed: dict[str, Any] = PROTOCOL_PARSERS[self.protocol](model, map_type=dict).parse(
                {
                    "method": self.request.method,
                    "values": MultiDict(form),
                    "headers": Headers(list(self.request.headers.items())),
                    "body": self.request.body,
                    "url_path": self.request.path,
                    "url_params": {},
                }
            )
        except (ValueError, TypeError) as error:
            raise AwsError("MalformedQueryString", str(error)) from error
        if self.protocol == "ec2":
            check_names(model, dict(form))
        check_members(model, parsed)
        return parsed


def read_call(request: Request) -> Call:
    """Read the service and the action of a request. Raises AwsError."""
    target = request.headers.get("x-amz-target", "")
    request_id = str(uuid.uuid4())
    if target:
        prefix, _, action = target.rpartition(".")
        service = TARGETS.get(prefix.partition("_")[0]) or _scope_service(request)
        return Call(service, action, "json", request, request_id)
    form = dict(parse_qsl(request.body.decode(errors="replace") or request.query))
    service = VERSIONS.get(form.get("Version", "")) or _scope_service(request)
    action = form.get("Action", "")
    if not action or not service:
        raise AwsError("MissingAction", "No action was given in the request", 400)
    return Call(service, action, "ec2" if service == "ec2" else "query", request, request_id)


def write_result(call: Call, result: dict[str, Any]) -> Answer:
    """Write *result*, in boto3's form, as the answer to *call*."""
    model = get_service_model(call.service).operation_model(call.action)
    kind = get_serializer_class(call.service, call.protocol)
    written = kind(model, SerializationContext(call.request_id)).serialize(result)
    body = written["body"]
    return Answer(
        written["status_code"],
        written["headers"].get("Content-Type", "text/xml"),
        body.encode() if isinstance(body, str) else body,
    )


def write_error(protocol: str, error: AwsError, request_id: str) -> Answer:
    """Write *error* in the form of the protocol."""
    code, message = escape(error.code), escape(error.message)
    if protocol == "json":
        text = json.dumps({"__type": error.code, "message": error.message})
        return Answer(error.status, "application/x-amz-json-1.1", text.encode())
    if protocol == "query":
        side = "Sender" if error.status < 500 else "Receiver"
        text = (
            f"<ErrorResponse><Error><Type>{side}</Type><Code>{code}</Code>"
            f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    else:
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            f"</Errors><RequestID>{request_id}</RequestID></Response>"
        )
    return Answer(error.status, "text/xml;charset=UTF-8", text.encode())


def knows(service: str, action: str) -> bool:
    """Return True if the service has the action."""
    try:
        get_service_model(service).operation_model(action)
    except OperationNotFoundError:
        return False
    return True


def _scope_service(request: Request) -> str:
    found = SCOPE.search(request.headers.get("authorization", ""))
    return found.group(4) if found else ""
