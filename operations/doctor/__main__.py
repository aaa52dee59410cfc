"""`python -m operations.doctor`: check, report, exit."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from operations.doctor import command_line, report
from operations.doctor.checks.api import addresses_of, api
from operations.doctor.checks.machine import machine
from operations.doctor.checks.stores import stores
from operations.doctor.installation import Installation, from_environment, read_ec2
from shared.clock import RealClock
from shared.findings import Finding
from shared.log import configure
from shared.settings import EXIT_SETTING, BadSetting, Settings, remove_empty
from shared.terminal import print_line

if TYPE_CHECKING:
    from shared.compute.ec2.client import Aws


async def examine(
    settings: Settings, installation: Installation, role: str, aws: "Aws | None" = None
) -> list[Finding]:
    """Run all checks that concern *installation*. Raises `BadSetting`."""
    addresses = await addresses_of(installation.api_url) if installation.api_url else ()
    place = (
        await _on_ec2(settings, installation, role, addresses, aws)
        if installation.scheme == "ec2"
        else await machine(installation)
    )
    rest = await asyncio.gather(api(installation, addresses), stores(settings, installation, role))
    return [*place, *(finding for each in rest for finding in each)]


async def _on_ec2(
    settings: Settings,
    installation: Installation,
    role: str,
    addresses: Sequence[str],
    aws: "Aws | None",
) -> list[Finding]:
    # boto3 costs 30 MB, and only EC2 needs it: see shared.compute.ec2.
    from shared.compute.ec2.doctor.run import examine as examine_ec2  # noqa: PLC0415
    from shared.compute.ec2.doctor.scene import ROLES, Ec2Installation  # noqa: PLC0415

    ec2 = read_ec2(settings, installation)
    subject = Ec2Installation(
        region=ec2.region,
        deployment=installation.deployment,
        settings=ec2.settings,
        api_url=installation.api_url,
        agent_sha256=ec2.agent_sha256,
        roles=ROLES if role == "all" else tuple(each for each in ROLES if each == role),
        instance_role_arn=ec2.instance_role_arn,
        queue_url=ec2.queue_url,
        api_addresses=() if installation.is_emulated else tuple(addresses),
    )
    return await examine_ec2(subject, RealClock(), aws)


def main() -> int:
    """Run the command line; return the exit status."""
    arguments = command_line.parse(sys.argv[1:])
    remove_empty(os.environ)
    configure("critical")
    logging.disable(logging.ERROR)  # of libraries: the report has each error
    try:
        settings, installation = from_environment()
        findings = asyncio.run(examine(settings, installation, arguments.role))
    except BadSetting as error:
        print_line(f"docker-job doctor: {error}", error=True)
        return EXIT_SETTING
    text = report.as_json(findings) if arguments.json else "\n".join(report.lines(findings))
    print_line(text)
    return report.exit_status(findings)


if __name__ == "__main__":
    sys.exit(main())
