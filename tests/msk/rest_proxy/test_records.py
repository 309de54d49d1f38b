"""What the proxy takes for records, byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msk.rest_proxy.records import NotJsonError, NotRecordsError, Record, parse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def body(value: bytes, key: bytes = b"1") -> bytes:
    return b'{"records": [ {"key": ' + key + b', "value": ' + value + b" } ]}"


@pytest.mark.parametrize(
    "value",
    [
        b'{"b": 1,  "a" :2}',
        b'{"a": 1, "a": 2}',
        b'"\\u00e9\\/\\ud83d\\ude00"',
        "\"é😀\u2028\"".encode(),
        b"123456789012345678901234567890",
        b"1e999",
        b"-0.0",
        b"[]",
        b'"null"',
        b'{"carriage":\r1}',
    ],
)  # fmt: skip
def test_a_values_bytes_are_kept(value: bytes) -> None:
    assert parse(body(value)) == [Record(b"1", value, None)]


@given(st.lists(st.tuples(json_values, json_values), min_size=1, max_size=4), st.booleans())
def test_any_value_keeps_its_bytes(pairs: list[tuple[object, object]], ascii_only: bool) -> None:
    def encoded(value: object) -> bytes:
        return json.dumps(value, ensure_ascii=ascii_only).encode()

    wire = b",".join(b'{"value":' + encoded(value) + b',"key":' + encoded(key) + b"}" for key, value in pairs)
    records = parse(b'{"records":[' + wire + b"]}")
    assert [record.value for record in records] == [None if v is None else encoded(v) for _, v in pairs]
    assert [record.key for record in records] == [None if k is None else encoded(k) for k, _ in pairs]


def test_a_value_over_several_lines_becomes_one_line() -> None:
    value = b'{\r\n  "text": "a\\nb",\n\n  "list": [1,\n 2]\n}'
    (record,) = parse(body(value))
    assert record.value == b'{  "text": "a\\nb",  "list": [1, 2]}'


def test_half_a_surrogate_pair_travels_as_it_was_written() -> None:
    value = rb'{"half": "\ud83d", "low": "\uDE00x", "pair": "\ud83d\ude00", "text": "\\ud83d\"", "two": "\ud8ff\ud8ff"}'
    assert parse(body(value) + b"\n") == [Record(b"1", value, None)]


@given(st.text(alphabet='\\ud83eDEC0"nx', max_size=30))
def test_whatever_the_escapes_a_value_is_refused_or_kept(text: str) -> None:
    value = f'"{text}"'.encode()
    try:
        json.loads(value)
    except ValueError:
        with pytest.raises(NotJsonError):
            parse(body(value))
    else:
        assert parse(body(value)) == [Record(b"1", value, None)]


def test_null_is_a_tombstone_and_key_and_partition_may_be_left_out() -> None:
    text = b'{"records":[{"value":null,"key":"k"},{"value":1},{"value":2,"key":null,"partition":2,"more":0}]}'
    assert parse(text) == [Record(b'"k"', None, None), Record(None, b"1", None), Record(None, b"2", 2)]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"records",
        body(b"NaN"),
        body(b"{'a': 1}"),
        body(b'{"a": 1}}'),
        body(b'"bare\nbreak"'),
        body(b'"\xff"'),
        body(b"[" * 100_000 + b"]" * 100_000),
        b'\xef\xbb\xbf{"records": [{"value": 1}]}',
        b'{"records": [{"value": 1}]} {}',
        b"[1",
    ],
)
def test_what_is_not_json_is_told_so(text: bytes) -> None:
    with pytest.raises(NotJsonError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b'{"index": 1}', "missing required field `records`"),
        (b'{"records": {}}', "$.records"),
        (b'{"records": []}', "records is empty"),
        (b'{"records": [{"value": 1}, 5]}', "$.records[1]"),
        (b'{"records": [{"key": 1}]}', "missing required field `value`"),
        (b'{"records": [{"value": 1, "partition": -1}]}', "$.records[0].partition"),
        (b'{"records": [{"value": 1, "partition": "0"}]}', "$.records[0].partition"),
    ],
)
def test_json_without_records_names_the_place(text: bytes, place: str) -> None:
    with pytest.raises(NotRecordsError) as error:
        parse(text)
    assert place in str(error.value)
