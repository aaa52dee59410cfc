"""The host's packet filter: it keeps jobs on a shared engine from what is not theirs.

Its rules are one nftables table, which is replaced as a whole: installing it again is harmless,
whoever does it, and it has no effect on packets that do not come from a job. Jobs' networks have
bridges whose names begin with `dj`, or with `djk` where the host's services are closed to them (the
agent's `network.py`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from shared.log import get_logger

_log = get_logger(part="packet_filter")

Mode = Literal["try", "require", "off"]

CHECK_SECONDS = 60.0
"""A reload of the host's firewall removes the table: before launches, and while jobs run, it is
installed again this often."""

LOG_SECONDS = 600.0

# - Before Docker's own translation of addresses (priority raw): what is published on an address of
#   the host is closed with it.
# - Metadata services are at link-local addresses (EC2's, its containers', Google's, Azure's), at
#   those that EC2 and Google have for IPv6, and at those of Azure's host, Oracle and Alibaba. Some
#   are their machines' name servers too, hence port 53.
# - Two jobs are never on one bridge. Docker keeps its bridges apart too, unless it runs with
#   `iptables: false`.
RULES = """\
add table inet docker_job
delete table inet docker_job
table inet docker_job {
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname != "dj*" return
    meta l4proto { tcp, udp } th dport 53 return
    ip daddr { 169.254.0.0/16, 168.63.129.16, 192.0.0.192, 100.100.100.200 } drop
    ip6 daddr { fd00:ec2::254, fd20:ce::254 } drop
    iifname "djk*" fib daddr type { local, broadcast, anycast, multicast } drop
  }
  chain forward {
    type filter hook forward priority filter - 1; policy accept;
    iifname "dj*" oifname "dj*" drop
  }
}
"""

MISSING = (
    "jobs are not kept from 169.254.169.254, nor, where API keys exist, from the services of this "
    "host: the packet filter cannot be installed"
)


class PacketFilter:
    """The table, installed by *install*, which returns the reason why it could not, empty if none.

    *mode*: "try" goes on without it, "require" launches nothing without it, "off" leaves it out.
    *alarms*: a missing table is an error that is logged again and again, and else a warning, once.
    """

    def __init__(
        self,
        mode: Mode,
        install: Callable[[], Awaitable[str]],
        remedy: str,
        *,
        alarms: bool,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._install = install
        self._remedy = remedy
        self._alarms = alarms
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._tried_at = self._logged_at = float("-inf")
        self._trouble = ""

    async def keep(self) -> str:
        """Install it unless that was tried within the last minute; return why nothing may launch.

        Empty if launches may go on.
        """
        if self._mode == "off":
            return ""
        async with self._lock:
            if self._seconds() - self._tried_at >= CHECK_SECONDS:
                before, self._trouble = self._trouble, await self._install()
                self._tried_at = self._seconds()
                self._log(before)
        if self._mode == "try" or not self._trouble:
            return ""
        return f"DOCKER_JOB_PACKET_FILTER is require, and it is missing: {self._trouble}"

    def _log(self, before: str) -> None:
        if not self._trouble:
            if before:
                _log.info("the packet filter is installed")
            return
        again = self._alarms and self._seconds() - self._logged_at >= LOG_SECONDS
        if again or self._trouble != before:
            self._logged_at = self._seconds()
            write = _log.error if self._alarms else _log.warning
            write(MISSING, because=self._trouble, remedy=self._remedy)
