"""The checker finds each kind of fault, in a history that is whole but for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.history import Line, Record, Report, check, counts_of, lines_of, record_of

GOOD = [
    Record("geo", "0", 0, 1, b"1a"),
    Record("geo", "0", 1, 2, b"2"),
    Record("geo", "0", 2, None, b"bad"),
    Record("geo", "0", 3, 1, b"1b"),
    Record("geo", "1", 0, 3, b"3"),
    Record("geo", "1", 1, None, None),
]
COUNTS = {"read": 6, "clean": 3, "superseded": 1, "quarantined": 2, "missing": 0}


def whole() -> dict[str, Any]:
    """Every end of the leg, as it has to be."""
    return {
        "acknowledged": list(GOOD),
        "written": list(GOOD),
        "landed": [
            Line(r.table, r.shard, r.place, r.value, "o", r.value is None)
            for r in [*GOOD, GOOD[1]]  # an object was written again, and overlaps
        ],
        "rows": [GOOD[3], GOOD[1], GOOD[4]],
        "held": [GOOD[2], GOOD[5]],
        "counted": {"geo": dict(COUNTS)},
    }


def checked(history: dict[str, Any]) -> Report:
    return check(history.pop("acknowledged"), **history)


def test_a_whole_history() -> None:
    assert not checked(whole())
    assert str(checked(whole())) == ""


def test_what_was_written_and_not_acknowledged_has_to_arrive_too() -> None:
    history = whole()
    history["acknowledged"].remove(GOOD[4])
    assert not checked(history)
    history = whole()
    history["acknowledged"].remove(GOOD[4])
    history["rows"].remove(GOOD[4])
    assert checked(history).lost == ["geo 3, last at geo 1/0, has no row"]


Break = Callable[[dict[str, Any]], Any]

FAULTS: dict[str, tuple[Break, str, str]] = {
    "gone from the topic": (
        lambda h: h["written"].remove(GOOD[1]),
        "lost",
        "geo 0/1 was acknowledged and is not there",
    ),
    "another topic of that name": (
        lambda h: h["written"].__setitem__(1, replace(GOOD[1], value=b"other")),
        "lost",
        "geo 0/1 is another record than the one that was acknowledged",
    ),
    "one position told twice": (
        lambda h: h["acknowledged"].append(GOOD[1]),
        "doubled",
        "geo 0/1 is 2 times acknowledged",
    ),
    "an old version behind a new one": (
        lambda h: h["written"].append(replace(GOOD[0], place=9)),
        "misordered",
        "geo 1: geo 0/3 was acknowledged last, and an earlier version is behind it at geo 0/9",
    ),
    "an old version in a partition further on": (
        lambda h: h["acknowledged"].append(Record("geo", "4", 0, 1, b"1c")),
        "misordered",
        "geo 1: geo 4/0 was acknowledged last, and an earlier version is behind it at geo 0/3",
    ),
    "replaced by a shorter object": (
        lambda h: h["landed"].pop(3),
        "lost",
        "geo 0/3 is in no object",
    ),
    "overwritten by another record": (
        lambda h: h["landed"].__setitem__(0, replace(h["landed"][0], value=b"other")),
        "lost",
        "geo 0/0 is another record in o",
    ),
    "a line and a dead letter": (
        lambda h: h["landed"].append(replace(h["landed"][0], object="d", is_dead_letter=True)),
        "doubled",
        "geo 0/0 is one record in o and another in d",
    ),
    "aborted and landed": (
        lambda h: h["landed"].append(Line("geo", "0", 7, b"x", "o")),
        "unaccounted",
        "geo 0/7 is in o and nobody sent it",
    ),
    "a row is missing": (
        lambda h: h["rows"].remove(GOOD[1]),
        "lost",
        "geo 2, last at geo 0/1, has no row",
    ),
    "a row twice": (lambda h: h["rows"].append(GOOD[1]), "doubled", "geo 2 is 2 times a row of post"),
    "the older version won": (
        lambda h: h["rows"].__setitem__(0, GOOD[0]),
        "misordered",
        "geo 1 has the version of geo 0/0, and the newest is geo 0/3",
    ),
    "a row of nothing": (
        lambda h: h["rows"].append(Record("geo", "0", 8, 8)),
        "unaccounted",
        "the row of geo 8 is of geo 0/8, which is not that post",
    ),
    "not in quarantine": (
        lambda h: h["held"].remove(GOOD[2]),
        "lost",
        "geo 0/2 cannot be read and is not in quarantine",
    ),
    "twice in quarantine": (
        lambda h: h["held"].append(GOOD[2]),
        "doubled",
        "geo 0/2 is 2 times in quarantine",
    ),
    "a row and in quarantine": (
        lambda h: h["held"].append(GOOD[1]),
        "doubled",
        "geo 0/1 is a row and in quarantine",
    ),
    "in quarantine and readable": (
        lambda h: h["held"].append(GOOD[0]),
        "unaccounted",
        "geo 0/0 is in quarantine and can be read",
    ),
    "in quarantine with other bytes": (
        lambda h: h["held"].__setitem__(0, replace(GOOD[2], value=b"x")),
        "lost",
        "geo 0/2 is in quarantine with other bytes",
    ),
    "counted twice": (
        lambda h: h["counted"]["geo"].update(read=7, superseded=2),
        "doubled",
        "the ledger of geo says 7 read, and it is 6",
    ),
    "not counted": (
        lambda h: h["counted"]["geo"].update(read=5, superseded=0),
        "lost",
        "the ledger of geo says 5 read, and it is 6",
    ),
    "told to be missing": (
        lambda h: h["counted"]["geo"].update(missing=2),
        "lost",
        "the ledger of geo says 2 missing, and it is 0",
    ),
    "does not add up": (
        lambda h: h["counted"]["geo"].update(read=7),
        "unaccounted",
        "the ledger of geo does not add up: {'read': 7, 'clean': 3, 'superseded': 1, 'quarantined': 2, 'missing': 0}",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "told"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_told(damage: Break, kind: str, told: str) -> None:
    history = whole()
    damage(history)
    report = checked(history)
    assert report
    assert told in getattr(report, kind)
    assert kind.upper() in str(report)


def test_sequence_numbers_are_compared_as_numbers() -> None:
    old, new = Record("pin", "s", 10**55 - 1, 7, b"old"), Record("pin", "s", 10**55, 7, b"new")
    assert not check([old, new], rows=[new], held=[])
    assert check([old, new], rows=[old], held=[]).misordered


def test_readers() -> None:
    envelope = json.dumps({"reason": "null_value", "raw": None}).encode()
    objects = {
        "topics/p.geo/partition=2/p.geo+2+0000000005.json": b'{"ind": 7}\n\n',
        "topics/p.geo.dead-letters/partition=2/p.geo.dead-letters+2+0000000007.json": envelope + b"\n",
        "topics/other/partition=2/other+2+0000000007.json": b"x\n",
    }
    lines = lines_of(objects, "p")
    assert [(line.at, line.value, line.is_dead_letter) for line in lines] == [
        (("geo", "2", 5), b'{"ind": 7}', False),
        (("geo", "2", 6), b"", False),
        (("geo", "2", 7), None, True),
    ]
    assert [record_of("geo", 2, "5", line.value).ind for line in lines] == [7, None, None]
    assert record_of("pin", "s", 1, b'{"index": "7"}').ind is None


def test_counts_since_the_last_refresh() -> None:
    step = {"table": "geo", "read": 3, "clean": 2, "superseded": 0, "quarantined": 1, "replaced": 1}
    steps = [
        {**step, "interval": 1, "kind": "increment", "event": "committed"},
        {**step, "interval": 2, "kind": "refresh", "event": "committed", "replaced": 0},
        {**step, "interval": 3, "kind": "increment", "event": "committed"},
        {**step, "interval": 4, "kind": "increment", "event": "planned"},
    ]
    assert counts_of(steps, "geo") == {"read": 6, "clean": 3, "superseded": 1, "quarantined": 2}
