"""How far each shard has been taken, and what becomes of the records that follow. Plain Python but for ``is_after``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from pyspark.sql import Column
from pyspark.sql import functions as F

from pinterest_lake.ledger import Counts

Marks = dict[str, str]
"""Shard → sequence number of the last record taken; a shard that is not named has not been begun."""

Place = tuple[int, str, str]
"""A record's position as it compares: digits of the sequence number, the number, the shard."""

RENUMBERED_AFTER = 60_000
"""Milliseconds: a record that came so much later than its mark, with a smaller number, was numbered anew."""


class RenumberedError(Exception):
    """A shard holds newer records with smaller numbers: its stream was deleted and made anew."""


def place(shard: str, number: str) -> Place:
    return len(number), number, shard


def later(one: str, other: str) -> str:
    """The later of two sequence numbers: numbers of more digits than Spark's decimals hold, as text."""
    return max(one, other, key=lambda number: (len(number), number))


def earlier(one: str, other: str) -> str:
    """The earlier of two sequence numbers."""
    return other if later(one, other) == one else one


def advanced(marks: Mapping[str, str], ends: Mapping[str, str]) -> Marks:
    """Marks that include ``ends``; none goes back."""
    return {shard: later(marks.get(shard, ""), ends.get(shard, "")) for shard in sorted({*marks, *ends})}


def within(marks: Mapping[str, str], limits: Mapping[str, str]) -> Marks:
    """Marks of which none goes beyond ``limits``."""
    return {shard: earlier(mark, limits[shard]) for shard, mark in sorted(marks.items()) if shard in limits}


def is_after(marks: Mapping[str, str]) -> Column:
    """Whether a record (``_shard``, ``_sequence_number``) lies behind the mark of its shard."""
    number, mark = F.col("_sequence_number"), F.lit("")
    for shard, last in marks.items():
        mark = F.when(F.col("_shard") == shard, F.lit(last)).otherwise(mark)
    return F.struct(F.length(number), number) > F.struct(F.length(mark), mark)


@dataclass(frozen=True)
class Facts:
    """What is known of the records of a micro-batch once they are read: one value a record in each list."""

    shard: Sequence[str]
    number: Sequence[str]
    arrived: Sequence[int]
    size: Sequence[int]
    ind: Sequence[int | None]
    reason: Sequence[str | None]
    flagged: Sequence[bool]

    @cached_property
    def ends(self) -> Marks:
        """The last sequence number of each shard."""
        ends: dict[str, Place] = {}
        for shard, number in zip(self.shard, self.number, strict=True):
            at = place(shard, number)
            ends[shard] = max(at, ends.get(shard, at))
        return {shard: number for shard, (_, number, _) in ends.items()}

    @property
    def arrivals(self) -> dict[str, int]:
        """When the last record of each shard came, in milliseconds since the epoch."""
        last: dict[str, int] = {}
        for shard, arrived in zip(self.shard, self.arrived, strict=True):
            last[shard] = max(arrived, last.get(shard, 0))
        return last

    def after(self, marks: Mapping[str, str]) -> Facts:
        """Those of the records that lie behind the marks."""
        limits = {shard: place(shard, marks.get(shard, "")) for shard in {*self.shard}}
        new = [
            row
            for row, (shard, number) in enumerate(zip(self.shard, self.number, strict=True))
            if place(shard, number) > limits[shard]
        ]
        return self._those(new)

    @cached_property
    def once(self) -> Facts:
        """The same without records that a source has given twice."""
        first = {at: row for row, at in reversed([*enumerate(zip(self.shard, self.number, strict=True))])}
        return self._those(sorted(first.values()))

    def _those(self, rows: Sequence[int]) -> Facts:
        if len(rows) == len(self.number):
            return self
        return Facts(*([getattr(self, field.name)[row] for row in rows] for field in fields(self)))

    def check(self, marks: Mapping[str, str], arrived: Mapping[str, int]) -> None:
        """Raises RenumberedError when a record came long after the mark of its shard, and yet lies before it.

        ``arrived``: when the last record of each shard came, in milliseconds since the epoch.
        """
        for shard, number, at in zip(self.shard, self.number, self.arrived, strict=True):
            mark = marks.get(shard, "")
            late = shard in arrived and at > arrived[shard] + RENUMBERED_AFTER
            if late and place(shard, number) <= place(shard, mark):
                raise RenumberedError(
                    f"{shard} holds record {number}, which came at {at} ms, long after record "
                    f"{mark}, and yet has the smaller number: the stream was deleted and made anew by a "
                    "service that numbers from the start. Its records would be taken for old ones. Give the "
                    "pipeline another prefix, or a stream with another name"
                )


@dataclass(frozen=True)
class StreamView:
    """How long a stream keeps a record, in milliseconds, and its shards, each with those that it came from."""

    retention: int
    parents: Mapping[str, Sequence[str]]

    def may_be_lost(
        self, read_until: Mapping[str, int], marks: Mapping[str, str], now: int
    ) -> dict[str, tuple[int, int]]:
        """The shards whose records may be gone unread, and between which moments they came.

        ``read_until`` is when the last record of a shard came that was read, in milliseconds since the epoch, like all
        moments here. Of a shard from which one came that was begun, nothing is left to read.
        """
        ended = {parent for shard in marks for parent in self.parents.get(shard, ())}
        oldest = now - self.retention
        return {
            shard: (moment, oldest)
            for shard, moment in sorted(read_until.items())
            if moment < oldest and shard not in ended
        }


@dataclass(frozen=True)
class Decision:
    """What becomes of the records of a micro-batch: the counts, and the posts whose row is written, with its place."""

    counts: Counts
    rows: Mapping[int, Place]

    @property
    def left(self) -> int:
        """Readable records that are not written."""
        return self.counts.read - self.counts.quarantined - len(self.rows)


def decide(facts: Facts, index: Mapping[int, Place]) -> Decision:
    """Judges each record by the others and by ``index``, the place of each post's row: the newest wins."""
    newest: dict[int, tuple[Place, bool]] = {}
    reasons: Counter[str] = Counter()
    readable = 0
    records = zip(facts.shard, facts.number, facts.ind, facts.reason, facts.flagged, strict=True)
    for shard, number, ind, reason, flagged in records:
        if reason is not None or ind is None:
            reasons[str(reason)] += 1
            continue
        readable += 1
        at = place(shard, number)
        if ind not in newest or at > newest[ind][0]:
            newest[ind] = (at, flagged)
    current = {ind: found for ind, found in newest.items() if ind not in index or found[0] >= index[ind]}
    rows = {ind: at for ind, (at, _) in current.items() if index.get(ind) != at}
    counts = Counts(
        read=len(facts.number),
        clean=len(current),
        superseded=readable - len(current),
        quarantined=len(facts.number) - readable,
        replaced=sum(ind in index for ind in rows),
        unparsable=sum(flagged for _, flagged in current.values()),
        by_reason=dict(sorted(reasons.items())),
    )
    return Decision(counts, rows)
