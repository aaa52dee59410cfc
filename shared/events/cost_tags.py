"""Cost tags: the labels that become tags of a job's instance, for the bill of the account.

The setting names them. Every rule here is the strictest of those that AWS documents for tags:

- at most 50 tags of a resource, and ours are among them
  (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions)
- a key has at most 127 characters
  (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Tag.html; the user guide says 128) and
  begins with no `aws:` in any case. Where an account shows instance tags in the metadata, a key has
  only letters, digits and `+ - = . , _ : @`, and is not `.`, `..` or `_index`
  (the user guide's "Work with instance tags in instance metadata").
- a value has at most 256 characters. EC2 allows any; across services they are letters, digits,
  spaces and `+ - = . _ : / @`.
"""

import re
import unicodedata

from shared.settings import PREFIX, BadSetting, Settings

SETTING = "EC2_COST_TAGS"
MOST_NAMES = 10
MOST_KEY = 127
MOST_VALUE = 256
_KEY = re.compile(r"[0-9A-Za-z+=._@-]+")
_RESERVED = frozenset({".", "..", "_index", "name"})
_VALUE_SIGNS = frozenset("+-=._:/@")
_VALUE_KINDS = frozenset("LN")

ALLOWED = "letters, digits, spaces and + - = . _ : / @"


def read_names(settings: Settings) -> tuple[str, ...]:
    """Read the names of the labels that become tags. Raises `BadSetting`."""
    names = tuple(dict.fromkeys((settings.text(SETTING) or "").replace(",", " ").split()))
    for name in names:
        trouble = trouble_with_name(name)
        if trouble is not None:
            raise BadSetting(f"{PREFIX}{SETTING} has {name[:200]!r}: {trouble}")
    if len(names) > MOST_NAMES:
        raise BadSetting(
            f"{PREFIX}{SETTING} has {len(names)} names: it must have at most {MOST_NAMES}"
        )
    return names


def trouble_with_name(name: str) -> str | None:
    """Return why no label of this name may become a tag; None: it may."""
    if ":" in name:
        return "it must be the name of a label, which has no colon, like team"
    if len(name) > MOST_KEY:
        return f"it must have at most {MOST_KEY} characters, as the key of a tag"
    if not _KEY.fullmatch(name):
        return "it must have only letters, digits and + - = . _ @, as the key of a tag"
    if name.lower() in _RESERVED:
        return "it must not be a reserved name: use another label, like team"
    return None


def trouble_with_value(value: str) -> str | None:
    """Return why this value of a label may not be the value of a tag; None: it may."""
    if len(value) > MOST_VALUE:
        return f"must have at most {MOST_VALUE} characters"
    if value.lower().startswith("aws:"):
        return "must not begin with aws:, which AWS reserves"
    wrong = next((each for each in value if not _is_allowed(each)), None)
    if wrong is not None:
        return f"must have only {ALLOWED}; it has {wrong!r}"
    return None


def fitting(tags: dict[str, str]) -> dict[str, str]:
    """Return those of *tags* that AWS accepts, at most as many as the setting may name."""
    fit = [
        (name, value)
        for name, value in sorted(tags.items())
        if trouble_with_name(name) is None and trouble_with_value(value) is None
    ]
    return dict(fit[:MOST_NAMES])


def _is_allowed(sign: str) -> bool:
    return (
        sign in _VALUE_SIGNS
        or unicodedata.category(sign)[0] in _VALUE_KINDS
        or unicodedata.category(sign) == "Zs"
    )
