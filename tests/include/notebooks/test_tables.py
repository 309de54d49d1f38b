"""The tables as they are made: by any number of runs at once, in the form that Databricks documents."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyspark.sql import SparkSession

from pinterest_lake import tables
from pinterest_lake.lake import Lake
from pinterest_lake.schemas import STREAMS, TOPICS
from pinterest_lake.tables import create_clean_table, create_shared_tables
from tests.include.notebooks.conftest import Workspace


@pytest.fixture
def lake(workspace: Workspace) -> Lake:
    return workspace.lake()


GEO = {
    "delta.constraints.post_is_numbered": "ind IS NOT NULL",
    "delta.constraints.coordinates_are_on_earth": (
        "coordinates IS NULL OR ( coordinates [ 0 ] BETWEEN - 90 AND 90 AND "
        "coordinates [ 1 ] BETWEEN - 180 AND 180 )"
    ),
}


def properties(spark: SparkSession, name: str) -> dict[str, str]:
    return {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}


def constraints(spark: SparkSession, name: str) -> dict[str, str]:
    found = properties(spark, name)
    return {key: value for key, value in found.items() if key.startswith("delta.constraints.")}


def told(spark: SparkSession, name: str) -> list[str]:
    """What was done to a table, from the first."""
    rows = spark.sql(f"DESCRIBE HISTORY {name}").orderBy("version").collect()
    return [row["operation"] for row in rows]


def test_constraints_are_added_after_the_table_and_once(spark: SparkSession, lake: Lake) -> None:
    create_shared_tables(spark, lake)
    name = create_clean_table(spark, lake, "geo", TOPICS)
    assert {key: " ".join(value.split()) for key, value in constraints(spark, name).items()} == GEO
    assert create_clean_table(spark, lake, "geo", TOPICS) == name
    assert told(spark, name) == ["CREATE TABLE", "ADD CONSTRAINT", "ADD CONSTRAINT"]
    with pytest.raises(Exception, match="DELTA_VIOLATE_CONSTRAINT_WITH_VALUES"):
        spark.sql(f"INSERT INTO {name} (ind, coordinates) VALUES (1, ARRAY(91D, 0D))")


def test_a_run_that_died_between_table_and_constraint_is_made_good(spark: SparkSession, lake: Lake) -> None:
    create_shared_tables(spark, lake)
    name = create_clean_table(spark, lake, "user", TOPICS)
    spark.sql(f"ALTER TABLE {name} DROP CONSTRAINT post_is_numbered")
    assert constraints(spark, name) == {}
    create_clean_table(spark, lake, "user", TOPICS)
    assert list(constraints(spark, name)) == ["delta.constraints.post_is_numbered"]


class Together:
    """A session of two runs: each CREATE and ALTER waits until both have come to their first of it."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._both = {kind: threading.Barrier(2, timeout=120) for kind in ("CREATE TABLE", "ALTER TABLE")}
        self._done = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spark, name)

    def sql(self, text: str) -> Any:
        for kind, both in self._both.items():
            if text.startswith(kind) and not hasattr(self._done, kind):
                setattr(self._done, kind, True)
                both.wait()
        return self._spark.sql(text)


def test_two_runs_at_once_make_a_table_together(spark: SparkSession, lake: Lake) -> None:
    create_shared_tables(spark, lake)
    runs: Any = Together(spark)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: create_clean_table(runs, lake, "geo", TOPICS), range(2)))
    assert made == [lake.table("geo")] * 2
    assert constraints(spark, made[0]).keys() == GEO.keys()


def test_a_refusal_that_has_another_reason_is_told(spark: SparkSession, lake: Lake) -> None:
    create_shared_tables(spark, lake)
    name = create_clean_table(spark, lake, "user", TOPICS)
    spark.sql(f"INSERT INTO {name} (ind, age) VALUES (1, 20)")
    with pytest.raises(Exception, match="DELTA_NEW_CHECK_CONSTRAINT_VIOLATION"):
        tables._constrain(spark, name, "is_old", "age > 30")


def test_no_table_has_what_readers_without_spark_refuse(spark: SparkSession, lake: Lake) -> None:
    create_shared_tables(spark, lake)
    create_clean_table(spark, lake, "pin", STREAMS)
    for name in ("quarantine", "ledger", lake.clean("pin", STREAMS)):
        assert properties(spark, lake.table(name))["delta.enableDeletionVectors"] == "false"
