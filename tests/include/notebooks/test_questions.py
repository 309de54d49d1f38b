"""The eight questions, against the plain-Python model, on posts made to tie, to lack records and to be odd."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from pinterest_lake import questions
from pinterest_lake.answers import ANSWERS
from pinterest_lake.cleaning import clean
from pinterest_lake.quality import classify
from pinterest_lake.schemas import RECORDS, TABLES, TOPICS, clean_columns, columns_of
from tests.include.notebooks import model

Rows = dict[str, list[model.Row]]


def asked(spark: SparkSession, clean: Rows) -> dict[str, list[model.Row]]:
    """What Spark answers."""
    frames = {}
    for table, rows in clean.items():
        schema = columns_of(table, TOPICS)[: len(clean_columns(table))]
        values = [tuple(row[name] for name in schema.names) for row in rows]
        frames[table] = spark.createDataFrame(values, schema)
    posts = questions.posts(frames["pin"], frames["geo"], frames["user"]).persist()
    try:
        return {
            name: [row.asDict() for row in function(frames["user"] if name == "q6" else posts).collect()]
            for name, (_, function) in ANSWERS.items()
        }
    finally:
        posts.unpersist()


def pin(
    ind: int, category: str | None = "art", poster: str | None = "P", followers: int | None = 1
) -> model.Row:
    row: model.Row = dict.fromkeys(clean_columns("pin"))
    return {**row, "ind": ind, "category": category, "poster_name": poster, "follower_count": followers}


def geo(ind: int, country: str | None = "Peru", year: int | None = 2020) -> model.Row:
    moment = None if year is None else dt.datetime(year, 1, 1)
    return {"ind": ind, "country": country, "coordinates": None, "timestamp": moment}


def user(ind: int, name: str | None = "Ada", age: int | None = 30, year: int | None = 2016) -> model.Row:
    moment = None if year is None else dt.datetime(year, 12, 31, 23, 59, 59)
    return {"ind": ind, "user_name": name, "age": age, "date_joined": moment}


def made(seed: int, posts: int) -> Rows:
    """Posts of few categories, countries and counts, so that nearly everything ties."""
    pick = random.Random(seed)
    names = [None, "art", "Art", "zoo", "é", "\U0001f600", "\uffee", "+", ""]
    counts = [None, 0, 1, 2, 3, 5_000, 2**53 + 1, 2**53 + 2, 2**62 + 3, 2**63 - 1, 2**63 - 2]
    ages = [None, -1, 0, 17, 18, 24, 25, 35, 36, 50, 51, 200]
    years = [None, 1, 2014, 2015, 2016, 2017, 2018, 2020, 2021, 2022, 2023, 9999]
    numbers = range(posts)
    return {
        "pin": [
            pin(n, pick.choice(names), pick.choice(names), pick.choice(counts)) for n in numbers if n % 7
        ],
        "geo": [geo(n, pick.choice(names), pick.choice(years)) for n in numbers if n % 5],
        "user": [
            user(n, pick.choice(names), pick.choice(ages), pick.choice(years)) for n in numbers if n % 3
        ],
    }


@pytest.mark.parametrize(("seed", "posts"), [(1, 60), (2, 700), (3, 0)])
def test_answers(spark: SparkSession, seed: int, posts: int) -> None:
    clean = made(seed, posts)
    assert asked(spark, clean) == model.answers(clean["pin"], clean["geo"], clean["user"])


def test_the_rules_by_hand(spark: SparkSession) -> None:
    """Small enough to be worked out on paper, so that model and notebooks are not wrong together."""
    clean = {
        "pin": [
            pin(1, "art", "P", 10),
            pin(2, "zoo", "P", 40),
            pin(3, "art", "Q", 40),
            pin(4, "zoo", None, 99),
            pin(5, "art", "R", None),
            pin(6, "art", "S", 7),  # neither geo nor user ever came
            pin(7, None, "T", 3),
        ],
        "geo": [
            *(geo(n, "Peru", 2018) for n in (1, 2)),
            geo(3, "Chad", 2022),
            geo(4, "Peru", 2017),
            geo(5, "Chad", 2022),
            geo(7, "Fiji", None),
        ],
        "user": [
            user(1, "Ada", 50, 2015),
            user(2, "Ada", 50, 2015),  # the same user again
            user(3, "Ada", 51, 2020),
            user(4, "Ada", None, 2020),  # of unknown age, and a user all the same
            user(7, None, 17, 2021),
        ],
    }
    answers = asked(spark, clean)
    assert answers["q1"] == [
        {"country": "Chad", "category": "art", "category_count": 2},
        {"country": "Peru", "category": "zoo", "category_count": 2},
    ]
    assert answers["q2_winners"] == [
        {"post_year": 2018, "category": "art", "category_count": 1},
        {"post_year": 2018, "category": "zoo", "category_count": 1},
        {"post_year": 2022, "category": "art", "category_count": 2},
    ]
    assert answers["q3_per_country"] == [
        {"country": "Chad", "poster_name": "Q", "follower_count": 40},
        {"country": "Fiji", "poster_name": "T", "follower_count": 3},
        {"country": "Peru", "poster_name": "P", "follower_count": 40},
    ]
    assert answers["q3_top_country"] == [
        {"country": "Chad", "follower_count": 40},
        {"country": "Peru", "follower_count": 40},
    ]
    assert answers["q4"] == [
        {"age_group": "+50", "category": "art", "category_count": 1},
        {"age_group": "36-50", "category": "art", "category_count": 1},
        {"age_group": "36-50", "category": "zoo", "category_count": 1},
    ]
    assert answers["q5"] == [
        {"age_group": "+50", "median_follower_count": 40.0},
        {"age_group": "36-50", "median_follower_count": 25.0},
    ]
    assert answers["q6"] == [
        {"year_joined": 2015, "number_users_joined": 1},
        {"year_joined": 2020, "number_users_joined": 2},
    ]
    assert answers["q7"] == [
        {"year_joined": 2015, "median_follower_count": 25.0},
        {"year_joined": 2020, "median_follower_count": 69.5},
    ]
    assert answers["q8"] == [
        {"age_group": "+50", "year_joined": 2020, "median_follower_count": 40.0},
        {"age_group": "36-50", "year_joined": 2015, "median_follower_count": 25.0},
    ]


@pytest.mark.skipif("PINTEREST_REAL_DATA" not in os.environ, reason="PINTEREST_REAL_DATA names no folder")
def test_real_posts(spark: SparkSession) -> None:
    """Real posts (real_pin.jsonl.gz …): none is held back, and rows and answers are the model's."""
    found: Rows = {}
    for table in TABLES:
        path = Path(os.environ["PINTEREST_REAL_DATA"]) / f"real_{table}.jsonl.gz"
        lines = gzip.decompress(path.read_bytes()).removesuffix(b"\n").split(b"\n")
        raw = spark.createDataFrame([(bytearray(line),) for line in lines], "raw binary")
        records = clean(classify(raw, RECORDS[table]), table).collect()
        assert [row for row in records if row["reason"]] == []
        found[table] = [{**row.asDict()} for row in records]
        expected = [model.row(table, line) for line in lines]
        assert [_without(row, "raw", "reason") for row in found[table]] == expected
        assert len({row["ind"] for row in expected}) == len(lines)
    answers = asked(spark, found)
    assert answers == model.answers(found["pin"], found["geo"], found["user"])
    assert json.dumps(answers)


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}
