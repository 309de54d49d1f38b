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

_COUNT = r"\A(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?[kKmMbB]?\z"
_LONG_DIGITS = 19


def clean(records: DataFrame, table: str) -> DataFrame:
    """Turns the fields that ``quality.classify`` added into the columns of a clean table.

    Rows with a ``reason`` stay, as nulls; columns that are no fields of the record are kept.
    """
    fields = RECORDS[table].fields
    kept = [name for name in records.columns if name not in fields]
    texts = [name for name, kind in fields.items() if kind is Kind.TEXT]
    # in steps, here and below: Spark writes a column out again wherever it is used, unless a step has made it
    trimmed = records.withColumns({name: F.btrim(F.col(name), F.lit(WHITE_SPACE)) for name in texts})
    tidied = trimmed.withColumns({name: _unless_missing(name) for name in texts})
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


def _unless_missing(name: str) -> Column:
    """A trimmed text; null when nothing is left or it is the column's placeholder."""
    return F.when(~F.col(name).isin("", *PLACEHOLDERS.get(name, [])), F.col(name))


def with_follower_count(pins: DataFrame) -> DataFrame:
    """Adds ``_count``: what a text such as ``5.2k``, ``1,234`` or ``2M`` stands for, as long; null when it is none.

    The arithmetic is done on the digits, so that no count is rounded: a fraction counts only as far as the
    suffix moves the point, and what is no whole number or exceeds 64 bits is null.
    """
    text, number, digits = F.col("follower_count"), F.col("_number"), F.col("_digits")
    last = F.lower(F.right(text, F.lit(1)))
    whole = F.replace(F.substring_index(number, ".", 1), F.lit(","), F.lit(""))
    fraction = F.when(F.contains(number, F.lit(".")), F.substring_index(number, ".", -1)).otherwise("")
    fits = (F.length("_fraction") <= F.col("_zeros")) & (F.length(digits) <= _LONG_DIGITS)
    return (
        pins
        .withColumns({
            "_number": F.when(text.rlike(_COUNT), F.rtrim(text, F.lit("kKmMbB"))),
            "_zeros": F.when(last == "k", 3).when(last == "m", 6).when(last == "b", 9).otherwise(0),
        })
        .withColumns({"_whole": whole, "_fraction": F.rtrim(fraction, F.lit("0"))})
        .withColumn(
            "_digits", F.ltrim(F.concat("_whole", F.rpad("_fraction", F.col("_zeros"), "0")), F.lit("0"))
        )
        .withColumn("_count", F.when(fits, F.concat(F.lit("0"), digits).try_cast("long")))
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
