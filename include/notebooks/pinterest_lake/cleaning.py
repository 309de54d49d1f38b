"""Records that could be read → rows of the clean tables.

Text is trimmed and otherwise untouched; what only stands for a missing value becomes null, each placeholder in
its own column alone. A follower count that is no count is null and flagged, never 0.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pinterest_lake.quality import WHITE_SPACE
from pinterest_lake.schemas import RECORDS, Kind, clean_columns, flags_of

PLACEHOLDERS = {
    "title": ["No Title Data Available"],
    "description": ["No description available Story format", "No description available", "Untitled"],
    "poster_name": ["User Info Error"],
    "follower_count": ["User Info Error"],
    "tag_list": ["N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"],
    "image_src": ["Image src error."],
}
SAVE_LOCATION_PREFIX = "Local save in "

_COUNT = r"\A([0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.([0-9]+))?([kKmMbB]?)\z"
_LONG_DIGITS = 19


def clean(records: DataFrame, table: str) -> DataFrame:
    """Turns the fields that ``quality.classify`` added into the columns of a clean table.

    Rows with a ``reason`` stay, as nulls; columns that are no fields of the record are kept.
    """
    fields = RECORDS[table].fields
    kept = [name for name in records.columns if name not in fields]
    texts = {name: tidy(name) for name, kind in fields.items() if kind is Kind.TEXT}
    tidied = records.withColumns(texts)
    counted = with_follower_count(tidied) if table == "pin" else tidied
    return counted.select(*kept, *[column.alias(name) for name, column in _columns(table).items()])


def _columns(table: str) -> dict[str, Column]:
    """Every column of the clean table that is made from the record; same-named ones are taken as they are."""
    made = {
        "pin": {
            "ind": F.col("index"),
            "follower_count": F.col("_count"),
            "save_location": _save_location("save_location"),
            "follower_count_unparsable": F.col("follower_count").isNotNull() & F.col("_count").isNull(),
        },
        "geo": {"coordinates": _coordinates("latitude", "longitude")},
        "user": {"user_name": _user_name("first_name", "last_name")},
    }[table]
    names = [*clean_columns(table), *flags_of(table)]
    return {name: made.get(name, F.col(name)) for name in names}


def tidy(name: str) -> Column:
    """A text without white space around it; null when nothing is left or it is the column's placeholder."""
    text = F.btrim(F.col(name), F.lit(WHITE_SPACE))
    missing = text.isin("", *PLACEHOLDERS.get(name, []))
    return F.when(~missing, text)


def with_follower_count(pins: DataFrame) -> DataFrame:
    """Adds ``_count``: what a text such as ``5.2k``, ``1,234`` or ``2M`` stands for, as long; null when it is none.

    The arithmetic is done on the digits, so that no count is rounded: a fraction counts only as far as the
    suffix moves the point, and what is no whole number or exceeds 64 bits is null.
    """
    # in steps, because Spark writes a column out again wherever it is used, unless a step has made it
    text = F.col("follower_count")
    suffix = F.lower(F.regexp_extract(text, _COUNT, 3))
    whole, fraction, zeros, digits = map(F.col, ("_whole", "_fraction", "_zeros", "_digits"))
    fits = (whole != "") & (F.length(fraction) <= zeros) & (F.length(digits) <= _LONG_DIGITS)
    return (
        pins
        .withColumns({
            "_whole": F.regexp_replace(F.regexp_extract(text, _COUNT, 1), ",", ""),
            "_fraction": F.regexp_replace(F.regexp_extract(text, _COUNT, 2), r"0+\z", ""),
            "_zeros": F.when(suffix == "k", 3).when(suffix == "m", 6).when(suffix == "b", 9).otherwise(0),
        })
        .withColumn(
            "_digits",
            F.regexp_replace(F.concat(whole, F.rpad(fraction, zeros, "0")), r"\A0+(?=[0-9])", ""),
        )
        .withColumn("_count", F.when(fits, digits.try_cast("long")))
    )


def _save_location(name: str) -> Column:
    text = F.col(name)
    rest = F.btrim(F.expr(f"substring({name}, {len(SAVE_LOCATION_PREFIX) + 1})"), F.lit(WHITE_SPACE))
    return F.when(text.startswith(SAVE_LOCATION_PREFIX), rest).otherwise(text)


def _coordinates(latitude: str, longitude: str) -> Column:
    both = F.col(latitude).isNotNull() & F.col(longitude).isNotNull()
    return F.when(both, F.array(latitude, longitude))


def _user_name(first: str, last: str) -> Column:
    known = F.col(first).isNotNull() | F.col(last).isNotNull()
    return F.when(known, F.concat_ws(" ", first, last))
