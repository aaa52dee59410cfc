"""The text that an instance has printed on its console: whoever runs there can print anything."""

OUR_LINES = "docker-job: "
"""What the lines of user data and agent begin with."""


def readable(text: str) -> str:
    """Return *text* without control characters; Postgres, for one, takes no NUL."""
    return "".join(each for each in text if each.isprintable() or each in "\n\t")
