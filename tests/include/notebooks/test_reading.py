"""Objects to lines: every byte survives, every line has its offset."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from pinterest_lake import reading
from pinterest_lake.objects import Take


def lines_of(spark: SparkSession, contents: dict[str, bytes]) -> list[tuple[int, int, bytes]]:
    objects = spark.createDataFrame(
        [(p, bytearray(c)) for p, c in contents.items()], "path string, content binary"
    )
    rows = reading.lines(objects).orderBy("_partition", "_offset").collect()
    return [(row["_partition"], row["_offset"], bytes(row["raw"])) for row in rows]


def test_any_bytes_from_a_real_object(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "topics/p.pin/partition=3/p.pin+3+0000000100.json"
    path.parent.mkdir(parents=True)
    content = bytes(range(256)) + b"\r\n\n\xff\xfe\xc3\n \n"
    path.write_bytes(content)
    rows = reading.lines(reading.read_objects(spark, [str(path)])).orderBy("_offset").collect()
    assert [bytes(row["raw"]) for row in rows] == content.split(b"\n")[:-1]
    assert [(row["_partition"], row["_first"], row["_offset"]) for row in rows] == [
        (3, 100, 100 + number) for number in range(len(rows))
    ]


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.binary(max_size=4), max_size=5), min_size=40, max_size=60), st.booleans())
def test_any_lines(spark: SparkSession, objects: list[list[bytes]], ended: bool) -> None:
    objects = [[line.replace(b"\n", b"") for line in lines] for lines in objects]
    end = b"\n" if ended else b""
    contents = {
        f"s3://b/t+{number}+{7:010d}.json": b"\n".join(lines) + (end if lines else b"")
        for number, lines in enumerate(objects)
    }
    if not ended:  # what follows the last line break is a line unless it is empty
        objects = [lines[:-1] if lines and lines[-1] == b"" else lines for lines in objects]
    expected = [
        (number, 7 + place, line) for number, lines in enumerate(objects) for place, line in enumerate(lines)
    ]
    assert lines_of(spark, contents) == expected


def test_only_the_offsets_that_are_to_be_taken(spark: SparkSession) -> None:
    records = spark.createDataFrame(
        [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 2), (1, 0, 0)], "_partition int, _first long, _offset long"
    )
    lengths = reading.lengths(records)
    assert lengths == {(0, 0): 2, (0, 1): 2, (1, 0): 1}
    takes = [Take(0, 0, 0, 2), Take(0, 1, 2, 3)]
    taken = reading.take(records, takes).collect()
    assert sorted(tuple(row) for row in taken) == [(0, 0), (0, 1), (0, 2)]
    assert reading.take(records, []).collect() == []


def test_an_object_that_is_longer_when_it_is_read_again_gives_what_was_planned(spark: SparkSession) -> None:
    """Nothing was kept of the first look, and the sink has written the object once more in between."""
    now = spark.createDataFrame([(0, 0, n) for n in range(3)], "_partition int, _first long, _offset long")
    assert sorted(tuple(row) for row in reading.take(now, [Take(0, 0, 0, 2)]).collect()) == [(0, 0), (0, 1)]
