from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinterest_pipeline import offsets

RANGES = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=8
)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {offset for first, last in ranges for offset in range(first, last + 1)}


@given(RANGES)
def test_merged_ranges_hold_the_same_offsets(ranges: list[tuple[int, int]]) -> None:
    merged = offsets.merge(ranges)
    assert members(merged) == members(ranges)
    assert offsets.count(merged) == len(members(ranges))
    assert all(before[1] + 1 < after[0] for before, after in pairwise(merged))


@given(RANGES, RANGES)
def test_subtracting_leaves_what_the_others_do_not_cover(
    wanted: list[tuple[int, int]], covered: list[tuple[int, int]]
) -> None:
    left = offsets.subtract(offsets.merge(wanted), offsets.merge(covered))
    assert members(left) == members(wanted) - members(covered)
    assert left == offsets.merge(left)


def test_a_range_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[5, 3\]"):
        offsets.merge([[5, 3]])


def test_the_key_before_an_object_sorts_between_its_neighbours() -> None:
    def key(offset: int) -> str:
        return f"topics/p.pin/partition=0/p.pin+0+{offset:010d}.json"

    before = offsets.key_before("topics", "p.pin", 0, 100)
    assert key(99) < before < key(100)
    assert offsets.first_offset(key(100)) == 100
    assert offsets.first_offset("topics/p.pin/partition=0/readme.txt") is None


def test_ranges_as_a_person_reads_them() -> None:
    assert offsets.describe([(3, 3), (7, 9)]) == "3, 7–9"
    assert offsets.describe([(n, n) for n in range(0, 14, 2)]) == "0, 2, 4, 6, 8 and 2 more range(s)"
