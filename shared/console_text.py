"""The text that an instance has printed on its console: whoever runs there can print anything."""

OUR_LINES = "docker-job: "
"""What the lines of user data and agent begin with."""

NOTE = "[the console cannot be read: "
"""What is kept instead of a console that cannot be read begins with this."""


def is_console(text: str | None) -> bool:
    """Return whether *text* is a console: something, and no note."""
    return bool(text) and not str(text).startswith(NOTE)


def readable(text: str) -> str:
    """Return *text* without control characters; Postgres, for one, takes no NUL."""
    return "".join(each for each in text if each.isprintable() or each in "\n\t")
