"""Sorts lines into records that can be read and records that are held back, with the reason.

The rules are strict where Spark's JSON readers are lenient (they convert, drop, split and invent), so each line
is parsed once into a VARIANT, which keeps every value's own type, and the types are then compared with those of
the record. All of it is native; nothing is inferred.

What a reader may limit (RFC 8259, section 9), and this one does: nesting deeper than ``DEEPEST`` levels,
numbers of more than 1,000 characters and names of more than 50,000 are ``not_json``.
"""

from __future__ import annotations

from uuid import uuid4

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pinterest_lake.schemas import Kind, Reason, Record

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What counts as white space around a text: Unicode's, and the four separators U+001C to U+001F.

These are the characters that Python's ``str.strip`` takes. Zero-width characters are not among them.
"""

DEEPEST = 500
"""Levels of nesting that are read. Spark handles a VARIANT by recursion: beyond 1,000 a line can end the driver."""

_JSON_WHITE_SPACE = " \t\n\r"
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_TIMESTAMP = r"\A(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}\z"
_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1


def classify(lines: DataFrame, record: Record, *, one_line: bool = True) -> DataFrame:
    """Adds ``reason`` (null: the record can be read) and one typed column for each field of the record.

    ``lines`` has the column ``raw`` (binary), one line or one stream record a row; its other columns are kept.
    Fields are null wherever ``reason`` is not. ``one_line`` says that a line break has no place in a record.
    """
    kept = lines.columns
    parsed = _parse(lines)
    leaves = parsed.select(
        *kept,
        "_text",
        "_whole",
        *[
            F.try_variant_get("_json", f"$[0].{name}", "variant").alias(f"_v_{name}")
            for name in record.fields
        ],
    )
    typed = leaves.select(
        *kept,
        "_text",
        "_whole",
        *[F.schema_of_variant(f"_v_{name}").alias(f"_k_{name}") for name in record.fields],
        *[_value(name, kind).alias(name) for name, kind in record.fields.items()],
    )
    judged = typed.withColumn("reason", _reason(record, one_line=one_line))
    readable = F.col("reason").isNull()
    return judged.select(
        *kept,
        "reason",
        *[F.when(readable, _as_column(name, kind)).alias(name) for name, kind in record.fields.items()],
    )


def _parse(lines: DataFrame) -> DataFrame:
    """Adds ``_text`` (null: no UTF-8), ``_json`` ([value, seal] as VARIANT) and ``_whole`` (exactly one value)."""
    # Spark's parser ends at the first whole value and ignores what follows. Within an array that a seal ends,
    # which no line can know, whatever follows the value breaks the array or shifts the seal.
    seal = uuid4().hex
    text = F.col("raw").cast("string")
    sealed = F.concat(F.lit("["), F.col("_text"), F.lit(f',"{seal}"]'))
    return (
        lines
        .withColumn("_text", F.when(F.is_valid_utf8(text), text))
        .withColumn("_json", F.when(_is_shallow("_text"), F.try_parse_json(sealed)))
        .withColumn("_whole", F.coalesce(F.try_variant_get("_json", "$[1]", "string") == seal, F.lit(False)))
    )


def _is_shallow(text: str) -> Column:
    """Whether a text nests at most ``DEEPEST`` levels; only long texts are looked through."""
    opened = F.length(F.regexp_replace(text, r"[^\[{]++", ""))
    brackets = F.regexp_replace(F.regexp_replace(text, _STRING, ""), r"[^\[\]{}]++", "")
    start = F.struct(F.lit(0).alias("now"), F.lit(0).alias("most"))

    def step(depth: Column, bracket: Column) -> Column:
        now = depth["now"] + F.when(bracket.isin("[", "{"), 1).otherwise(-1)
        return F.struct(now.alias("now"), F.greatest(depth["most"], now).alias("most"))

    deepest = F.aggregate(F.split(brackets, ""), start, step, lambda depth: depth["most"])
    # too short for one level more: each takes a bracket and the one that ends it, and what does not end is no JSON
    short = F.octet_length(text) <= 2 * DEEPEST
    return F.when(short | (opened <= DEEPEST), True).otherwise(deepest <= DEEPEST)


def _value(name: str, kind: Kind) -> Column:
    """The value of a field as its kind, null when its JSON type is another or it does not fit."""
    value, type_ = F.col(f"_v_{name}"), F.schema_of_variant(f"_v_{name}")
    if kind is Kind.INTEGER:
        whole = F.when(type_ == "BIGINT", value.cast("long"))
        return F.when(whole.between(_INT_MIN, _INT_MAX), whole).cast("int")
    if kind is Kind.NUMBER:
        # 0 is added so that zero has no sign, however it is written: -0.0 would be another text, not another place
        return F.when(_is_number(type_), value.cast("double") + F.lit(0.0))
    return F.when(type_ == "STRING", value.cast("string"))


def _is_number(type_: Column) -> Column:
    return type_.isin("BIGINT", "DOUBLE", "FLOAT") | type_.startswith("DECIMAL")


def _as_column(name: str, kind: Kind) -> Column:
    return F.col(name).try_cast("timestamp") if kind is Kind.TIMESTAMP else F.col(name)


def _reason(record: Record, *, one_line: bool) -> Column:
    """The first reason that applies; null when none does."""
    text = F.col("_text")
    is_object = F.ltrim(text, F.lit(_JSON_WHITE_SPACE)).startswith("{")
    tests = {
        Reason.NULL_VALUE: F.col("raw").isNull(),
        Reason.LINE_BREAK: F.contains("raw", F.lit(b"\n")) & F.lit(one_line),
        Reason.NOT_UTF8: text.isNull() | (F.col("_whole") & _has_half_a_pair(text)),
        Reason.BLANK: F.ltrim(text, F.lit(WHITE_SPACE)) == "",
        Reason.NOT_JSON: ~F.col("_whole"),
        Reason.NOT_AN_OBJECT: ~is_object,
        Reason.NO_IND: ~_is_given(record.key),
        Reason.WRONG_TYPE: _any(_is_given(name) & F.col(name).isNull() for name in record.fields),
        Reason.BAD_TIMESTAMP: _any(
            F.col(name).isNotNull() & ~_is_moment(F.col(name))
            for name, kind in record.fields.items()
            if kind is Kind.TIMESTAMP
        ),
        Reason.OUT_OF_RANGE: _any(F.abs(name) > limit for name, limit in record.ranges.items()),
        # a field given as null is known all the same
        Reason.NO_KNOWN_FIELD: ~_any(
            F.col(f"_k_{name}").isNotNull() for name in record.fields if name != record.key
        ),
    }
    reason = F.lit(None).cast(T.StringType())
    for name, test in reversed(tests.items()):
        reason = F.when(test, name.value).otherwise(reason)
    return reason


def _is_given(name: str) -> Column:
    """Whether the record has the field, and not as null (an absent field has no type, a null one is VOID)."""
    return F.coalesce(F.col(f"_k_{name}") != "VOID", F.lit(False))


def _is_moment(text: Column) -> Column:
    # \A and \z: in Java ``$`` also matches before a last line break
    return text.rlike(_TIMESTAMP) & text.try_cast("timestamp").isNotNull()


def _has_half_a_pair(text: Column) -> Column:
    r"""Whether an escape leaves half of a surrogate pair, as in ``"\ud83d"``: the parser would make it a ``?``."""
    escapes_only = F.regexp_replace(text, r"\\[^u]", "")
    unpaired = F.regexp_replace(
        escapes_only, r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}", "-"
    )
    half = r"\\u[dD][89a-fA-F]"
    return F.when(text.contains("\\u") & text.rlike(half), unpaired.rlike(half)).otherwise(False)


def _any(tests: object) -> Column:
    """Whether one of the tests holds; a test that is null does not."""
    found = F.lit(False)
    for test in tests:  # type: ignore[attr-defined]
        found = found | F.coalesce(test, F.lit(False))
    return found
