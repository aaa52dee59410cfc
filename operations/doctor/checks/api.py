"""The API as instances reach it: its name, its addresses, its scheme, its answer."""

import asyncio
import ipaddress
import socket
import ssl
from urllib.parse import urlsplit

import aiohttp

from operations.doctor.installation import Installation
from shared.findings import Finding, FindingGroup

GROUP = "API"
RESOLVE_SECONDS = 10.0
ANSWER_SECONDS = 10.0


async def addresses_of(url: str) -> tuple[str, ...]:
    """Resolve the host of *url*; no address means that there is no such name."""
    host = urlsplit(url).hostname or ""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return ()
    return tuple(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))


async def api(installation: Installation, addresses: tuple[str, ...]) -> list[Finding]:
    """Check the API's URL; *addresses* are those of its name."""
    found, url = FindingGroup(GROUP), installation.api_url
    if not url:
        text = "not checked: DOCKER_JOB_API_URL is not among these settings"
        found.add("skip", "API's name", text, "check it with the launcher's settings")
        return found.all
    host = urlsplit(url).hostname or ""
    if not addresses:
        do = "mend the DNS, or set DOCKER_JOB_API_URL to a name that instances resolve"
        found.add("fail", "API's name", f"{host} has no address", do)
        return found.all
    found.add("ok", "API's name", f"{host} is {', '.join(addresses)}")
    if installation.scheme == "ec2":
        _check_address(found, installation, addresses)
    await _check_answer(found, installation)
    return found.all


def _check_address(
    found: FindingGroup, installation: Installation, addresses: tuple[str, ...]
) -> None:
    url = urlsplit(installation.api_url)
    read = [ipaddress.ip_address(each) for each in addresses]
    if any(each.is_loopback for each in read) and not installation.is_emulated:
        do = "set DOCKER_JOB_API_URL to an address that instances on EC2 reach"
        found.add("fail", "API's reach", f"{url.hostname} is this machine alone", do)
    elif url.scheme == "http" and any(each.is_global for each in read):
        do = "serve it over HTTPS: tokens and secrets would travel in clear"
        found.add("warn", "API's reach", "plain HTTP at a public address", do)
    else:
        kind = "public" if any(each.is_global for each in read) else "private"
        found.add("ok", "API's reach", f"a {kind} address, by {url.scheme}")


async def _check_answer(found: FindingGroup, installation: Installation) -> None:
    """Ask for /healthz, from here: instances may have another way."""
    url = installation.api_url.rstrip("/") + "/healthz"
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        tls = ssl.create_default_context(cadata=installation.api_ca or None)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, ssl=tls) as answer,
        ):
            status = answer.status
    except aiohttp.ClientConnectorCertificateError as error:
        do = "DOCKER_JOB_API_CA_FILE must name the authority that issued the API's certificate, "
        do += "and the certificate the host of DOCKER_JOB_API_URL"
        reason = error.certificate_error
        text = f"{url}: {getattr(reason, 'verify_message', None) or reason}"
        found.add("fail", "API's answer", text, do)
        return
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        do = "start it, or open the way to it (security group, firewall, DNS)"
        if installation.is_embedded:
            do = "start it: make run"
        text = f"{url} does not answer from here: {type(error).__name__}"
        # Before the first start there is none, and from outside of the VPC it may be closed.
        found.add("warn", "API's answer", text, do)
        return
    if status == 200:
        found.add("ok", "API's answer", f"{url} is 200")
    else:
        do = "DOCKER_JOB_API_URL must be the address of docker-job's API"
        found.add("fail", "API's answer", f"{url} is {status}", do)
