"""The signals that may stop a container, in every form that docker takes, and their one name.

The numbers are Linux's on x86_64 and arm64 (signal(7)); the names of realtime signals are docker's:
https://github.com/moby/sys/blob/main/signal/signal_linux.go
"""

import re

_NAMES = (
    *("HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1"),
    *("SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP"),
    *("TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR"),
    *("SYS",),
)
_SAME = {"IOT": "ABRT", "CLD": "CHLD", "POLL": "IO"}
LAST_NUMBER = len(_NAMES)

_REALTIME = r"RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?"
_NAMED = rf"(?:SIG)?(?P<name>{'|'.join((*_NAMES, *_SAME))}|{_REALTIME})"
PATTERN = _NAMED.replace("?P<name>", "?:") + "|[1-9]|[12][0-9]|3[01]"
_FORMS = re.compile(_NAMED)


def canonical(value: object) -> object:
    """Return the name, like `SIGTERM`, of a signal given by name or number; others as they are."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.isascii():  # some other letters have a capital in ASCII
        return value
    text = text.upper()
    if text.isdigit() and 1 <= int(text[:3]) <= LAST_NUMBER:
        return f"SIG{_NAMES[int(text) - 1]}"
    found = _FORMS.fullmatch(text)
    if found is None:
        return value
    name = found["name"]
    return f"SIG{_SAME.get(name, name)}"
