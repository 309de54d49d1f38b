"""The quality gate: what is expected of the clean tables before anything is answered from them.

Each expectation is a number that may be at most as large as its threshold. A table of few records is not judged
by shares: one bad record in five says nothing. Where none may be bad, one is too many, however few there are.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pinterest_lake.lake import Lake, SettingsError
from pinterest_lake.ledger import Counts
from pinterest_lake.objects import Range, told
from pinterest_lake.schemas import QUALITY, TABLES, Source
from pinterest_lake.tables import create_table, frame_of, replace_where

QUALITY_TABLE = "quality"
STALE_HOURS = 168
"""A week without a new row is warned of."""
FEWEST = 100
"""Records that a share above 0 needs to be judged."""


class QualityError(Exception):
    """Expectations are not met; the text names each, what was found and what would pass."""


@dataclass(frozen=True)
class Thresholds:
    """The largest values that pass.

    A post is unmatched when its other record could not be read as well as when it never came, or has yet to: so a
    tenth of trouble with either must pass, and more than with records alone.
    """

    max_quarantined_share: float = 0.1
    max_quarantined_share_of_run: float = 0.5
    max_unparsable_share: float = 0.1
    max_unmatched_share: float = 0.25
    max_missing: float = 0.0
    max_age_hours: float | None = None
    """None: rows older than a week are warned of, as nothing may have come, and the answers are the last ones'."""

    @classmethod
    def from_widgets(cls, dbutils: Any) -> Thresholds:
        """Declares the widgets with their defaults and reads them. Raises SettingsError."""
        values: dict[str, Any] = {}
        for each in fields(cls):
            dbutils.widgets.text(each.name, "" if each.default is None else str(each.default))
            text = dbutils.widgets.get(each.name).strip()
            values[each.name] = None if each.default is None and not text else _limit(each.name, text)
        return cls(**values)


def _limit(name: str, text: str) -> float:
    """Parse a threshold. Raises SettingsError, also for NaN: every comparison with it is false."""
    with suppress(ValueError):
        if 0 <= (limit := float(text)) < float("inf"):
            return limit
    raise SettingsError(f"widget {name!r} is {text!r}; it must be a number of at least 0")


@dataclass(frozen=True)
class Facts:
    """What is known of one clean table when it is judged."""

    run: Counts
    total: Counts
    imbalance: str = ""
    unmatched: int = 0
    age_hours: float | None = None
    """Hours since the newest row was taken in; None: there is none."""
    missing: Mapping[int, Sequence[Range]] = field(default_factory=dict)
    """Offsets, by partition, that no record came from."""

    @property
    def missing_records(self) -> int:
        """How many records are missing."""
        return sum(end - start for ranges in self.missing.values() for start, end in ranges)


@dataclass(frozen=True)
class Result:
    """One expectation of one table, and whether it was met; the fields mean what they mean in ``QUALITY``."""

    expectation: str
    table: str
    observed: float | None
    at_most: float | None
    detail: str

    @property
    def passed(self) -> bool:
        return self.observed is None or self.at_most is None or self.observed <= self.at_most

    def __str__(self) -> str:
        observed = "-" if self.observed is None else f"{self.observed:.4g}"
        verdict = "passed" if self.passed else "FAILED"
        limit = "any" if self.at_most is None else f"at most {self.at_most:g}"
        return f"{verdict} {self.expectation} of {self.table}: {observed}, {limit} ({self.detail})"


def judge(facts: Mapping[str, Facts], limits: Thresholds) -> list[Result]:
    """Judges the clean tables (pin, geo, user) by their facts."""
    results = []
    for table, fact in facts.items():
        run, total = fact.run, fact.total
        results += [
            Result("ledger_balance", table, float(bool(fact.imbalance)), 0.0, fact.imbalance or "balanced"),
            _share("quarantined_share", table, total.quarantined, total.read, limits.max_quarantined_share),
            _share(
                "quarantined_share_of_run",
                table,
                max(run.quarantined, 0),
                run.read,
                limits.max_quarantined_share_of_run,
            ),
        ]
        if fact.missing:
            results.append(_missing(table, fact, limits))
        if table == "pin":
            results.append(
                _share("unparsable_share", table, total.unparsable, total.clean, limits.max_unparsable_share)
            )
        else:
            posts = facts["pin"].total.clean
            results.append(
                _share("unmatched_share", table, fact.unmatched, posts, limits.max_unmatched_share)
            )
    return [*results, _freshness(facts, limits)]


def _share(name: str, table: str, part: int, whole: int, limit: float) -> Result:
    detail = f"{part:,} of {whole:,}"
    if whole == 0 or (whole < FEWEST and limit > 0):
        return Result(name, table, None, limit, f"{detail}; not judged below {FEWEST}")
    return Result(name, table, part / whole, limit, detail)


def _missing(table: str, fact: Facts, limits: Thresholds) -> Result:
    """Judge the offsets that no record came from: what was lost before it was read is in no other count."""
    where = "; ".join(
        f"offsets {told(ranges)} of partition {number}" for number, ranges in fact.missing.items()
    )
    detail = f"{where}: in no object. When they cannot be had again, accept_missing=true takes them for lost"
    return Result("missing", table, float(fact.missing_records), limits.max_missing, detail)


def _freshness(facts: Mapping[str, Facts], limits: Thresholds) -> Result:
    age = min((fact.age_hours for fact in facts.values() if fact.age_hours is not None), default=None)
    detail = "no row was ever taken in" if age is None else "hours since the newest row was taken in"
    if limits.max_age_hours is None and age is not None and age > STALE_HOURS:
        detail = f"WARNING: more than {STALE_HOURS} {detail}"
    return Result("freshness", "all", age, limits.max_age_hours, detail)


def store(spark: SparkSession, lake: Lake, source: Source, results: Sequence[Result]) -> None:
    """Writes the results of this run into the table ``quality``, in the place of those it had written before."""
    name = lake.table(QUALITY_TABLE)
    create_table(
        spark, name, QUALITY, "What was expected of the clean tables, and found", partitioned_by=["source"]
    )
    given = {"run_id": lake.run_id, "source": source.name, "at": dt.datetime.now(dt.UTC)}
    rows = [{**given, **asdict(result), "passed": result.passed} for result in results]
    condition = f"source = '{source.name}' AND run_id = '{lake.run_id}'"
    replace_where(name, frame_of(spark, rows, QUALITY), condition)


def published(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The results as the published object has them."""
    return [{**asdict(result), "passed": result.passed} for result in results]


def check(results: Sequence[Result]) -> None:
    """Raises QualityError unless all expectations are met."""
    failed = [result for result in results if not result.passed]
    if failed:
        told = "; ".join(str(result).removeprefix("FAILED ") for result in failed)
        raise QualityError(
            f"{len(failed)} of {len(results)} expectations are not met, so the last answers stay as they are: {told}"
        )


def unmatched(clean: Mapping[str, DataFrame]) -> dict[str, int]:
    """How many posts with a pin have no geo record, and how many no user record, in the clean tables."""
    numbers = {table: clean[table].select("ind", F.lit(1).alias(f"_{table}")) for table in TABLES}
    joined = (
        numbers["pin"].join(numbers["geo"], on="ind", how="left").join(numbers["user"], on="ind", how="left")
    )
    pins, geos, users = joined.agg(*[F.count(f"_{table}") for table in TABLES]).collect()[0]
    return {"geo": pins - geos, "user": pins - users}
