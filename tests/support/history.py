"""Checks from outside whether a history is whole: what was acknowledged, against what is held anywhere.

The input is plain Python, and nothing here is the pipeline's own code: a mistake there cannot be made here as well.
What is not given (None) is not checked. ``check`` gives what was

- *lost*: acknowledged, or in a topic or stream, and not where it has to be after;
- *doubled*: held twice, or counted twice;
- *misordered*: an older version in the place of a newer one;
- *unaccounted*: held or counted, and from nowhere.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str, str, int]
"""(table, partition or shard, offset or sequence number): names one record for good."""


@dataclass(frozen=True)
class Record:
    """A record at its position. ``ind`` is None where it cannot be read, and so has to be held in quarantine."""

    table: str
    shard: str
    place: int
    ind: int | None
    value: bytes | None = None

    @property
    def at(self) -> Place:
        return self.table, self.shard, self.place

    @property
    def order(self) -> tuple[int, str]:
        """Of two versions of a post, the one with the larger is newer."""
        return self.place, self.shard.rjust(20, "0")


@dataclass(frozen=True)
class Line:
    """A line of an object in the bucket."""

    table: str
    shard: str
    place: int
    value: bytes | None
    object: str
    is_dead_letter: bool = False

    @property
    def at(self) -> Place:
        return self.table, self.shard, self.place


@dataclass
class Report:
    """What is wrong with a history, in sentences."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    misordered: list[str] = field(default_factory=list)
    unaccounted: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return any(vars(self).values())

    def __str__(self) -> str:
        return "\n".join(
            f"{kind.upper()} ({len(found)}): {'; '.join(found[:10])}"
            for kind, found in vars(self).items()
            if found
        )


def check(
    acknowledged: Iterable[Record],
    *,
    written: Iterable[Record] | None = None,
    landed: Iterable[Line] | None = None,
    rows: Iterable[Record] | None = None,
    held: Iterable[Record] | None = None,
    counted: Mapping[str, Mapping[str, int]] | None = None,
) -> Report:
    """Compare the ends of a leg.

    :param acknowledged: what a producer was told is stored, in the order in which it was told; ``value`` is compared
        where it is given.
    :param written: what the topics or streams hold; None: exactly what was acknowledged.
    :param landed: the lines of the objects in the bucket, of the leg that has such.
    :param rows: the rows of the clean tables: ``ind``, and the position each came from.
    :param held: the records in quarantine.
    :param counted: by table, what the ledger says: ``read``, ``clean``, ``superseded``, ``quarantined``, ``missing``.
    """
    told = list(acknowledged)
    there = told if written is None else list(written)
    report = Report()
    _check_written(report, told, there)
    known = {record.at: record for record in [*told, *there]}
    if landed is not None:
        _check_landed(report, known, list(landed))
    if rows is not None and held is not None:
        _check_tables(report, known, list(rows), list(held))
    if counted is not None:
        _check_counts(report, known, counted)
    return report


def _check_written(report: Report, told: list[Record], there: list[Record]) -> None:
    """What was acknowledged is there as it was sent, and the newest version last."""
    report.doubled += _twice("acknowledged", (record.at for record in told))
    found = {record.at: record for record in there}
    for record in told:
        same = found.get(record.at)
        if same is None:
            report.lost.append(f"{_name(record.at)} was acknowledged and is not there")
        elif None not in {record.value, same.value} and record.value != same.value:
            report.lost.append(f"{_name(record.at)} is another record than the one that was acknowledged")
    newest = _newest(there)
    versions: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in told:
        if record.ind is not None:
            versions[record.table, record.ind].append(record)
    for post, (*earlier, last) in versions.items():
        winner = newest.get(post, last)
        if winner.at != last.at and winner.value != last.value and _is_one_of(winner, earlier):
            report.misordered.append(
                f"{post[0]} {post[1]}: {_name(last.at)} was acknowledged last, and an earlier version is behind it "
                f"at {_name(winner.at)}"
            )


def _is_one_of(winner: Record, earlier: list[Record]) -> bool:
    return any(
        winner.at == each.at or (winner.value is not None and winner.value == each.value) for each in earlier
    )


def _check_landed(report: Report, known: Mapping[Place, Record], lines: list[Line]) -> None:
    """Each record lies in the bucket, whatever else lies at its offset is the same, and nothing else does."""
    found: dict[Place, Line] = {}
    for line in lines:
        other = found.setdefault(line.at, line)
        if (other.value, other.is_dead_letter) != (line.value, line.is_dead_letter):
            report.doubled.append(
                f"{_name(line.at)} is one record in {other.object} and another in {line.object}"
            )
    for at, record in known.items():
        if at not in found:
            report.lost.append(f"{_name(at)} is in no object")
        elif record.value is not None and found[at].value != record.value:
            report.lost.append(f"{_name(at)} is another record in {found[at].object}")
    report.unaccounted += [
        f"{_name(at)} is in {line.object} and nobody sent it" for at, line in found.items() if at not in known
    ]


def _check_tables(
    report: Report, known: Mapping[Place, Record], rows: list[Record], held: list[Record]
) -> None:
    """Each post has one row, its newest readable version; each unreadable record is held once."""
    report.doubled += _twice("a row of post", ((row.table, "", row.ind or 0) for row in rows))
    report.doubled += _twice("in quarantine", (record.at for record in held))
    in_quarantine = {record.at: record for record in held}
    report.doubled += [
        f"{_name(row.at)} is a row and in quarantine" for row in rows if row.at in in_quarantine
    ]
    report.lost += [
        f"{_name(at)} cannot be read and is not in quarantine"
        for at, record in known.items()
        if record.ind is None and at not in in_quarantine
    ]
    _check_rows(report, known, rows)
    _check_held(report, known, held)


def _check_rows(report: Report, known: Mapping[Place, Record], rows: list[Record]) -> None:
    row_of = {(row.table, row.ind): row for row in rows}
    for post, record in _newest(known.values()).items():
        row = row_of.get(post)
        if row is None:
            report.lost.append(f"{post[0]} {post[1]}, last at {_name(record.at)}, has no row")
        elif row.at in known and row.at != record.at and known[row.at].ind == row.ind:
            report.misordered.append(
                f"{post[0]} {post[1]} has the version of {_name(row.at)}, and the newest is {_name(record.at)}"
            )
    for row in rows:
        if row.at not in known or known[row.at].ind != row.ind:
            report.unaccounted.append(
                f"the row of {row.table} {row.ind} is of {_name(row.at)}, which is not that post"
            )


def _check_held(report: Report, known: Mapping[Place, Record], held: list[Record]) -> None:
    for record in held:
        if record.at not in known:
            report.unaccounted.append(f"{_name(record.at)} is in quarantine and nobody sent it")
        elif known[record.at].ind is not None:
            report.unaccounted.append(f"{_name(record.at)} is in quarantine and can be read")
        elif None not in {record.value, known[record.at].value} and record.value != known[record.at].value:
            report.lost.append(f"{_name(record.at)} is in quarantine with other bytes")


def _newest(records: Iterable[Record]) -> dict[tuple[str, int], Record]:
    """The newest readable version of each post."""
    newest: dict[tuple[str, int], Record] = {}
    for record in records:
        if record.ind is not None:
            post = record.table, record.ind
            newest[post] = max(record, newest.get(post, record), key=lambda each: each.order)
    return newest


def _check_counts(
    report: Report, known: Mapping[Place, Record], counted: Mapping[str, Mapping[str, int]]
) -> None:
    """The ledger counts each record once, and says of it what became of it."""
    for table, counts in counted.items():
        records = [record for record in known.values() if record.table == table]
        posts = len({record.ind for record in records if record.ind is not None})
        unreadable = sum(record.ind is None for record in records)
        expected = {
            "read": len(records),
            "clean": posts,
            "superseded": len(records) - unreadable - posts,
            "quarantined": unreadable,
            "missing": 0,
        }
        for name, count in counts.items():
            if count != expected[name]:
                kind = report.lost if (name == "missing") != (count < expected[name]) else report.doubled
                kind.append(f"the ledger of {table} says {count} {name}, and it is {expected[name]}")
        parts = [counts.get(name) for name in ("read", "clean", "superseded", "quarantined")]
        if (
            None not in parts
            and counts["read"] != counts["clean"] + counts["superseded"] + counts["quarantined"]
        ):
            report.unaccounted.append(f"the ledger of {table} does not add up: {dict(counts)}")


def _twice(what: str, places: Iterable[Place]) -> list[str]:
    return [f"{_name(at)} is {count} times {what}" for at, count in Counter(places).items() if count > 1]


def _name(at: Place) -> str:
    table, shard, place = at
    return f"{table} {shard}/{place}" if shard else f"{table} {place}"


def record_of(table: str, shard: object, place: object, value: bytes | None) -> Record:
    """A record as one's own producer sends it: JSON with a number, or something that cannot be read."""
    key = "index" if table == "pin" else "ind"
    try:
        ind = json.loads(value or b"")[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        ind = None
    return Record(table, str(shard), int(str(place)), ind if type(ind) is int else None, value)


def lines_of(objects: Mapping[str, bytes], prefix: str) -> list[Line]:
    """The lines of the sink's objects, by their keys below ``topics/``."""
    name = re.compile(
        rf"(?:.*/)?topics/{re.escape(prefix)}\.(pin|geo|user)(\.dead-letters)?/partition=(\d+)/[^/]*\+(\d+)\.json"
    )
    found = []
    for key, content in objects.items():
        if not (match := name.fullmatch(key)):
            continue
        table, dead, shard, first = match.groups()
        for number, line in enumerate(content.removesuffix(b"\n").split(b"\n") if content else ()):
            value = _opened(line) if dead else line
            found.append(Line(table, shard, int(first) + number, value, key, dead is not None))
    return found


def _opened(envelope: bytes) -> bytes | None:
    raw = json.loads(envelope)["raw"]
    return None if raw is None else base64.b64decode(raw)


def counts_of(ledger: Iterable[Mapping[str, Any]], table: str, *, event: str = "committed") -> dict[str, int]:
    """What the rows of the table ``ledger`` say of a clean table, since it was last filled anew.

    The stream tables have no steps that are committed: ``event`` is ``planned`` for them.
    """
    steps = [row for row in ledger if row["table"] == table and row["event"] == event]
    start = max((row["interval"] for row in steps if row["kind"] == "refresh"), default=0)
    since = [row for row in steps if row["interval"] >= start]
    total = {name: sum(row[name] for row in since) for name in ("read", "clean", "superseded", "quarantined")}
    replaced = sum(row["replaced"] for row in since)
    return {**total, "clean": total["clean"] - replaced, "superseded": total["superseded"] + replaced}
