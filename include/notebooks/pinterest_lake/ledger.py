"""What was read and what became of it, counted so that a crash or a rerun counts nothing twice.

A table is filled in steps, one after the other. A step is *planned* before anything is written: what it takes,
and what will become of it, is one row of the ledger. When all is written, a second row says *committed*. A run
that dies between the two leaves its plan behind; the next one carries it out again, which changes nothing that
has been written, and keeps the counts of the plan, which were taken before. Rows are only ever appended, so
notebooks that run side by side never clash.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from pinterest_lake.lake import Lake
from pinterest_lake.schemas import LEDGER

PLANNED, COMMITTED = "planned", "committed"
INCREMENT, REFRESH = "increment", "refresh"
LEDGER_TABLE = "ledger"
_COUNTED = ("read", "clean", "superseded", "quarantined", "replaced", "unparsable")


class LedgerError(Exception):
    """The counts of a table do not agree with its rows; the text gives both sides."""


@dataclass(frozen=True)
class Counts:
    """What became of the records of one step, or of many; the fields mean what they mean in ``LEDGER``."""

    read: int = 0
    clean: int = 0
    superseded: int = 0
    quarantined: int = 0
    replaced: int = 0
    unparsable: int = 0
    by_reason: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        reasons = sorted({*self.by_reason, *other.by_reason})
        return Counts(
            **{name: getattr(self, name) + getattr(other, name) for name in _COUNTED},
            by_reason={name: self.by_reason.get(name, 0) + other.by_reason.get(name, 0) for name in reasons},
        )


@dataclass(frozen=True)
class Step:
    """One step of a table, as it was planned."""

    interval: int
    kind: str
    counts: Counts
    taken: Mapping[str, Any]
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """Where a table stands: its last step that was committed, and the one that was planned and did not end."""

    interval: int
    progress: Mapping[str, Any]
    pending: Step | None


class Ledger:
    """The ledger of one clean table."""

    def __init__(self, spark: SparkSession, lake: Lake, table: str) -> None:
        self._spark = spark
        self._lake = lake
        self._table = table
        self._name = lake.table(LEDGER_TABLE)

    def state(self) -> State:
        """Reads where the table stands."""
        rows = (
            self._rows().orderBy(F.col("interval").desc(), F.col("event")).limit(3).collect()
        )  # "committed" sorts before "planned"
        done = next((row for row in rows if row["event"] == COMMITTED), None)
        last = rows[0] if rows else None
        pending = _step(last) if last and last["event"] == PLANNED else None
        if done is None:
            return State(0, {}, pending)
        return State(done["interval"], json.loads(done["progress"]), pending)

    def plan(self, step: Step) -> None:
        """Writes down what the step will do. A step that was planned before is left as it was."""
        self._append(step, PLANNED)

    def commit(self, step: Step) -> None:
        """Writes down that the step is done."""
        self._append(step, COMMITTED)

    def identity(self) -> str:
        """Names this ledger for good: another one, in a schema made anew, has another."""
        return f"{self._spark.sql(f'DESCRIBE DETAIL {self._name}').first()['id']}/{self._table}"  # type: ignore[index]

    def counts(self, event: str = COMMITTED) -> tuple[Counts, Counts]:
        """The counts of this run, and of all runs since the last refresh."""
        rows = self._rows().where(F.col("event") == event).collect()
        start = max((row["interval"] for row in rows if row["kind"] == REFRESH), default=0)
        steps = [(row["run_id"], _step(row).counts) for row in rows if row["interval"] >= start]
        run = sum((counts for run_id, counts in steps if run_id == self._lake.run_id), Counts())
        return run, sum((counts for _, counts in steps), Counts())

    def _rows(self) -> Any:
        return self._spark.table(self._name).where(F.col("table") == self._table)

    def _append(self, step: Step, event: str) -> None:
        counts = {name: getattr(step.counts, name) for name in _COUNTED}
        row = {
            "table": self._table,
            "interval": step.interval,
            "event": event,
            "kind": step.kind,
            "run_id": self._lake.run_id,
            "at": dt.datetime.now(dt.UTC),
            **counts,
            "by_reason": dict(step.counts.by_reason),
            "taken": json.dumps(step.taken),
            "progress": json.dumps(step.progress),
        }
        frame = self._spark.createDataFrame([tuple(row[name] for name in LEDGER.names)], LEDGER)
        # Delta skips a version it has seen: of two runs that plan the same step, one is heard
        frame.coalesce(1).write.format("delta").mode("append").option(
            "txnAppId", f"{self._table}/{event}"
        ).option("txnVersion", step.interval).saveAsTable(self._name)


def _step(row: Row) -> Step:
    return Step(
        interval=row["interval"],
        kind=row["kind"],
        counts=Counts(**{name: row[name] for name in _COUNTED}, by_reason=dict(row["by_reason"] or {})),
        taken=json.loads(row["taken"]),
        progress=json.loads(row["progress"]),
    )


def run_entry(table: str, counts: Counts) -> dict[str, Any]:
    """The counts of one run as the ledger publishes them: read = clean + superseded + quarantined."""
    entry: dict[str, Any] = {
        name: getattr(counts, name) for name in ("read", "clean", "superseded", "quarantined")
    }
    entry["by_reason"] = dict(counts.by_reason)
    if table == "pin":
        entry["unparsable_follower_counts"] = counts.unparsable
    return entry
