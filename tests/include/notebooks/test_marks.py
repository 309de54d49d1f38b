"""What becomes of records is decided by their places alone: in whatever batches they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyspark", reason="the notebooks are tested with .venv/databricks")

from pinterest_lake.ledger import Counts
from pinterest_lake.marks import (
    RENUMBERED_AFTER,
    Facts,
    Place,
    RenumberedError,
    StreamView,
    advanced,
    decide,
    earlier,
    later,
    place,
    within,
)

Record = tuple[str, str, int | None, bool]
"""shard, sequence number, post (None: cannot be read), whether its follower count is none."""


def facts(records: list[Record], arrived: int = 0) -> Facts:
    return Facts(
        shard=[record[0] for record in records],
        number=[record[1] for record in records],
        arrived=[arrived] * len(records),
        size=[1] * len(records),
        ind=[record[2] for record in records],
        reason=["blank" if record[2] is None else None for record in records],
        flagged=[record[3] for record in records],
    )


@pytest.mark.parametrize(
    ("one", "other", "is_later"),
    [
        ("9", "10", "10"),
        ("4" * 56, "4" * 55 + "5", "4" * 55 + "5"),
        ("9" * 55, "1" * 56, "1" * 56),
        ("", "0", "0"),
    ],
)
def test_sequence_numbers_compare_as_numbers(one: str, other: str, is_later: str) -> None:
    is_earlier = one if is_later == other else other
    assert later(one, other) == later(other, one) == is_later
    assert earlier(one, other) == earlier(other, one) == is_earlier


def test_marks_never_go_back() -> None:
    assert advanced({"a": "10", "b": "5"}, {"a": "9", "c": "1"}) == {"a": "10", "b": "5", "c": "1"}
    assert within({"a": "10", "b": "5", "gone": "7"}, {"a": "9", "b": "50"}) == {"a": "9", "b": "5"}


def test_the_newest_readable_record_of_a_post_is_its_row() -> None:
    index: dict[int, Place] = {1: place("a", "5"), 2: place("a", "6"), 3: place("a", "99")}
    records: list[Record] = [
        ("a", "10", 1, False),  # takes the place of a row
        ("a", "11", 1, True),  # and this one the place of that
        ("a", "6", 2, False),  # is the row
        ("a", "12", 3, False),  # older than the row
        ("a", "13", None, False),
        ("b", "100", 4, True),
    ]
    decided = decide(facts(records), index)
    assert decided.rows == {1: place("a", "11"), 4: place("b", "100")}
    assert decided.counts == Counts(
        read=6, clean=3, superseded=2, quarantined=1, replaced=1, unparsable=2, by_reason={"blank": 1}
    )
    assert decided.left == 3


history = st.lists(
    st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(0, 5)), st.booleans()), max_size=40
)


@given(history, st.data())
def test_any_batches_give_the_same_rows_and_counts(drawn: list[Any], data: st.DataObject) -> None:
    """Shards come at their own pace, and what has come comes again."""
    numbered = [(shard, str(10**29 + at), ind, flag) for at, (shard, ind, flag) in enumerate(drawn)]
    waiting = {name: [record for record in numbered if record[0] == name] for name in "ab"}
    index: dict[int, Place] = {}
    total, marks = Counts(), dict[str, str]()
    done: list[Record] = []
    while any(waiting.values()):
        batch: list[Record] = data.draw(st.lists(st.sampled_from(done), max_size=5)) if done else []
        for left in waiting.values():
            taken = data.draw(st.integers(1, max(1, len(left))))
            batch += left[:taken]
            done += left[:taken]
            del left[:taken]
        new = facts(batch).after(marks)
        decided = decide(new, index)
        index.update(decided.rows)
        total, marks = total + decided.counts, advanced(marks, new.ends)

    newest = {ind: place(shard, number) for shard, number, ind, _ in numbered if ind is not None}
    unreadable = sum(ind is None for _, _, ind, _ in numbered)
    assert index == newest
    standing = total.standing()
    assert (standing.read, standing.clean, standing.quarantined, standing.superseded) == (
        len(numbered),
        len(newest),
        unreadable,
        len(numbered) - unreadable - len(newest),
    )


def test_a_record_that_is_given_twice_is_one() -> None:
    records = facts([("a", "9", 1, False), ("b", "9", 2, False), ("a", "9", 1, False), ("a", "10", 1, False)])
    assert records.once == facts([("a", "9", 1, False), ("b", "9", 2, False), ("a", "10", 1, False)])
    assert records.once.once is records.once


def test_a_reader_that_comes_back_after_the_retention_may_have_missed_records() -> None:
    """Not of a shard that was read within it, nor of one that was split, and whose children were begun."""
    hour = 3_600_000
    view = StreamView(
        24 * hour, {"idle": [], "busy": [], "left": ["split"], "right": ["split"], "new": ["unread"]}
    )
    read_until = {"idle": 10 * hour, "busy": 40 * hour, "split": hour, "unread": 2 * hour}
    marks = dict.fromkeys(("idle", "busy", "split", "left", "unread"), "1")
    assert view.may_be_lost(read_until, marks, 34 * hour) == {"unread": (2 * hour, 10 * hour)}
    assert view.may_be_lost(read_until, marks, 50 * hour) == {
        "idle": (10 * hour, 26 * hour),
        "unread": (2 * hour, 26 * hour),
    }


def test_what_lies_behind_the_marks_is_new() -> None:
    records = facts([("a", "9", 1, False), ("a", "10", 2, False), ("b", "1", 3, False)])
    assert records.after({}) == records
    assert records.after({"a": "9"}) == facts([("a", "10", 2, False), ("b", "1", 3, False)])
    assert records.after({"a": "10", "b": "1"}).number == []
    assert records.ends == {"a": "10", "b": "1"}


def test_a_stream_that_numbers_from_the_start_again_is_named() -> None:
    again = facts([("a", "3", 1, False)], arrived=1_700_000_000_000)
    again.check({"a": "2"}, {"a": 0})
    again.check({"a": "12"}, {"a": 1_700_000_000_000 - RENUMBERED_AFTER})  # read again, it may well be
    again.check({"a": "12"}, {})
    with pytest.raises(
        RenumberedError, match="record 3, which came at 1700000000000 ms, long after record 12"
    ):
        again.check({"a": "12"}, {"a": 1_700_000_000_000 - RENUMBERED_AFTER - 1})
