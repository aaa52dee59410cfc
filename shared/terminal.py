"""Text for a terminal: what would command it, or hide and reorder what follows, is escaped.

Every line that a command of ours prints goes through `print_line`; log lines through `shared.log`.
"""

import re
import sys

# Control characters but for tab and line feed; those that break lines; marks that are invisible or
# turn the reading direction (Unicode's Bidi_Control, https://www.unicode.org/reports/tr9/); halves
# of surrogates, which no encoding has.
CONTROL = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)
_CONTROL = re.compile(CONTROL)


def escape(text: str) -> str:
    r"""Return *text* with each such character as `\x1b` or `\u202e`; line feeds and tabs stay."""
    return _CONTROL.sub(_escaped, text)


def print_line(text: str, *, error: bool = False) -> None:
    """Print *text*, escaped, at once: to standard output, or as an *error* to standard error."""
    print(escape(text), file=sys.stderr if error else sys.stdout, flush=True)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
