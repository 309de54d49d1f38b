"""Text that comes from elsewhere (data, what a service has answered), for logs, messages and pages."""

from __future__ import annotations

MOST = 2_000
"""Characters of one value that are shown at most."""


def printable(value: object, width: int = MOST) -> str:
    """
    Return a value's text in one line that nothing obeys, hides or reorders, and that UTF-8 has.

    Control and format characters (line breaks, escape sequences, text direction, zero width) and halves of surrogate
    pairs come as the escapes that Python has for them.
    """
    text = str(value)
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[: width + 1])
    return shown if len(shown) <= width else shown[: width - 1] + "…"
