"""What a person gives to a command, read strictly: what cannot be meant is refused in a sentence that says what can."""

from __future__ import annotations

import json
import math
from typing import Any

from include.emulation import parameters
from include.emulation.terminal import printable
from local.stack.errors import StackError

SHOWN = 40
"""Characters of a refused value that are repeated."""
EXAMPLE = "for example CONF='{\"posts\": 100}'"


def whole_number(name: str, text: str, least: int, most: int) -> int:
    """Return the number that is written in decimal digits.

    :raises StackError: it is written in another way, or is out of bounds.
    """
    given = f"{name}={printable(text, SHOWN)}"
    try:
        number = parameters.whole_number(text)
    except ValueError:
        raise StackError(
            f"{given} is not a whole number. {name} is one from {least:,} to {most:,}."
        ) from None
    if number < least:
        raise StackError(f"{given}: at least {least:,} is needed.")
    if number > most:
        raise StackError(f"{given}: at most {most:,} is possible.")
    return number


def conf_of(text: str) -> dict[str, Any]:
    """Return the parameters of a DAG run that a text of JSON holds; none for an empty text.

    :raises StackError: it is not one JSON object that every reader of JSON takes for the same.
    """
    try:
        conf = json.loads(
            text.strip(" \t\r\n") or "{}",
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repetition,
        )
        json.dumps(conf)  # it is sent as well as read
    except json.JSONDecodeError as error:
        raise StackError(f"CONF is not JSON: {error}") from None
    except RecursionError:
        raise StackError(f"CONF is nested too deeply. It is a JSON object, {EXAMPLE}") from None
    except ValueError:  # int() has a limit
        raise StackError(
            "CONF is not JSON that can be sent: a number in it has thousands of digits."
        ) from None
    if not isinstance(conf, dict):
        raise StackError(f"CONF must be a JSON object, {EXAMPLE}")
    return conf


def _refuse_constant(name: str) -> None:
    raise StackError(f"CONF is not JSON: {name} is no number that JSON has.")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise StackError(f"CONF holds a number that is too large: {printable(text, SHOWN)}")
    return number


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise StackError(f"CONF names {printable(repr(name), SHOWN)} more than once.")
        read[name] = value
    return read
