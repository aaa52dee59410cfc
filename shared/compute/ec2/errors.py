"""EC2's errors as errors of the port.

Who is at fault decides. What the *job* asks for and cannot have is final for it (`Rejected`): a
type that does not exist, or that no zone has. What the *deployment* or its account does wrong fails
no job (`Misconfigured`): the jobs wait, and the message says what to change. Lack of capacity, a
quota, throttling and a template that was removed have errors of their own. A code that
`error_rules.py` does not know waits too (`Deferred`): AWS has more codes than it documents. A
server's error (5xx), a timeout and a connection cut are `Unknown`, since the call may have had its
effect. So are credentials that have ended, or that could not be read this time: an earlier call
may have had an effect. `change` names what an operator can do, whatever the kind.
"""

import socket
from collections.abc import Iterable
from fnmatch import fnmatchcase

from botocore.exceptions import (
    BaseEndpointResolverError,
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    EndpointProviderError,
    InfiniteLoopConfigError,
    InvalidConfigError,
    InvalidEndpointConfigurationError,
    InvalidIMDSEndpointError,
    InvalidIMDSEndpointModeError,
    InvalidRegionError,
    LoginError,
    MetadataRetrievalError,
    MissingDependencyException,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSLError,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
    UnknownRegionError,
    UnknownTokenProviderError,
)
from botocore.parsers import ResponseParserError

from shared.compute.ec2 import error_rules
from shared.compute.ec2.error_rules import RULES, Rule
from shared.compute.port import ComputeError, Deferred, Misconfigured, Rejected, Unknown
from shared.events.requirements import Resources

ENCODED = "Encoded authorization failure message:"
"""Before some hundred characters that only STS can read (`authorization.py`).
https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html
"""

MOST_OF_A_PAGE = 300

UNFIT = ("Unsupported*", "InvalidFleetConfig*")
"""Codes of a pool whose zone does not offer its type at all, if the message names the zone.

`InvalidFleetConfiguration` in a fleet's answer has the words of `Unsupported`: "Your requested
instance type (…) is not supported in your requested Availability Zone (…)". In other words it is
no proof: Karpenter takes `Unsupported` for a lack of capacity.
"""

NO_CREDENTIALS: tuple[type[BotoCoreError], ...] = (
    *(NoCredentialsError, PartialCredentialsError, ProfileNotFound, NoAuthTokenError),
    *(ConfigNotFound, ConfigParseError, InvalidConfigError, InfiniteLoopConfigError),
    *(UnknownCredentialError, UnknownTokenProviderError, MissingDependencyException),
    *(InvalidIMDSEndpointError, InvalidIMDSEndpointModeError, RefreshWithMFAUnsupportedError),
    *(SSOError, LoginError),
)
"""Raised before the call is made; they stay until somebody changes a file or signs in again."""

UNREAD_CREDENTIALS: tuple[type[BotoCoreError], ...] = (
    *(CredentialRetrievalError, MetadataRetrievalError, TokenRetrievalError),
)
"""The same, of a process or service that may answer the next time."""

NO_ENDPOINT: tuple[type[BotoCoreError], ...] = (
    *(NoRegionError, InvalidRegionError, UnknownRegionError, BaseEndpointResolverError),
    *(EndpointProviderError, InvalidEndpointConfigurationError),
)
"""Raised before the call is made: there is no such region, or no such address."""

FINAL_OR_OURS = frozenset({Misconfigured, Rejected})
"""Believed only of a client error: after a server's own error the call may have had its effect."""


def error_of(error: Exception) -> ComputeError:
    """Return the port's error for *error*, with AWS's own message."""
    if isinstance(error, ComputeError):
        return error
    if isinstance(error, ResponseParserError):  # none of the SDK's own: a page, perhaps of a proxy
        return Unknown(f"the answer is not AWS's: {' '.join(str(error).split())[:MOST_OF_A_PAGE]}")
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        return named(code_of(error), message_of(error), status=int(status))
    change = _change_before(error)
    if change:
        return Misconfigured(str(error), change=change)
    if isinstance(error, UNREAD_CREDENTIALS):
        return _made(Unknown, str(error), error_rules.CREDENTIALS)
    if isinstance(error, (BotoCoreError, OSError)):
        return _made(Unknown, f"AWS does not answer: {error}", _change_of(error))
    raise error


def named(code: str, message: str, *, status: int = 400) -> ComputeError:
    """Return the port's error for a code of AWS, without what only STS can read."""
    text = f"{code}: {without_encoded(message)}"
    rule = _rule_of(plain(code), message)
    if status >= 500 and (rule is None or rule.kind in FINAL_OR_OURS):
        return Unknown(text)
    if rule is None:
        return Deferred(text)
    return _made(rule.kind, text, rule.change)


def recast(kind: type[ComputeError], error: ComputeError) -> ComputeError:
    """Return *error* as one of *kind*, with what an operator can change."""
    other = kind(str(error))
    other.change = error.change
    return other


def proves_spent(error: ComputeError) -> bool:
    """Return whether *error*, of a call with a token, proves that EC2 has handled the token.

    https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
    """
    return str(error).removeprefix("Client.").startswith("Idempotent")


def at_fault(error: ComputeError, resources: Resources) -> ComputeError:
    """Return *error* as the deployment's fault if a job that asks for *resources* has none.

    A job that names neither types nor sizes gets the deployment's: what is wrong with them fails no
    job. An architecture or a disk alone chooses no type.
    """
    own = (resources.instance_types, resources.vcpus, resources.memory_mib, resources.gpus)
    if isinstance(error, Rejected) and not any(own):
        return Misconfigured(str(error), change=error_rules.TYPES)
    return error


def may_be_unfit(code: str) -> bool:
    """Return whether *code* of a pool may be that its zone does not offer its type."""
    return fits(plain(code), UNFIT)


def fits(code: str, patterns: Iterable[str]) -> bool:
    """Return whether *code* matches one of *patterns*."""
    return any(fnmatchcase(code, each) for each in patterns)


def is_unfit(code: str, message: str) -> bool:
    """Return whether a zone does not offer a type at all."""
    return may_be_unfit(code) and "availability zone" in message.lower()


def plain(code: str) -> str:
    """Return *code* without the side that CloudTrail and older calls put before it."""
    return code.removeprefix("Client.").removeprefix("Server.")


def without_encoded(message: str) -> str:
    """Return *message* without its encoded part."""
    return message.partition(ENCODED)[0].strip()


def code_of(error: Exception) -> str:
    """Return AWS's code, or an empty text."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: Exception) -> str:
    """Return AWS's message, or an empty text."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Message", ""))


def _rule_of(code: str, message: str) -> Rule | None:
    words = message.lower()
    for rule in RULES:
        says = not rule.words or any(each in words for each in rule.words)
        if says and fits(code, rule.codes):
            return rule
    return None


def _made(kind: type[ComputeError], text: str, change: str) -> ComputeError:
    if kind is Misconfigured:
        return Misconfigured(text, change=change)
    error = kind(f"{text} ({change})" if change else text)
    error.change = change
    return error


def _change_before(error: Exception) -> str:
    """Return what an operator can change so that the call is made at all."""
    if isinstance(error, ParamValidationError):
        return error_rules.PARAMETERS
    if isinstance(error, NO_CREDENTIALS):
        return error_rules.CREDENTIALS
    # botocore's refusal of AWS_ENDPOINT_URL has no type of its own.
    is_bad_address = isinstance(error, ValueError) and str(error).startswith("Invalid endpoint")
    return error_rules.ENDPOINT if is_bad_address or isinstance(error, NO_ENDPOINT) else ""


def _change_of(error: Exception) -> str:
    """Return what an operator can change so that AWS answers, if it is certainly not the network.

    A connection that is refused, cut or too slow passes by itself, as does a resolver that does not
    answer (EAI_AGAIN): none of these is an alert about settings. A name that does not exist is: the
    resolver has answered. So is a certificate that is not trusted, which a wrong clock causes too.
    """
    if isinstance(error, SSLError):
        return error_rules.CERTIFICATE if "CERTIFICATE_VERIFY_FAILED" in str(error) else ""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return error_rules.ENDPOINT if cause.errno == socket.EAI_NONAME else ""
        cause = cause.__cause__ or cause.__context__
    return ""
