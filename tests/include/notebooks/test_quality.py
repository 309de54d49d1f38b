"""Reading strictly: 0 differences between Spark and the plain-Python model, on lines made to be misread."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pinterest_lake.cleaning import clean
from pinterest_lake.quality import DEEPEST, classify
from pinterest_lake.schemas import RECORDS, Reason
from tests.include.notebooks import model

GOOD = {
    "pin": {"index": 1, "title": "T", "follower_count": "5k", "category": "art"},
    "geo": {
        "ind": 1,
        "timestamp": "2020-08-28 03:52:47",
        "latitude": 1.5,
        "longitude": -2.5,
        "country": "Peru",
    },
    "user": {"ind": 1, "first_name": "Ada", "age": 30, "date_joined": "2016-01-02T03:04:05"},
}


def geo(**changes: Any) -> bytes:
    """A geo record with some fields changed; ``...`` removes one."""
    record = {**GOOD["geo"], **changes}
    return json.dumps({name: value for name, value in record.items() if value is not ...}).encode()


def geo_as(name: str, literal: str) -> bytes:
    """A geo record in which a field has the given text as its value."""
    return geo(**{name: "@"}).replace(b'"@"', literal.encode())


GEO = geo().decode()
HOSTILE: dict[str, bytes | str] = {
    "good": GEO,
    "extra field": GEO[:-1] + ', "zzz": 5}',
    "extra nested": GEO[:-1] + ', "zzz": {"a": [1, {"b": null}]}}',
    "escaped key": GEO.replace('"ind"', '"\\u0069nd"'),
    "escaped letters": geo(country="Côte d’Ivoire 😀"),
    "raw letters": '{"ind": 1, "country": "Côte d’Ivoire 😀"}',
    "half pair": geo_as("country", '"\\ud83d"'),
    "half pair, low": geo_as("country", '"\\ude00"'),
    "half pair, high then letter": geo_as("country", '"\\ud83dx\\ude00"'),
    "two pairs": geo_as("country", '"\\ud83d\\ude00\\uD83D\\uDE00"'),
    "half after pair": geo_as("country", '"\\ud83d\\ude00\\ude00"'),
    "pair in half pair": geo_as("country", '"\\ud83d\\ud83d\\ude00\\ude00"'),
    "no escape of half a pair": geo_as("country", '"\\\\ud83d"'),
    "backslash, then half a pair": geo_as("country", '"\\\\\\ud83d"'),
    "backslash, then pair that is none": geo_as("country", '"\\\\ud83d\\ude00"'),
    "escaped backslash, then letters": geo_as("country", '"\\u005cud83d"'),
    "half pair in extra field": GEO[:-1] + ', "z": {"\\ud800": 1}}',
    "half pair in a text alone": '"\\ud800"',
    "half pair in what is no JSON": '{"ind": 1, "country": "\\ud83d"',
    "NUL": geo_as("country", '"a\\u0000b"'),
    "invalid bytes": geo().replace(b"Peru", b"Pe\xff\xfeu"),
    "overlong": geo().replace(b"Peru", b"\xc0\xaf"),
    "surrogate in bytes": geo().replace(b"Peru", b"\xed\xa0\xbd\xed\xb8\x80"),
    "beyond Unicode": geo().replace(b"Peru", b"\xf4\x90\x80\x80"),
    "cut within a letter": geo(country="é").replace(b"\\u00e9", b"\xc3"),
    "invalid bytes, blank": b" \xa0 ",
    "latin-1": "{'ind': 1, 'country': 'Côte'}".encode("latin-1"),
    "empty": "",
    "spaces": "   ",
    "tab and CR": "\t\r",
    "wide blanks": "\u00a0\u2003\u3000\u2028\x85\x1f",
    "zero width": "\u200b",
    "BOM": "\ufeff" + GEO,
    "BOM alone": "\ufeff",
    "UTF-16": GEO.encode("utf-16"),
    "leading spaces": " \t" + GEO,
    "leading no-break space": "\u00a0" + GEO,
    "leading form feed": "\f" + GEO,
    "CR at the end": GEO + "\r",
    "CR within": GEO.replace(", ", ",\r"),
    "CR in a text": geo_as("country", '"a\rb"'),
    "tab in a text": geo_as("country", '"a\tb"'),
    "DEL in a text": geo_as("country", '"a\x7fb"'),
    "line separator": geo_as("country", '"a\u2028b\x85c"'),
    "truncated": GEO[:-10],
    "no JSON": "hello",
    "single quotes": GEO.replace('"', "'"),
    "no quotes": '{ind: 1, country: "Peru"}',
    "trailing text": GEO + " xyz",
    "trailing comma": GEO[:-1] + ",}",
    "trailing brace": GEO + "}",
    "two values": GEO + GEO,
    "two values, comma": GEO + "," + GEO,
    "value and text": GEO + ',"x"',
    "closes an array": GEO + "],[" + GEO,
    "closes an array, opens none": GEO + "]",
    "comment": "/* c */" + GEO,
    "line comment": GEO + "// c",
    "hash comment": GEO + "# c",
    "missing colon": GEO.replace('"ind":', '"ind"'),
    "missing comma": GEO.replace(",", "", 1),
    "repeated key": '{"ind": 1, "ind": 1, "country": "Peru"}',
    "repeated through an escape": '{"ind": 1, "\\u0069nd": 2, "country": "Peru"}',
    "repeated unknown": GEO[:-1] + ', "z": 1, "z": 2}',
    "repeated deep": GEO[:-1] + ', "z": [{"a": 1, "a": 1}]}',
    "other case": GEO[:-1] + ', "IND": 2, "Country": 5}',
    "other case alone": GEO.replace('"ind"', '"IND"'),
    "bad escape": geo_as("country", '"\\x41"'),
    "short escape": geo_as("country", '"\\u12"'),
    "empty array": "[]",
    "array": f"[{GEO}]",
    "empty object": "{}",
    "number": "12",
    "text": '"hello"',
    "null": "null",
    "true": "true",
    "NaN alone": "NaN",
    "no ind": geo(ind=...),
    "null ind": geo(ind=None),
    "index for ind": geo(ind=..., index=5),
    "no ind, wrong type": geo(ind=..., country=5),
    "ind text": geo(ind="12"),
    "ind empty text": geo(ind=""),
    "ind 12.0": geo_as("ind", "12.0"),
    "ind 12.5": geo_as("ind", "12.5"),
    "ind 1e3": geo_as("ind", "1e3"),
    "ind true": geo(ind=True),
    "ind object": geo(ind={"a": 1}),
    "ind array": geo(ind=[1]),
    "ind -0": geo_as("ind", "-0"),
    "ind -7": geo(ind=-7),
    "ind 007": geo_as("ind", "007"),
    "ind +1": geo_as("ind", "+1"),
    "ind 0x1": geo_as("ind", "0x1"),
    "ind smallest": geo(ind=-(2**31)),
    "ind largest": geo(ind=2**31 - 1),
    "ind too large": geo(ind=2**31),
    "ind too small": geo(ind=-(2**31) - 1),
    "ind of 20 digits": geo(ind=10**19),
    "ind of 50 digits": geo(ind=10**49),
    "country number": geo(country=5),
    "country true": geo(country=True),
    "country object": geo(country={"a": 1}),
    "country array": geo(country=["Peru"]),
    "country null": geo(country=None),
    "country empty": geo(country=" "),
    "latitude text": geo(latitude="1.5"),
    "latitude NaN": geo_as("latitude", "NaN"),
    "latitude 'NaN'": geo(latitude="NaN"),
    "latitude Infinity": geo_as("latitude", "-Infinity"),
    "latitude whole": geo(latitude=5),
    "latitude -0.0": geo_as("latitude", "-0.0"),
    "latitude -0e0": geo_as("latitude", "-0e0"),
    "latitude 1e1": geo_as("latitude", "1e1"),
    "latitude 1E400": geo_as("latitude", "1E400"),
    "latitude of 40 digits": geo_as("latitude", "9" * 40),
    "latitude of 30 decimals": geo_as("latitude", "0." + "123456789" * 3),
    "latitude .5": geo_as("latitude", ".5"),
    "latitude 5.": geo_as("latitude", "5."),
    "latitude null": geo(latitude=None),
    "latitude true": geo(latitude=True),
    "latitude 90": geo(latitude=90),
    "latitude -90.0": geo(latitude=-90.0),
    "latitude 90.0000001": geo(latitude=90.0000001),
    "longitude 180": geo(longitude=180),
    "longitude -180.5": geo(longitude=-180.5),
    "out of range and bad timestamp": geo(longitude=181, timestamp="x"),
    "timestamp T": geo(timestamp="2020-08-28T03:52:47"),
    "timestamp t": geo(timestamp="2020-08-28t03:52:47"),
    "timestamp number": geo(timestamp=1598586767),
    "timestamp empty": geo(timestamp=""),
    "timestamp null": geo(timestamp=None),
    "timestamp date": geo(timestamp="2020-08-28"),
    "timestamp fraction": geo(timestamp="2020-08-28 03:52:47.0"),
    "timestamp Z": geo(timestamp="2020-08-28T03:52:47Z"),
    "timestamp zone": geo(timestamp="2020-08-28T03:52:47+01:00"),
    "timestamp spaces": geo(timestamp=" 2020-08-28 03:52:47"),
    "timestamp newline": geo(timestamp="2020-08-28 03:52:47\n"),
    "timestamp two spaces": geo(timestamp="2020-08-28  03:52:47"),
    "timestamp short": geo(timestamp="2020-8-28 3:52:47"),
    "timestamp other digits": geo(timestamp="2020-08-28 03:52:4٧"),
    "timestamp month 13": geo(timestamp="2020-13-01 00:00:00"),
    "timestamp Feb 30": geo(timestamp="2020-02-30 00:00:00"),
    "timestamp Feb 29": geo(timestamp="2020-02-29 00:00:00"),
    "timestamp Feb 29, common year": geo(timestamp="2021-02-29 00:00:00"),
    "timestamp 24:00": geo(timestamp="2020-02-20 24:00:00"),
    "timestamp leap second": geo(timestamp="2016-12-31 23:59:60"),
    "timestamp year 0": geo(timestamp="0000-01-01 00:00:00"),
    "timestamp year 1": geo(timestamp="0001-01-01 00:00:00"),
    "timestamp year 9999": geo(timestamp="9999-12-31 23:59:59"),
    "timestamp in a summer-time gap": geo(timestamp="2021-03-28 02:30:00"),
    "only ind": '{"ind": 1}',
    "only ind, unknown": '{"ind": 1, "age": 30, "index": 1}',
    "ind and a null": '{"ind": 1, "country": null}',
    "all null": '{"ind": 1, "timestamp": null, "latitude": null, "longitude": null, "country": null}',
    "a pin": json.dumps(GOOD["pin"]),
    "a user": json.dumps(GOOD["user"]),
    "large": geo(country="P" * 1_000_000),
    "nested as deep as is read": GEO[:-1] + f', "z": {"[" * (DEEPEST - 1)}{"]" * (DEEPEST - 1)}}}',
    "many brackets, not deep": GEO[:-1] + f', "z": [{"[],{}," * 2000}0]}}',
    "many brackets in a text": geo(country="[{" * 5000),
}
PINS: dict[str, bytes | str] = {
    "downloaded text": '{"index": 1, "downloaded": "1"}',
    "downloaded true": '{"index": 1, "downloaded": true}',
    "downloaded alone": '{"index": 1, "downloaded": 1}',
    "ind for index": '{"ind": 1, "title": "T"}',
    "both": '{"ind": 2, "index": 1, "title": "T"}',
    "count a number": '{"index": 1, "follower_count": 5}',
    "title a number": '{"index": 1, "title": 123}',
    "only index": '{"index": 1, "latitude": 3}',
}
USERS: dict[str, bytes | str] = {
    "age text": '{"ind": 1, "age": "30"}',
    "age 30.0": '{"ind": 1, "age": 30.0}',
    "age too large": '{"ind": 1, "age": 3000000000}',
    "age negative": '{"ind": 1, "age": -3}',
    "joined date": '{"ind": 1, "date_joined": "2016-01-02"}',
    "one name": '{"ind": 1, "last_name": " Ada\\u00a0"}',
    "blank names": '{"ind": 1, "first_name": " ", "last_name": "\\t"}',
    "a geo": GEO,
}


def spark_says(spark: SparkSession, table: str, lines: list[bytes]) -> list[tuple[str | None, Any]]:
    """The reason and the clean row of each line."""
    numbered = spark.createDataFrame(list(enumerate(map(bytearray, lines))), "n int, raw binary").coalesce(1)
    found = clean(classify(numbered, RECORDS[table]), table).orderBy("n")
    # as texts: Python cannot hold every moment that Spark can
    moments = {name: F.col(name).cast("string") for name, kind in found.dtypes if kind == "timestamp"}
    rows = found.withColumns(moments).collect()
    return [
        (row["reason"], None if row["reason"] else _fields(row.asDict(), ("n", "raw", "reason")))
        for row in rows
    ]


def model_says(table: str, lines: list[bytes]) -> list[tuple[str | None, Any]]:
    reasons = [model.reason(table, line) for line in lines]
    return [
        (why, None if why else _as_texts(model.row(table, line)))
        for why, line in zip(reasons, lines, strict=True)
    ]


def _as_texts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, dt.datetime) else value for name, value in row.items()}


def _fields(row: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in without}


@pytest.mark.parametrize(("table", "cases"), [("geo", HOSTILE), ("pin", PINS), ("user", USERS)])
def test_hostile_lines(spark: SparkSession, table: str, cases: dict[str, bytes | str]) -> None:
    lines = [line if isinstance(line, bytes) else line.encode() for line in cases.values()]
    found = dict(zip(cases, spark_says(spark, table, lines), strict=True))
    expected = dict(zip(cases, model_says(table, lines), strict=True))
    assert found == expected


def test_zero_has_no_sign(spark: SparkSession) -> None:
    """As numbers, 0.0 and -0.0 are equal: only as text do they differ."""
    lines = [geo_as("latitude", zero) for zero in ("0", "-0", "0.0", "-0.0", "-0e0", "-1e-400")]
    rows = [row for _, row in spark_says(spark, "geo", lines)]
    assert [str(row["coordinates"]) for row in rows] == ["[0.0, -2.5]"] * len(lines)


def test_every_reason_is_among_the_hostile_lines() -> None:
    lines = [line if isinstance(line, bytes) else line.encode() for line in HOSTILE.values()]
    held_before = {Reason.NULL_VALUE, Reason.LINE_BREAK}  # by the sink: no line of an object can be these
    assert {model.reason("geo", line) for line in lines} == {None, *map(str, set(Reason) - held_before)}


def test_what_is_no_line_is_held_whatever_it_says(spark: SparkSession) -> None:
    values = [None, b"\n", geo() + b"\n", geo().replace(b", ", b",\n"), b"\xff\n", geo()]
    raw = spark.createDataFrame([(n, value) for n, value in enumerate(values)], "n int, raw binary")
    found = [row["reason"] for row in classify(raw, RECORDS["geo"]).orderBy("n").collect()]
    assert found == ["null_value", *["line_break"] * 4, None]
    assert found == [model.reason("geo", value) for value in values]
    of_a_stream = classify(raw, RECORDS["geo"], one_line=False).orderBy("n").collect()
    assert [row["reason"] for row in of_a_stream] == ["null_value", "blank", None, None, "not_utf8", None]


def test_what_nests_too_deep_is_not_json_and_ends_nothing(spark: SparkSession) -> None:
    deep = [b'{"ind": 1, "country": ' + b"[" * n + b"]" * n + b"}" for n in (DEEPEST, 1_000, 100_000)]
    unended = [b"[" * 2 * DEEPEST, b'{"ind":' * (2 * DEEPEST // 7), b"[" * 100_000]
    assert [why for why, _ in spark_says(spark, "geo", deep + unended)] == ["not_json"] * 6


LITERALS = st.one_of(
    st.sampled_from(["1", "-1", "0", "1.0", "1e2", "2147483648", "91", "180.5", "1e400"]),
    st.sampled_from(["NaN", "null", "true", "[]", "{}"]),
    st.sampled_from(['""', '" "', '"x"', '"5k"', '"\\ud83d"', '"\\ud83d\\ude00"', '"\\u0000"', '"Untitled"']),
    st.sampled_from(['"2020-08-28 03:52:47"', '"2020-08-28T03:52:47"', '"2020-02-30 00:00:00"']),
    st.sampled_from(['"\\u2003a\\u200b"', '"é😀"', '"a\tb"']),
)
NAMES = st.sampled_from([
    *model.PIN,
    *model.GEO,
    *model.USER,
    "IND",
    "\\u0069nd",
    "\\u0069ndex",
    "other",
    "\\ud83d",
])
SEPARATORS = st.sampled_from([", ", ",", ",\r", " ,\t"] * 5 + ["", ",,", ";"])
TAILS = st.sampled_from(["", "", "", "", " ", "\r", "}", ",", ',"x"', "]", "],[", "\ufeff", "\x00", "//"])


@st.composite
def near_records(draw: st.DrawFn) -> bytes:
    """A line that is a record, or nearly one."""
    key = draw(st.sampled_from(['"ind": 5', '"index": 5', '"ind": "5"', '"other": 1', '"index": null']))
    members = [f'"{draw(NAMES)}": {draw(LITERALS)}' for _ in range(draw(st.integers(0, 5)))]
    line = ("{" + draw(SEPARATORS).join([key, *members]) + "}" + draw(TAILS)).encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(line) - 1))
        line = line[:at] + bytes([draw(st.integers(0, 255).filter(lambda byte: byte != 10))]) + line[at + 1 :]
    return line


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(lines=st.lists(near_records(), min_size=150, max_size=250))
def test_generated_lines(spark: SparkSession, lines: list[bytes]) -> None:
    for table in model.FIELDS:
        found, expected = spark_says(spark, table, lines), model_says(table, lines)
        assert [pair for pair in zip(lines, found, expected, strict=True) if pair[1] != pair[2]] == []
