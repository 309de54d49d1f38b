"""Numbers as a person gives them to a command, read strictly."""

from __future__ import annotations

import re

_MOST_DIGITS = 30


def whole_number(text: str) -> int:
    """Return the number that a text writes in decimal digits; one of more than 30 digits as 10 to the power of 30.

    int() takes other scripts' digits and underscores too, and refuses what has thousands of digits.

    :raises ValueError: it is written in another way.
    """
    if not (found := re.fullmatch(r" *(-?)0*([0-9]+) *", text)):
        raise ValueError("not a whole number")
    sign, digits = found.groups()
    return int(sign + digits) if len(digits) <= _MOST_DIGITS else int(f"{sign}1") * 10**_MOST_DIGITS
