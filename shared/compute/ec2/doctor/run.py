"""All checks of an account: the credentials first, then the others at the same time."""

import asyncio
from collections.abc import Awaitable, Callable

from shared.clock import Clock
from shared.compute.ec2.client import Aws
from shared.compute.ec2.doctor import account
from shared.compute.ec2.doctor.images import image, volume_key
from shared.compute.ec2.doctor.limits import quotas
from shared.compute.ec2.doctor.network import network
from shared.compute.ec2.doctor.permissions import permissions
from shared.compute.ec2.doctor.pricing import prices
from shared.compute.ec2.doctor.queue import queue
from shared.compute.ec2.doctor.scene import Ec2Installation, Role, Scene
from shared.compute.ec2.doctor.templates import template
from shared.findings import Finding

Check = Callable[[Scene], Awaitable[list[Finding]]]

CHECK_SECONDS = 60.0
"""Of one check; a call of AWS ends within half of it."""

OF_THE_LAUNCHER: tuple[Check, ...] = (
    *(account.region, account.spot_role, account.profile, permissions, quotas),
    *(network, image, volume_key, template, prices),
)
OF_THE_REAPER: tuple[Check, ...] = (account.region, permissions, queue)


async def examine(
    installation: Ec2Installation, clock: Clock, aws: Aws | None = None
) -> list[Finding]:
    """Run the checks of the roles in *installation*; none of them raises."""
    scene = Scene(installation, clock, aws or Aws(installation.region))
    first = await run_bounded(account.credentials, scene)
    if any(each.name == "credentials" and each.status == "fail" for each in first):
        text = "AWS does not take the credentials, so nothing else can be asked"
        return [*first, Finding(group="account", name="the rest", status="skip", found=text)]
    checks = checks_of(installation.roles)
    rest = await asyncio.gather(*(run_bounded(each, scene) for each in checks))
    return [*first, *(finding for each in rest for finding in each)]


def checks_of(roles: tuple[Role, ...]) -> list[Check]:
    """Return the checks that concern *roles*, each once."""
    wanted = {"launcher": OF_THE_LAUNCHER, "reaper": OF_THE_REAPER}
    return list(dict.fromkeys(check for role in roles for check in wanted[role]))


async def run_bounded(check: Check, scene: Scene, seconds: float = CHECK_SECONDS) -> list[Finding]:
    """Run *check* for at most *seconds*; its failure is a finding too."""
    name = check.__name__.replace("_", " ")
    try:
        async with asyncio.timeout(seconds):
            return await check(scene)
    except TimeoutError:
        text = f"no result within {seconds:g} s"
        do = "check the network's way to AWS, and try again"
        return [Finding(group="checks", name=name, status="fail", found=text, do=do)]
    except Exception as error:  # noqa: BLE001 - the other checks go on
        text = f"the check has failed: {type(error).__name__}: {error}"
        do = "report it as a bug of docker-job"
        return [Finding(group="checks", name=name, status="fail", found=text, do=do)]
