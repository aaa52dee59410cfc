"""Names of keys and of projects, for the command and for HTTP alike."""

import re

NAME_LENGTH = 200
PROJECT = r"[a-z0-9][a-z0-9._-]{0,62}"
_PROJECT = re.compile(PROJECT)


class BadName(ValueError):
    """A name that no key or project can have. The message names what is right."""


def read_name(text: str) -> str:
    """Return *text* as the name of a key. Raises `BadName`."""
    if not text.strip() or len(text) > NAME_LENGTH or not text.isprintable():
        raise BadName(f"name must have 1 to {NAME_LENGTH} printable characters, not only spaces")
    return text


def read_project(text: str) -> str:
    """Return *text* as the name of a project. Raises `BadName`."""
    if not _PROJECT.fullmatch(text):
        raise BadName(
            "project must begin with a lower-case letter or a digit and have only these, '.', '_' "
            "and '-', at most 63 characters, like 'data'"
        )
    return text
