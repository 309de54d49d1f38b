"""How a SQL value becomes a JSON value: one table of rules, for the check of a source and for reading it.

A column, a value that SQLite stores and a value that a driver returns are each of a family; `JSON_TYPES` says
which JSON types a family becomes. Nothing is converted beyond that: no number becomes text and no text a number,
because what is sent is read as strictly (docs/data.md). What a database does is in :mod:`include.emulation.source`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import CompileError
from sqlalchemy.types import TypeEngine

SHOWN = 40
"""Characters of a value or of a type that a message repeats."""


class Family(StrEnum):
    """What a column or a value holds."""

    WHOLE = "whole numbers"
    BIT = "single bits"
    FRACTION = "numbers with a fraction"
    TEXT = "text"
    MOMENT = "moments"
    OTHER = "neither text, numbers nor moments"


JSON_TYPES: Mapping[Family, frozenset[type]] = {
    Family.WHOLE: frozenset({int, float}),
    Family.BIT: frozenset({int}),
    Family.FRACTION: frozenset({float}),
    Family.TEXT: frozenset({str}),
    Family.MOMENT: frozenset({str}),
    Family.OTHER: frozenset(),
}
"""The JSON types that the values of a family become."""

WANTED: Mapping[type, str] = {int: "a whole number", float: "a number", str: "text"}
"""The JSON types as messages call them."""

STORAGE: Mapping[str, Family] = {
    "integer": Family.WHOLE,
    "real": Family.FRACTION,
    "text": Family.TEXT,
    "blob": Family.OTHER,
}
"""What SQLite's `typeof` says of a value that is not null."""

# The first that applies: SQLAlchemy's Float is a Numeric, and MySQL's Enum and Set are strings.
_SQL_TYPES: tuple[tuple[type[TypeEngine[Any]], Family], ...] = (
    (types.Boolean, Family.WHOLE),
    (types.Integer, Family.WHOLE),
    (mysql.YEAR, Family.WHOLE),
    (types.Float, Family.FRACTION),
    (types.String, Family.TEXT),
    (types.Enum, Family.TEXT),
    (types.JSON, Family.TEXT),
    (types.Uuid, Family.TEXT),
    (types.DateTime, Family.MOMENT),
    (types.Date, Family.MOMENT),
)


class UnsuitableValue(ValueError):
    """The value has no form in the JSON type that its field has."""


def family_of_type(sql_type: TypeEngine[Any]) -> Family:
    """Return what the values of a column of this type are; `OTHER` for a type that is not known."""
    if isinstance(sql_type, mysql.BIT):
        return Family.BIT if sql_type.length in {None, 1} else Family.OTHER
    found = next((family for known, family in _SQL_TYPES if isinstance(sql_type, known)), Family.OTHER)
    if found is Family.OTHER and isinstance(sql_type, types.Numeric):
        return Family.FRACTION if sql_type.scale else Family.WHOLE
    return found


def type_name(sql_type: TypeEngine[Any], dialect: Dialect) -> str:
    """Return the type as the database writes it, shortened."""
    try:
        return sql_type.compile(dialect=dialect)[:SHOWN]
    except CompileError:
        return "of a type that is not known"


def json_value(value: Any, json_type: type) -> Any:
    """Return what a driver has returned as JSON says it: None, int, float or str.

    :param json_type: the field's JSON type: int, float or str
    :raises UnsuitableValue: it has no such form
    """
    if value is None:
        return None
    family = _family_of_value(value)
    if json_type not in JSON_TYPES[family]:
        raise UnsuitableValue(f"{value!r:.{SHOWN}}, and {WANTED[json_type]} is needed")
    return _AS_JSON[json_type](value)


def moment_of_text(text: str) -> datetime | str:
    """Return the moment that a text of SQLite, which has no type for moments, stands for; or the text itself."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if moment.tzinfo else moment


def _family_of_value(value: Any) -> Family:
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return Family.OTHER
    if isinstance(value, Decimal):
        return Family.FRACTION if int(value.as_tuple().exponent) < 0 else Family.WHOLE
    if isinstance(value, bytes):
        return Family.BIT if value in {b"\x00", b"\x01"} else Family.OTHER
    if isinstance(value, datetime) and value.tzinfo:
        # The zone would have to be dropped or the moment shifted, and neither is known to be right.
        return Family.OTHER
    return _PYTHON_TYPES.get(type(value), Family.OTHER)


_PYTHON_TYPES: Mapping[type, Family] = {
    int: Family.WHOLE,
    bool: Family.WHOLE,
    float: Family.FRACTION,
    str: Family.TEXT,
    datetime: Family.MOMENT,
    date: Family.MOMENT,
}


def _whole(value: Any) -> int:
    return value[0] if isinstance(value, bytes) else int(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return str(value.isoformat(sep=" ", timespec="seconds"))


_AS_JSON: Mapping[type, Callable[[Any], Any]] = {int: _whole, float: float, str: _text}
