"""How a message repeats a setting without the credentials that may be written into it."""

from __future__ import annotations

import re


def quoted(value: str) -> str:
    """Return a value as a message may show it: what may hold credentials is not repeated."""
    beyond_scheme = re.sub(r"^[a-z0-9]+:(?=/)", "", value)
    return (
        "what may hold credentials and is not repeated" if re.search("[@:?]", beyond_scheme) else repr(value)
    )
