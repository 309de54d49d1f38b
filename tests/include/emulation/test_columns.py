"""The one table of rules: which SQL types and values become which JSON types."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import types
from sqlalchemy.dialects import mysql, sqlite

from include.emulation.columns import JSON_TYPES, UnsuitableValue, family_of_type, json_value, type_name


@pytest.mark.parametrize(
    ("value", "json_type", "expected"),
    [
        (datetime(2020, 8, 28, 3, 52, 47, 900_000), str, "2020-08-28 03:52:47"),
        (date(2016, 1, 2), str, "2016-01-02 00:00:00"),
        ("0000-00-00", str, "0000-00-00"),  # what pymysql makes of a zero date: the lake says bad_timestamp
        ("  as stored ", str, "  as stored "),
        (Decimal("12"), int, 12),
        (Decimal("12"), float, 12.0),
        (Decimal("12.50"), float, 12.5),
        (7, int, 7),
        (7, float, 7.0),
        (2**64 - 1, int, 2**64 - 1),
        (-1.25, float, -1.25),
        (True, int, 1),
        (b"\x00", int, 0),
        (b"\x01", int, 1),
        (None, int, None),
        (None, float, None),
        (None, str, None),
    ],
)
def test_values_as_json_says_them(value: Any, json_type: type, expected: Any) -> None:
    assert json.dumps(json_value(value, json_type)) == json.dumps(expected)


@pytest.mark.parametrize(
    ("value", "json_type"),
    [
        ("12", int),
        ("12.5", float),
        (12, str),
        (12.0, int),
        (12.0, str),
        (Decimal("12.0"), int),
        (Decimal("NaN"), float),
        (float("nan"), float),
        (float("inf"), float),
        (b"bytes", str),
        (b"\x02", int),
        (b"\x01", str),
        (b"\x01", float),
        (datetime(2020, 1, 1), int),
        (datetime(2020, 1, 1, tzinfo=UTC), str),
        (timedelta(hours=1), str),
        ({"a": 1}, str),
        (object(), str),
    ],
)
def test_values_that_json_cannot_say(value: Any, json_type: type) -> None:
    with pytest.raises(UnsuitableValue, match="is needed"):
        json_value(value, json_type)


@pytest.mark.parametrize(
    ("sql_type", "accepted"),
    [
        (mysql.INTEGER(), {int, float}),
        (mysql.BIGINT(unsigned=True), {int, float}),
        (mysql.TINYINT(display_width=1), {int, float}),
        (types.Boolean(), {int, float}),
        (mysql.YEAR(), {int, float}),
        (mysql.DECIMAL(10, 0), {int, float}),
        (mysql.DECIMAL(10, 2), {float}),
        (mysql.FLOAT(), {float}),
        (mysql.DOUBLE(), {float}),
        (mysql.BIT(1), {int}),
        (mysql.BIT(8), set()),
        (mysql.VARCHAR(10), {str}),
        (mysql.LONGTEXT(), {str}),
        (mysql.ENUM("a", "b"), {str}),
        (mysql.SET("a", "b"), {str}),
        (mysql.JSON(), {str}),
        (types.Uuid(), {str}),
        (mysql.DATETIME(fsp=6), {str}),
        (mysql.TIMESTAMP(), {str}),
        (types.DATE(), {str}),
        (mysql.TIME(), set()),
        (mysql.LONGBLOB(), set()),
        (types.BINARY(16), set()),
        (types.NullType(), set()),
    ],
)
def test_what_a_column_becomes(sql_type: Any, accepted: set[type]) -> None:
    assert JSON_TYPES[family_of_type(sql_type)] == accepted


def test_types_are_named_as_the_database_names_them() -> None:
    assert type_name(mysql.DECIMAL(10, 2), mysql.dialect()) == "DECIMAL(10, 2)"
    assert type_name(types.NullType(), sqlite.dialect()) == "of a type that is not known"
