"""Text for a terminal: what would command it, or hide and reorder what follows, is escaped."""

import re

# Control characters but for tab and line feed, and those that break lines or turn the reading
# direction: Unicode's Bidi_Control, https://www.unicode.org/reports/tr9/.
CONTROL = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_CONTROL = re.compile(CONTROL)


def escape(text: str) -> str:
    r"""Return *text* with each such character as `\x1b` or `\u202e`; line feeds and tabs stay."""
    return _CONTROL.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
