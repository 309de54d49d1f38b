"""What is known of the three records and of every table: names, types, order of columns.

Nothing is ever inferred: a record is read against ``RECORDS``, a table is created from ``columns_of``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T


class Kind(StrEnum):
    """The type a field has in JSON; nothing is converted from one to another."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True)
class Record:
    """One of the three records of a post: the field that numbers it, and all fields with their kinds."""

    key: str
    fields: dict[str, Kind]
    ranges: dict[str, int]
    """Fields that must lie within ± the given number."""


RECORDS = {
    "pin": Record(
        key="index",
        fields={
            "index": Kind.INTEGER,
            "unique_id": Kind.TEXT,
            "title": Kind.TEXT,
            "description": Kind.TEXT,
            "poster_name": Kind.TEXT,
            "follower_count": Kind.TEXT,
            "tag_list": Kind.TEXT,
            "is_image_or_video": Kind.TEXT,
            "image_src": Kind.TEXT,
            "downloaded": Kind.INTEGER,
            "save_location": Kind.TEXT,
            "category": Kind.TEXT,
        },
        ranges={},
    ),
    "geo": Record(
        key="ind",
        fields={
            "ind": Kind.INTEGER,
            "timestamp": Kind.TIMESTAMP,
            "latitude": Kind.NUMBER,
            "longitude": Kind.NUMBER,
            "country": Kind.TEXT,
        },
        ranges={"latitude": 90, "longitude": 180},
    ),
    "user": Record(
        key="ind",
        fields={
            "ind": Kind.INTEGER,
            "first_name": Kind.TEXT,
            "last_name": Kind.TEXT,
            "age": Kind.INTEGER,
            "date_joined": Kind.TIMESTAMP,
        },
        ranges={},
    ),
}


class Reason(StrEnum):
    """Why a record is held in quarantine; the first that applies, in this order."""

    NULL_VALUE = "null_value"
    LINE_BREAK = "line_break"
    NOT_UTF8 = "not_utf8"
    BLANK = "blank"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NO_IND = "no_ind"
    WRONG_TYPE = "wrong_type"
    BAD_TIMESTAMP = "bad_timestamp"
    OUT_OF_RANGE = "out_of_range"
    NO_KNOWN_FIELD = "no_known_field"


@dataclass(frozen=True)
class Source:
    """Where records come from, and how their positions are named and ordered."""

    name: str
    position: tuple[T.StructField, ...]
    """Columns that name one record of a topic or a stream, for good."""
    shard: str
    place: str
    lines: bool
    """Whether a record is a line, so that one with a line break is none."""

    @property
    def columns(self) -> list[str]:
        return [field.name for field in self.position]

    def order(self, alias: str = "") -> Column:
        """A column that is larger the newer a record is."""
        return F.expr(self.order_sql(alias))

    def order_sql(self, alias: str = "") -> str:
        """The same as a SQL expression."""
        prefix = f"{alias}." if alias else ""
        place, shard = f"{prefix}`{self.place}`", f"{prefix}`{self.shard}`"
        # a sequence number is a number of more digits than a decimal holds: the longer is the larger
        first = f"length({place}), " if self.name == "stream" else ""
        return f"struct({first}{place}, {shard})"


def _column(name: str, kind: T.DataType, comment: str) -> T.StructField:
    return T.StructField(name, kind, True, {"comment": comment})


TOPICS = Source(
    name="batch",
    position=(
        _column("_partition", T.IntegerType(), "Kafka partition the record came from"),
        _column("_offset", T.LongType(), "Kafka offset of the record"),
    ),
    shard="_partition",
    place="_offset",
    lines=True,
)
STREAMS = Source(
    name="stream",
    position=(
        _column("_shard", T.StringType(), "Kinesis shard the record came from"),
        _column("_sequence_number", T.StringType(), "Kinesis sequence number of the record"),
    ),
    shard="_shard",
    place="_sequence_number",
    lines=False,
)

_INGESTED_AT = _column(
    "_ingested_at", T.TimestampType(), "when the record was taken in: by the run, or by Kinesis"
)
_CLEAN = {
    "pin": [
        _column("ind", T.IntegerType(), "number of the post"),
        _column("unique_id", T.StringType(), "UUID of the pin"),
        _column("title", T.StringType(), "title as the source gives it"),
        _column("description", T.StringType(), "description as the source gives it"),
        _column("follower_count", T.LongType(), "followers of the poster; null when unknown"),
        _column("poster_name", T.StringType(), "who posted the pin"),
        _column("tag_list", T.StringType(), "tags, parted by commas"),
        _column("is_image_or_video", T.StringType(), "kind of the pin's medium"),
        _column("image_src", T.StringType(), "address of the medium"),
        _column("save_location", T.StringType(), "folder the medium was saved in"),
        _column("category", T.StringType(), "category of the pin"),
    ],
    "geo": [
        _column("ind", T.IntegerType(), "number of the post"),
        _column("country", T.StringType(), "country of the post"),
        _column("coordinates", T.ArrayType(T.DoubleType()), "[latitude, longitude] in degrees"),
        _column("timestamp", T.TimestampType(), "when the post was made, as written, held as UTC"),
    ],
    "user": [
        _column("ind", T.IntegerType(), "number of the post"),
        _column("user_name", T.StringType(), "first and last name"),
        _column("age", T.IntegerType(), "age in years"),
        _column("date_joined", T.TimestampType(), "when the user joined, as written, held as UTC"),
    ],
}
_FLAGS = {
    "pin": [_column("follower_count_unparsable", T.BooleanType(), "the source gave a count that is none")],
    "geo": [],
    "user": [],
}
TABLES = tuple(_CLEAN)

QUARANTINE = T.StructType([
    _column("table", T.StringType(), "table the record was meant for"),
    _column("source", T.StringType(), "topic or stream"),
    _column("shard", T.StringType(), "Kafka partition or Kinesis shard"),
    _column("position", T.StringType(), "Kafka offset or Kinesis sequence number"),
    _column("reason", T.StringType(), "the first reason why it cannot be read"),
    _column("raw", T.BinaryType(), "the bytes of the record, untouched"),
    _column("run_id", T.StringType(), "run that put it here"),
    _column("ingested_at", T.TimestampType(), "when the record was taken in: by the run, or by Kinesis"),
])

LEDGER = T.StructType([
    _column("table", T.StringType(), "clean table the records were meant for"),
    _column("interval", T.LongType(), "number of the step; steps of a table are taken one after the other"),
    _column("event", T.StringType(), "planned, before anything is written; committed, when all is"),
    _column(
        "kind", T.StringType(), "increment; refresh: all counts anew; retry: out of quarantine; accept: lost"
    ),
    _column("run_id", T.StringType(), "run that did it"),
    _column("at", T.TimestampType(), "when"),
    _column("read", T.LongType(), "records read in this step"),
    _column("clean", T.LongType(), "of those, records that are the newest of their post"),
    _column("superseded", T.LongType(), "of those, records older than another of their post"),
    _column("quarantined", T.LongType(), "of those, records that cannot be read; negative in a retry"),
    _column("replaced", T.LongType(), "rows of earlier steps that clean records took the place of"),
    _column("unparsable", T.LongType(), "clean records whose follower count is none"),
    _column("by_reason", T.MapType(T.StringType(), T.LongType()), "quarantined records by reason"),
    _column("taken", T.StringType(), "JSON: what was read, by partition or shard"),
    _column("progress", T.StringType(), "JSON: how far reading has come after this step"),
])

STREAM_WRITERS = T.StructType([
    _column("prefix", T.StringType(), "prefix of the stream tables"),
    _column("number", T.LongType(), "number of the claim; the tables are the last one's"),
    _column("run_id", T.StringType(), "run that claimed them"),
    _column("token", T.StringType(), "names its driver for good"),
    _column("at", T.TimestampType(), "when"),
])

ANSWER_SETS = T.StructType([
    _column("run_id", T.StringType(), "run that wrote the set"),
    _column("source", T.StringType(), "batch or stream"),
    _column("at", T.TimestampType(), "when all ten tables were written"),
    _column("versions", T.MapType(T.StringType(), T.LongType()), "answer table, and its version in this set"),
])

QUALITY = T.StructType([
    _column("run_id", T.StringType(), "run that was judged"),
    _column("source", T.StringType(), "batch or stream"),
    _column("at", T.TimestampType(), "when"),
    _column("expectation", T.StringType(), "what is expected"),
    _column("table", T.StringType(), "table it is expected of"),
    _column("observed", T.DoubleType(), "what was found; null when there was nothing to judge"),
    _column("at_most", T.DoubleType(), "the largest value that passes"),
    _column("passed", T.BooleanType(), "whether it was met"),
    _column("detail", T.StringType(), "the numbers behind it"),
])

CONSTRAINTS = {
    "pin": {
        "post_is_numbered": "ind IS NOT NULL",
        "followers_are_a_count": "follower_count IS NULL OR follower_count >= 0",
    },
    "geo": {
        "post_is_numbered": "ind IS NOT NULL",
        "coordinates_are_on_earth": "coordinates IS NULL OR (coordinates[0] BETWEEN -90 AND 90 AND "
        "coordinates[1] BETWEEN -180 AND 180)",
    },
    "user": {"post_is_numbered": "ind IS NOT NULL"},
}
"""The last line of defence: what no row of a clean table may break, whoever writes it. To Delta, null is a breach."""


def clean_columns(table: str) -> list[str]:
    """The columns of a clean table that the questions may see, in the order of the contract."""
    return [field.name for field in _CLEAN[table]]


def flags_of(table: str) -> list[str]:
    """The technical columns of a clean table that are made from the record itself."""
    return [field.name for field in _FLAGS[table]]


def columns_of(table: str, source: Source) -> T.StructType:
    """All columns of a clean table: the contract's, then the technical ones."""
    return T.StructType([*_CLEAN[table], *source.position, _INGESTED_AT, *_FLAGS[table]])
