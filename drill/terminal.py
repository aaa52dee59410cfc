"""The drill's output. What a job, its container or the engine says is no command to a terminal."""

import sys


def print_line(text: str, *, error: bool = False) -> None:
    """Print lines at once, also into a pipe, with all but printable characters escaped."""
    shown = "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )
    print(shown, file=sys.stderr if error else sys.stdout, flush=True)
