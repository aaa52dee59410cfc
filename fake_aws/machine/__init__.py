"""What runs on an instance of the rehearsal, in place of a machine's own: standard library alone.

These files are copied to the instance, or run from here, by their path; the cloud imports nothing
of them. They are for Python 3.9, as an instance's image may bring it.
"""

from pathlib import Path

TOOLS = Path(__file__).parent
"""Where they are."""
TOOL_NAMES = (
    *("shutdown", "poweroff", "halt", "reboot", "systemctl", "service"),
    *("iptables", "ip6tables", "nft", "sysctl", "dnf", "yum", "apt-get"),
)
"""What `tools.py` plays."""
