"""Cleaning, against the plain-Python model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pinterest_lake.cleaning import PLACEHOLDERS
from pinterest_lake.schemas import RECORDS, STREAMS, TOPICS, Kind, clean_columns, columns_of
from tests.include.notebooks import model
from tests.include.notebooks.test_quality import model_says, spark_says

COUNTS = {
    "0": 0,
    "999": 999,
    "5k": 5_000,
    "5K": 5_000,
    "2M": 2_000_000,
    "2m": 2_000_000,
    "3B": 3_000_000_000,
    "5.2k": 5_200,
    "1.50k": 1_500,
    "0.001k": 1,
    "0.0001k": None,
    "1,234": 1_234,
    "1,234k": 1_234_000,
    "1,234.5k": 1_234_500,
    "12,345,678": 12_345_678,
    "007": 7,
    "2.0": 2,
    "2.000": 2,
    "0.0": 0,
    " 12k ": 12_000,
    "\u00a012\u2003": 12,
    "9223372036854775807": 2**63 - 1,
    "9223372036854775808": None,
    "9223372036.854775807B": 2**63 - 1,
    "9223372036.854775808B": None,
    "0" * 60 + "5": 5,
    "1" + "0" * 40: None,
    "1." + "0" * 40: 1,
    "1.5": None,
    "5 k": None,
    "+5": None,
    "-5": None,
    "5e3": None,
    ".5k": None,
    "5.k": None,
    "5.": None,
    "12,34": None,
    "1234,567": None,
    ",123": None,
    "1,234,": None,
    "1,234,56": None,
    "1.234,5": None,
    "k": None,
    "5kk": None,
    "5T": None,
    "\u0665": None,
    "\uff15": None,
    "5\u212a": None,
    "5\n6": None,
    "n/a": None,
}


def follower_counts(spark: SparkSession, texts: list[str | None]) -> list[tuple[Any, Any]]:
    lines = [json.dumps({"index": 1, "follower_count": text}).encode() for text in texts]
    assert spark_says(spark, "pin", lines) == model_says("pin", lines)
    rows = [row for _, row in spark_says(spark, "pin", lines)]
    return [(row["follower_count"], row["follower_count_unparsable"]) for row in rows]


def test_follower_counts(spark: SparkSession) -> None:
    found = dict(zip(COUNTS, follower_counts(spark, list(COUNTS)), strict=True))
    assert found == {text: (count, count is None) for text, count in COUNTS.items()}


def test_a_count_that_is_not_given_is_not_counted_as_unparsable(spark: SparkSession) -> None:
    assert follower_counts(spark, [None, "", " \u3000", " User Info Error "]) == [(None, False)] * 4


NUMBERS = st.one_of(
    st.from_regex(r"[0-9]{0,20}(,[0-9]{3}){0,3}(\.[0-9]{0,10})?[kKmMbB]?", fullmatch=True),
    st.from_regex(r"[0-9]{1,3}(,[0-9]{3}){0,6}(\.[0-9]{1,9})?[kKmMbB]", fullmatch=True),
    st.text(alphabet="0123456789,.kMBe+- \u0661\u00a0", max_size=12),
)


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(NUMBERS, min_size=200, max_size=300))
def test_any_count_is_read_as_the_model_reads_it(spark: SparkSession, texts: list[str]) -> None:
    follower_counts(spark, list(texts))


SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2000\u2007\u200a\u2028\u2029\u202f\u205f\u3000"
NO_SPACES = "\u200b\u200c\u200d\u2060\ufeff\u180e\u00ad\u0000\u0008\u007f"


@pytest.mark.parametrize("table", ["pin", "user"])
def test_text_is_trimmed_of_white_space_and_nothing_else(spark: SparkSession, table: str) -> None:
    names = [name for name, kind in RECORDS[table].fields.items() if kind is Kind.TEXT]
    key = RECORDS[table].key
    texts = [f"{space}a{space}b{space}" for space in SPACES + NO_SPACES] + [
        *SPACES,
        *NO_SPACES,
        "x ",
        "…\u00a0",
    ]
    lines = [json.dumps({key: 1, **dict.fromkeys(names, text)}).encode() for text in texts]
    assert spark_says(spark, table, lines) == model_says(table, lines)


def test_a_placeholder_is_null_in_its_own_column_alone(spark: SparkSession) -> None:
    names = [name for name, kind in RECORDS["pin"].fields.items() if kind is Kind.TEXT]
    placeholders = sorted({text for texts in PLACEHOLDERS.values() for text in texts})
    variants = [form for text in placeholders for form in (text, f" {text}\u00a0", text.lower(), text + ".")]
    lines = [json.dumps({"index": 1, **dict.fromkeys(names, text)}).encode() for text in variants]
    found = spark_says(spark, "pin", lines)
    assert found == model_says("pin", lines)
    untitled = found[variants.index("Untitled")][1]
    assert (untitled["title"], untitled["description"]) == ("Untitled", None)


def test_save_location_loses_its_prefix_alone(spark: SparkSession) -> None:
    texts = ["Local save in /data/art", " Local save in /data/a b\u00a0", "local save in /x", "/data/art"]
    texts += ["Local save in", "Local save in  ", "x Local save in /y", "Local save in Local save in /z"]
    lines = [json.dumps({"index": 1, "save_location": text}).encode() for text in texts]
    found = [row["save_location"] for _, row in spark_says(spark, "pin", lines)]
    assert found == [row["save_location"] for _, row in model_says("pin", lines)]
    assert found[:2] == ["/data/art", "/data/a b"]


@pytest.mark.parametrize("source", [TOPICS, STREAMS])
@pytest.mark.parametrize("table", ["pin", "geo", "user"])
def test_the_columns_of_the_contract_come_first(table: str, source: Any) -> None:
    contract = {
        "pin": "ind unique_id title description follower_count poster_name tag_list is_image_or_video image_src "
        "save_location category",
        "geo": "ind country coordinates timestamp",
        "user": "ind user_name age date_joined",
    }[table].split()
    assert clean_columns(table) == contract
    assert columns_of(table, source).names[: len(contract)] == contract


@example("12,345.600k")
@given(st.from_regex(r"[0-9]{1,3}(,[0-9]{3}){0,2}(\.[0-9]{1,4})?[kKmMbB]?", fullmatch=True))
def test_the_model_agrees_with_decimals(text: str) -> None:
    from decimal import Decimal

    scale = {"k": 10**3, "m": 10**6, "b": 10**9}.get(text[-1].lower(), 1)
    value = Decimal(text.rstrip("kKmMbB").replace(",", "")) * scale
    assert model.followers(text) == (int(value) if value == int(value) else None)
