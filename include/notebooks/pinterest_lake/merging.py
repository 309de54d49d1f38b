"""One row for each post: the newest readable record wins, by its position, whatever the order of arrival."""

from __future__ import annotations

from enum import StrEnum

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pinterest_lake.schemas import Source


class Verdict(StrEnum):
    """What becomes of a readable record, given the other records of its post and the row in the table."""

    NEW = "new"
    NEWER = "newer"
    SAME = "same"
    OLDER = "older"


WRITTEN = (Verdict.NEW, Verdict.NEWER)


def judge(records: DataFrame, rows: DataFrame, source: Source) -> DataFrame:
    """Gives each readable record its verdict: ``ind``, the position, ``verdict``, and flags that came along.

    ``records`` are narrow: ``ind``, position and flags. ``rows`` are those of the clean table: ``ind`` and
    position. ``new``: no row has that post; ``newer``: the record takes the row's place; ``same``: the row is
    this very record; ``older``: another record of the same batch, or the row, is newer.
    """
    newest_first = Window.partitionBy("ind").orderBy(source.order().desc())
    ranked = records.withColumn("_rank", F.row_number().over(newest_first)).alias("s")
    known = rows.select("ind", *source.columns, F.lit(True).alias("_known")).alias("t")
    mine, theirs = source.order("s"), source.order("t")
    verdict = (
        F
        .when(F.col("s._rank") > 1, Verdict.OLDER.value)
        .when(F.col("t._known").isNull(), Verdict.NEW.value)
        .when(mine > theirs, Verdict.NEWER.value)
        .when(mine == theirs, Verdict.SAME.value)
        .otherwise(Verdict.OLDER.value)
    )
    return ranked.join(known, on=F.col("s.ind") == F.col("t.ind"), how="left").select(
        *[F.col(f"s.{name}") for name in records.columns], verdict.alias("verdict")
    )


def chosen(records: DataFrame, verdicts: DataFrame, source: Source, *, written: int, left: int) -> DataFrame:
    """The wide records that are to be written.

    ``written`` and ``left`` count the verdicts for and against: the shorter list is what the records are joined
    with, so that wide rows are not shuffled for the sake of a few.
    """
    if left == 0:
        return records
    wins = F.col("verdict").isin(*[verdict.value for verdict in WRITTEN])
    if written <= left:
        return records.join(verdicts.where(wins).select(*source.columns), on=source.columns, how="left_semi")
    return records.join(verdicts.where(~wins).select(*source.columns), on=source.columns, how="left_anti")
