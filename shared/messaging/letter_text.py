"""The text of a dead letter as it is shown: printable, and without what looks like a secret.

Events hold no secrets, but a letter may be anything that reached the queue.
"""

import re

from shared.log import mask

# Broken JSON may hold secrets all the same; valid JSON is redacted by its keys.
_JSON_SECRET = re.compile(
    r'("[^"]*(?:token|secret|password|authorization|_key|env_vars)s?"\s*:\s*)'
    r'("(?:[^"\\]|\\.)*"?|\{[^}]*\}?|[^\s,}]+)',
    re.IGNORECASE,
)


def plain(text: str) -> str:
    """Return *text* in one line of printable characters, without secrets.

    Characters that change the reading direction or hide what follows are escaped too.
    """
    masked = mask(_JSON_SECRET.sub(r'\1"***"', text))
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in masked
    )
