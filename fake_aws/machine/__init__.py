"""The programs on an instance of the fake AWS, in place of a machine's own.

These files are copied to the instance, or run from here, by their path; the cloud does not import
them. They use the standard library of Python 3.9 alone, which an instance's image may have.
"""

from pathlib import Path

TOOLS = Path(__file__).parent
"""The directory of these files."""
TOOL_NAMES = (
    *("shutdown", "poweroff", "halt", "reboot", "systemctl", "service"),
    *("iptables", "ip6tables", "nft", "sysctl", "dnf", "yum", "apt-get"),
)
"""The names of the programs that `tools.py` stands for."""
