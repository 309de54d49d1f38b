"""Text that comes from elsewhere (data, logs, what a service has answered), as a terminal only shows it.

For every command of the project; it needs nothing but Python.
"""

from __future__ import annotations

import io
import json
import re
import sys

MOST = 2_000
"""Characters of one value that are shown at most."""


def printable(value: object, width: int = MOST) -> str:
    """Return a value's text in one line of at most `width` characters that no terminal obeys, hides or reorders.

    Line breaks, other control and format characters (escape sequences, text direction, zero width) and halves of
    surrogate pairs come as the escapes that Python has for them.
    """
    text = str(value)
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[: width + 1])
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def printable_lines(text: object) -> str:
    """Return a text as `printable` does, with its line breaks, and with tabs as spaces."""
    return "\n".join(printable(line.expandtabs(), sys.maxsize - 1) for line in str(text).split("\n"))


def harmless_json(text: str, encoding: str = "ascii") -> str:
    """Return a text of JSON with equal values, in which what a terminal would obey, or lacks, is a JSON escape."""
    text = text.replace("\r", "\n")  # it stands between values only
    return re.sub(r"[^\n\t -~]", lambda found: _json_escape(found[0], encoding), text)


def _json_escape(character: str, encoding: str) -> str:
    if character.isprintable():
        try:
            character.encode(encoding)
        except UnicodeEncodeError:
            pass
        else:
            return character
    return json.dumps(character)[1:-1] if character != "\x7f" else r"\u007f"


def accept_any_text() -> None:
    """Let standard output and error take any text: what their encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
