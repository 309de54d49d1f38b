"""Objects of the sink → one row for each line, with its position and its untouched bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pinterest_lake.objects import DEAD_LETTERS, NOTES, Lister, Take, TopicNote

_NAME = r"\+([0-9]+)\+([0-9]+)\.json\z"
_IN_ENVELOPES = rf"{re.escape(DEAD_LETTERS)}{_NAME}"


def read_objects(spark: SparkSession, paths: Sequence[str]) -> DataFrame:
    """Reads whole objects: ``path`` string, ``content`` binary."""
    if not paths:
        return spark.createDataFrame([], "path string, content binary")
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(list(paths))
    return files.select("path", "content")


def topic_note(spark: SparkSession, lister: Lister, topic: str) -> TopicNote | None:
    """Read what ``create_topics`` has noted of a topic beside its objects; None where it has noted nothing."""
    paths = [path for path, _ in lister.files(NOTES, "") if path.endswith(f"/{topic}.json")]
    contents = read_objects(spark, paths).select("content").collect() if paths else []
    return TopicNote.parse(bytes(contents[0]["content"]).decode()) if contents else None


def lines(objects: DataFrame) -> DataFrame:
    r"""Splits objects at every ``\n``: ``_partition``, ``_offset``, ``raw`` (binary), ``_first``.

    ``_first`` is the offset the object begins with; the offset of a line is that plus its number. A blank line
    is a line; only what follows the last line break is none when it is empty. What the sink could not write as
    a line is taken out of its envelope; its ``raw`` is null when it had no value.
    """
    # Latin-1 maps every byte onto one character and back, so any bytes survive being split as a text.
    text = F.decode("content", "ISO-8859-1")
    parts = objects.select(
        F.regexp_extract("path", _NAME, 1).cast("int").alias("_partition"),
        F.regexp_extract("path", _NAME, 2).cast("long").alias("_first"),
        F.col("path").rlike(_IN_ENVELOPES).alias("_in_envelope"),
        F.when(text.endswith("\n"), F.expr("-1")).otherwise(0).alias("_surplus"),
        F.split(text, "\n", -1).alias("_parts"),
        F.length("content").alias("_bytes"),
    )
    last = F.size("_parts") + F.col("_surplus")
    numbered = parts.where(F.col("_bytes") > 0).select(
        "_partition",
        "_first",
        "_in_envelope",
        F.posexplode(F.slice("_parts", F.lit(1), last)).alias("_line", "_text"),
    )
    return numbered.select(
        "_partition",
        (F.col("_first") + F.col("_line")).alias("_offset"),
        _raw(F.col("_text"), F.col("_in_envelope")).alias("raw"),
        "_first",
    )


def _raw(text: Column, in_envelope: Column) -> Column:
    """The bytes of a record; a line among envelopes that is none is the record itself."""
    opened = F.when(in_envelope, F.from_json(text, "reason string, raw string"))
    line = F.encode(text, "ISO-8859-1")
    return F.when(opened["reason"].isNotNull(), F.unbase64(opened["raw"])).otherwise(line)


def lengths(records: DataFrame) -> dict[tuple[int, int], int]:
    """The number of lines of each object (partition, first offset)."""
    groups = records.groupBy("_partition", "_first").count().collect()
    return {(row["_partition"], row["_first"]): row["count"] for row in groups}


def take(records: DataFrame, takes: Sequence[Take]) -> DataFrame:
    """Keeps of each object (``_partition``, ``_first``) the offsets that are to be taken; drops ``_first``.

    Also where that is all of it: an object that has to be read again, on compute that has lost it, may be longer.
    """
    ranges = records.sparkSession.createDataFrame(
        [(item.partition, item.first, item.start, item.end) for item in takes],
        "`_of` int, `_from_object` long, `_start` long, `_end` long",
    )
    belongs = (
        (F.col("_partition") == F.col("_of"))
        & (F.col("_first") == F.col("_from_object"))
        & (F.col("_offset") >= F.col("_start"))
        & (F.col("_offset") < F.col("_end"))
    )
    return records.join(F.broadcast(ranges), on=belongs, how="left_semi").drop("_first")
