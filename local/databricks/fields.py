"""What the fields of a request may be: read from a request, or checked inside an object that is kept as it came.

Whatever is checked here can be stored, run and shown later. Databricks answers a value of the wrong type with
MALFORMED_REQUEST, and one of the right type that makes no sense with INVALID_PARAMETER_VALUE.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from local.databricks.errors import ApiError

Values = Mapping[str, Any]
Check = Callable[[Any, str], None]

LARGEST_NUMBER = 2**63 - 1
LONGEST_SECONDS = 2**31 - 1
DEEPEST = 100
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def parse(body: bytes) -> dict[str, Any]:
    """Read the JSON object of a request.

    :raises ApiError: MALFORMED_REQUEST, for what no answer could repeat too: NaN, half a surrogate pair, deep nesting.
    """
    try:
        sent = json.loads(body, parse_constant=_no_constant)
        if _depth(sent) > DEEPEST:
            raise ValueError("nested too deep")
        if _HALF_A_PAIR.search(json.dumps(sent, ensure_ascii=False)):
            raise ValueError("half a surrogate pair")
    except (ValueError, RecursionError):
        raise ApiError("MALFORMED_REQUEST", "Invalid JSON given in the body of the request.") from None
    if not isinstance(sent, dict):
        raise ApiError("MALFORMED_REQUEST", "Invalid JSON given in the body of the request - expected a map.")
    return sent


def string(values: Values, name: str) -> str:
    """A text that must be there and must not be empty."""
    value = values.get(name)
    if value is None or value == "":
        raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    text(value, name)
    return str(value)


def optional_string(values: Values, name: str) -> str | None:
    """A text, or None where there is none."""
    return string(values, name) if values.get(name) not in (None, "") else None


def number(values: Values, name: str) -> int:
    """A whole number of 64 bits that must be there, as JSON or as text."""
    value = values.get(name)
    if value is None or value == "":
        raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    return _whole(value, name)


def mapping(values: Values, name: str) -> dict[str, Any]:
    """An object that must be there."""
    value = values.get(name)
    if value is None:
        raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    if not isinstance(value, dict):
        raise _malformed(name, "an object")
    return value


def flag(values: Values, name: str) -> bool:
    """A switch, as JSON or as text; off where it is not there."""
    value = values.get(name)
    if value is None or value == "":
        return False
    boolean(value, name)
    return str(value).lower() == "true"


# -- checks of what is kept


def text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise _malformed(where, "a string")


def scalar(value: Any, where: str) -> None:
    if not isinstance(value, str | int | float):
        raise _malformed(where, "a string")


def boolean(value: Any, where: str) -> None:
    if str(value).lower() not in {"true", "false"}:
        raise _malformed(where, "true or false")


def whole(least: int, most: int) -> Check:
    def check(value: Any, where: str) -> None:
        if not least <= _whole(value, where) <= most:
            raise ApiError("INVALID_PARAMETER_VALUE", f"{where} must be from {least} to {most}.")

    return check


def one_of(*known: str) -> Check:
    def check(value: Any, where: str) -> None:
        text(value, where)
        if value not in known:
            raise ApiError("INVALID_PARAMETER_VALUE", f"{where} must be one of {', '.join(known)}.")

    return check


def list_of(item: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _malformed(where, "a list")
        for index, each in enumerate(value):
            item(each, f"{where}[{index}]")

    return check


def map_of(item: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _malformed(where, "an object")
        for name, each in value.items():
            item(each, f"{where}.{name}")

    return check


def record(*required: str, **known: Check) -> Check:
    """An object: fields that must be there, and checks of those that are known; others may be anything."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _malformed(where or "the request", "an object")
        prefix = f"{where}." if where else ""
        for name in required:
            if value.get(name) in (None, ""):
                raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {prefix}{name}")
        for name, item in known.items():
            if value.get(name) is not None:
                item(value[name], f"{prefix}{name}")

    return check


def anything(value: Any, where: str) -> None:
    """What is only carried along."""


def _whole(value: Any, where: str) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ApiError("INVALID_PARAMETER_VALUE", f"{where} must be a whole number.")
    found = int(value)
    if not -LARGEST_NUMBER - 1 <= found <= LARGEST_NUMBER:
        raise ApiError("INVALID_PARAMETER_VALUE", f"{where} must be a whole number of 64 bits.")
    return found


def _malformed(where: str, expected: str) -> ApiError:
    return ApiError("MALFORMED_REQUEST", f"Could not parse request object: {where[:200]} must be {expected}.")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    """How deep lists and objects lie in each other, without recursion."""
    deepest, left = 0, [(value, 0)]
    while left:
        node, depth = left.pop()
        deepest = max(deepest, depth)
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        left += [(each, depth + 1) for each in inner]
    return deepest
