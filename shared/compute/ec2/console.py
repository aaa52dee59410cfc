"""The console of an instance, as EC2 shows it.

- "By default, the console output returns buffered information that was posted shortly after an
  instance transition state (start, stop, reboot, or terminate). This information is available for
  at least one hour after the most recent post. Only the most recent 64 KB of console output is
  available." So a terminated instance still has one.
- The latest output "at any time during the instance lifecycle" is "supported on instance types that
  use the Nitro hypervisor" alone. The code with which EC2 refuses it elsewhere is not documented:
  after any refusal but a missing permission, and after an empty answer, what was posted is read.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
"""

from typing import Any

from shared.compute.ec2.client import Aws
from shared.compute.ec2.errors import code_of
from shared.compute.port import ComputeError, Deferred, Misconfigured, Rejected

MOST_CHARACTERS = 64 * 1024
"""All that EC2 has: the length shows which of two readings is the later one."""

FORBIDDEN = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
UNKNOWN = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})


async def console_output(aws: Aws, instance_id: str) -> str | None:
    """Return the end of an instance's console; None: nothing is posted, or it is not known."""
    for latest in (True, False):
        try:
            more: dict[str, Any] = {"Latest": True} if latest else {}
            answer = await aws.read("GetConsoleOutput", InstanceId=instance_id, **more)
        except (Rejected, Misconfigured, Deferred) as error:
            code = _code(error)
            if code in FORBIDDEN:
                raise Rejected("no permission ec2:GetConsoleOutput") from error
            if code in UNKNOWN:
                return None
            if not latest:
                raise
            continue
        text: str = answer.get("Output") or ""  # botocore has decoded the base64 already
        if text.strip():
            return text[-MOST_CHARACTERS:]
    return None


def _code(error: ComputeError) -> str:
    cause = error.__cause__
    return code_of(cause) if isinstance(cause, Exception) else ""
