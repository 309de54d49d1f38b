"""Newest wins, against the plain-Python model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pinterest_lake.merging import Verdict, chosen, judge
from pinterest_lake.schemas import STREAMS, TOPICS, Source

NUMBERS = st.sampled_from(["9", "10", "99", "100", "1" * 40, "2" * 40, "1" * 55 + "9", "2" * 56])
POSITIONS = {
    "batch": st.tuples(st.integers(0, 2), st.integers(0, 6)),
    "stream": st.tuples(st.sampled_from(["shardId-000", "shardId-001"]), NUMBERS),
}
TYPES = {"batch": "_partition int, _offset long", "stream": "_shard string, _sequence_number string"}


def newness(source: Source, position: Any) -> tuple[Any, ...]:
    shard, place = position
    return (place, shard) if source is TOPICS else (len(place), place, shard)


def position_of(source: Source, row: Any) -> tuple[Any, ...]:
    return tuple(row[name] for name in source.columns)


def expected(source: Source, records: dict[Any, int], rows: dict[int, Any]) -> dict[Any, str]:
    """position → verdict, for records position → ind and rows ind → position."""
    verdicts = {}
    for position, ind in records.items():
        rivals = [newness(source, other) for other, its in records.items() if its == ind]
        mine = newness(source, position)
        if mine < max(rivals):
            verdicts[position] = Verdict.OLDER
        elif ind not in rows:
            verdicts[position] = Verdict.NEW
        else:
            row = newness(source, rows[ind])
            verdicts[position] = (
                Verdict.NEWER if mine > row else Verdict.SAME if mine == row else Verdict.OLDER
            )
    return {position: str(verdict) for position, verdict in verdicts.items()}


WORLDS = 60
"""Examples that are judged in one go; their posts and their shards are kept apart."""


def apart(source: Source, world: int, position: Any) -> tuple[Any, ...]:
    shard, place = position
    return (10 * world + shard, place) if source is TOPICS else (f"{world}/{shard}", place)


@pytest.mark.parametrize("source", [TOPICS, STREAMS], ids=["batch", "stream"])
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_verdicts(spark: SparkSession, source: Source, data: st.DataObject) -> None:
    positions = POSITIONS[source.name]
    wanted: dict[Any, str] = {}
    records, rows = [], []
    for world in range(WORLDS):
        theirs = data.draw(st.dictionaries(positions, st.integers(0, 3), max_size=12))
        there = data.draw(st.dictionaries(st.integers(0, 3), positions, max_size=4))
        records += [(10 * world + ind, *apart(source, world, position)) for position, ind in theirs.items()]
        rows += [(10 * world + ind, *apart(source, world, position)) for ind, position in there.items()]
        for position, verdict in expected(source, theirs, there).items():
            wanted[apart(source, world, position)] = verdict
    types = f"ind int, {TYPES[source.name]}"
    frame = spark.createDataFrame(records, types)
    judged = judge(frame, spark.createDataFrame(rows, types), source)
    found = {position_of(source, row): row["verdict"] for row in judged.collect()}
    assert found == wanted

    wins = {position for position, verdict in found.items() if verdict in {"new", "newer"}}
    for left in (1, len(found)):  # joined with those that are not written, and with those that are
        written = chosen(frame, judged, source, written=len(wins), left=left).collect()
        assert {position_of(source, row) for row in written} == wins
        assert len(written) == len({row["ind"] for row in written})
