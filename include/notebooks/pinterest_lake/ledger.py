"""What was read and what became of it, counted so that a crash or a rerun counts nothing twice.

A table is filled in steps, one after the other. A step is *planned* before anything is written: what it takes,
and what will become of it, is one row of the ledger. When all is written, a second row says *committed*. A run
that dies between the two leaves its plan behind; the next one carries it out again, which changes nothing that
has been written, and keeps the counts of the plan, which were taken before. Rows are only ever appended, so
notebooks of different tables that run side by side never clash. Of two that plan the same step of one table, Delta
takes one plan, and the other run is told before it writes anything.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from pinterest_lake.lake import Lake
from pinterest_lake.objects import Range, load_progress, without
from pinterest_lake.schemas import LEDGER
from pinterest_lake.tables import Transaction, append, append_new, frame_of, replace_where

PLANNED, COMMITTED = "planned", "committed"
INCREMENT, REFRESH, RETRY, ACCEPT = "increment", "refresh", "retry", "accept"
LEDGER_TABLE = "ledger"
_NUMBERS_LEFT_OUT = 40
"""How often a refresh tries a larger number, each time twice as far."""
_COUNTED = ("read", "clean", "superseded", "quarantined", "replaced", "unparsable")


class OverlapError(Exception):
    """Another run is at work on the same tables; a later try finds it done, or finishes what it has left."""


class LedgerError(Exception):
    """The ledger has lost rows, so that it takes no more; the text says how to go on."""


@dataclass(frozen=True)
class Counts:
    """What became of the records of one step, or of many; the fields mean what they mean in ``LEDGER``.

    A step that takes records out of quarantine reads none: what it adds to the clean and superseded ones, it takes
    from the quarantined ones, so those are negative, and the equation holds.
    """

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

    def standing(self) -> Counts:
        """The same, as the tables stand after all steps: a row that was replaced is superseded."""
        return replace(self, clean=self.clean - self.replaced, superseded=self.superseded + self.replaced)


@dataclass(frozen=True)
class Step:
    """One step of a table, as it was planned."""

    interval: int
    kind: str
    counts: Counts
    taken: Mapping[str, Any]
    progress: Mapping[str, Any]
    run_id: str = ""


@dataclass(frozen=True)
class State:
    """Where a table stands: its last step that was committed, and the one that was planned and did not end."""

    interval: int
    progress: Mapping[str, Any]
    pending: Step | None


class Ledger:
    """The ledger of one clean table. Its rows are read once; what is written after is remembered."""

    def __init__(self, spark: SparkSession, lake: Lake, table: str) -> None:
        self._spark = spark
        self._lake = lake
        self._table = table
        self._name = lake.table(LEDGER_TABLE)

    def state(self) -> State:
        """Where the table stands."""
        last = {
            event: max(self._steps(event), key=lambda step: step.interval, default=None)
            for event in (COMMITTED, PLANNED)
        }
        done, planned = last[COMMITTED], last[PLANNED]
        interval = done.interval if done else 0
        pending = planned if planned and planned.interval > interval else None
        return State(interval, done.progress if done else {}, pending)

    def check_settled(self) -> int:
        """Return the number of the last step, once it has ended. Raises OverlapError while one goes on."""
        state = self.state()
        if state.pending is not None:
            raise OverlapError(
                f"{self._table}: run {state.pending.run_id} has begun step {state.pending.interval} and not ended it. "
                f"While it goes on, wait for it; if it has died, run clean_{self._table}, which finishes the step."
            )
        return state.interval

    def counts(self, event: str = COMMITTED) -> tuple[Counts, Counts]:
        """The counts of this run, and of all runs since the last refresh."""
        steps = self._steps(event)
        start = max((step.interval for step in steps if step.kind == REFRESH), default=0)
        current = [step for step in steps if step.interval >= start]
        mine = [step.counts for step in current if step.run_id == self._lake.run_id]
        return sum(mine, Counts()), sum((step.counts for step in current), Counts())

    def has_refreshed(self, event: str) -> bool:
        """Whether this run has made the counts start anew."""
        steps = self._steps(event)
        return any(step.kind == REFRESH and step.run_id == self._lake.run_id for step in steps)

    def missing(self) -> dict[int, list[Range]]:
        """Return by partition the offsets of a topic, up to those that are settled, that no step has taken.

        Only a topic without transactions and compaction has no such offsets but where records were lost.
        """
        steps = self._steps(COMMITTED)
        start = max((step.interval for step in steps if step.kind == REFRESH), default=0)
        taken: dict[int, list[Range]] = {}
        for step in steps:
            if step.interval >= start:
                for partition, ranges in step.taken.items():
                    taken.setdefault(int(partition), []).extend((first, end) for first, end in ranges)
        progress = load_progress(self.state().progress)
        holes = {
            partition: without([(0, item.settled)], taken.get(partition, []))
            for partition, item in progress.items()
        }
        return {partition: ranges for partition, ranges in sorted(holes.items()) if ranges}

    def plan(self, step: Step) -> Step:
        """Write down what the step will do; return it as it is written down.

        Delta remembers the numbers of steps whose rows were taken back by RESTORE or DELETE, and takes none of them
        again. A refresh, which starts all counts anew, therefore leaves numbers out until it finds one that is taken.

        Raises OverlapError when another run has planned a step of this number, which will do something else, and
        LedgerError when the ledger has lost rows.
        """
        for further in range(_NUMBERS_LEFT_OUT):
            try:
                heard = self._append(step, PLANNED)
            except LedgerError:
                if step.kind != REFRESH:
                    raise
                step = replace(step, interval=step.interval + 2**further)
                continue
            if not heard["mine"]:
                raise self._overtaken(step, heard)
            return step
        raise LedgerError(
            f"{self._table}: {self._name} takes no step up to {step.interval}. Use another schema."
        )

    def commit(self, step: Step) -> None:
        """Write down that the step is done, unless another run that has finished the same plan has done so.

        Raises OverlapError when a full refresh was begun and ended meanwhile.
        """
        self._append(step, COMMITTED)

    def replace(self, step: Step, transaction: Transaction) -> None:
        """Puts the step, with the counts of all steps of this run, in the place of this run's last one.

        For streams, whose steps are seconds apart: one row for each run, however long it lasts.
        """
        condition = f"`table` = '{self._table}' AND run_id = '{self._lake.run_id}'"
        replace_where(self._name, self._row(step, PLANNED), condition, transaction)

    def identity(self) -> str:
        """Names this ledger for good: another one, in a schema made anew, has another."""
        detail = self._spark.sql(f"DESCRIBE DETAIL {self._name}").select("id").collect()
        return f"{detail[0]['id']}/{self._table}"

    @cached_property
    def _rows(self) -> list[tuple[str, Step]]:
        rows = self._spark.table(self._name).where(F.col("table") == self._table).collect()
        return [(row["event"], _step(row)) for row in rows]

    def _steps(self, event: str) -> list[Step]:
        return [step for name, step in self._rows if name == event]

    def _append(self, step: Step, event: str) -> Row:
        """Append a row for the step, unless it has one; return the row that it has, and whether it is ``mine``."""
        row = _row_of(self._lake, self._table, step, event)
        append_new(self._name, frame_of(self._spark, [row], LEDGER), f"{self._table}/{event}", step.interval)
        heard = self._read_back(step, row)
        self._rows.append((event, _step(heard)))
        return heard

    def _read_back(self, step: Step, row: Mapping[str, Any]) -> Row:
        """Return what the ledger has for a row that was to be appended: Delta skips one that it has had, in silence."""
        same = (F.col("table") == row["table"]) & (F.col("event") == row["event"])
        mine = (F.col("run_id") == row["run_id"]) & (F.col("at") == F.lit(row["at"]))
        found = (
            self._spark
            .table(self._name)
            .where(same & (F.col("interval") >= step.interval))
            .withColumn("mine", mine)
            .orderBy("interval")
            .collect()
        )
        if not found:
            raise LedgerError(
                f"{self._table}: the ledger does not take step {step.interval}, for it has had one of that number: "
                f"{self._name} was restored to an older version, or rows were deleted from it. Run clean_{self._table} "
                "with full_refresh=true, which counts anew, or restore the ledger to its last version."
            )
        if found[0]["interval"] > step.interval:
            raise self._overtaken(step, found[0])
        return found[0]

    def _overtaken(self, step: Step, by: Row) -> OverlapError:
        return OverlapError(
            f"{self._table}: run {by['run_id']} is at work on the table: it has written step {by['interval']} while "
            f"this run was at step {step.interval}. Try again: what is left by then is finished first."
        )

    def _row(self, step: Step, event: str) -> DataFrame:
        return frame_of(self._spark, [_row_of(self._lake, self._table, step, event)], LEDGER)


def add_planned(
    spark: SparkSession, lake: Lake, steps: Mapping[str, Step], transaction: Transaction | None = None
) -> None:
    """Writes down the next steps of some tables in one commit, without a look at what is there.

    For streams: nobody else writes the ledger of their tables, unless with a later transaction.
    """
    rows = [_row_of(lake, table, step, PLANNED) for table, step in steps.items()]
    append(lake.table(LEDGER_TABLE), frame_of(spark, rows, LEDGER), transaction)


def _row_of(lake: Lake, table: str, step: Step, event: str) -> dict[str, Any]:
    """A step of a table as a row of ``LEDGER``."""
    return {
        **{name: getattr(step.counts, name) for name in _COUNTED},
        "by_reason": dict(step.counts.by_reason),
        "table": table,
        "interval": step.interval,
        "event": event,
        "kind": step.kind,
        "run_id": lake.run_id,
        "at": dt.datetime.now(dt.UTC),
        "taken": json.dumps(step.taken),
        "progress": json.dumps(step.progress),
    }


def _step(row: Row) -> Step:
    return Step(
        interval=row["interval"],
        run_id=row["run_id"],
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
    entry["by_reason"] = {reason: count for reason, count in counts.by_reason.items() if count}
    if table == "pin":
        entry["unparsable_follower_counts"] = counts.unparsable
    return entry
