"""Numeric parameters: declared so that API and trigger form refuse the same, and read so that 20.0 is 20."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

# NaN alone is within these bounds: no comparison with it is true, so none refuses it.
_NAN = {"type": "number", "minimum": 1, "maximum": 0}


def number_param(
    default: float | None, *, type: str | list[str], bounds: Mapping[str, float], **schema: Any
) -> Param:
    """
    Return a parameter that is a number within bounds.

    The trigger form replaces a number outside a schema's ``minimum`` or ``maximum`` by that bound, without a word,
    and text that is no number by 0 or the lower bound. It does not look below ``allOf``: there the API refuses the
    value, and the form shows why.

    :param default: the value where none is given.
    :param type: ``integer`` or ``number``, or a list of one of them and ``null``.
    :param bounds: JSON Schema's ``minimum``, ``exclusiveMinimum``, ``maximum`` or ``exclusiveMaximum``.
    :param schema: the rest of the schema, such as ``title`` and ``description_md``.
    """
    return Param(default, type=type, allOf=[dict(bounds), {"not": _NAN}], **schema)


def whole_numbers(params: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a run's parameters, each whole number as an ``int``.

    JSON Schema takes ``20.0`` and ``2e1`` for integers, which Python reads as floats. Templates use Jinja's filter
    ``int`` to the same end.

    :param params: ``params`` of the task's context.
    """
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in params.items()
    }
