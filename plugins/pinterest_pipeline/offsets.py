"""
Ranges of offsets, and the objects that the S3 sink writes for them.

A range is ``[first, last]``, both inclusive. An object holds one record a line, so it covers the offsets
from the first one, which its key tells, on; a gap in the offsets always starts a new object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Range = tuple[int, int]

SUFFIX = ".json"
_FIRST_OFFSET = re.compile(r"\+(\d+)\.json$")


def merge(ranges: Iterable[Iterable[int]]) -> list[Range]:
    """Return the same offsets as ascending ranges that neither touch nor overlap."""
    merged: list[Range] = []
    for first, last in sorted((int(a), int(b)) for a, b in ranges):
        if first > last:
            raise ValueError(f"a range ends before it starts: [{first}, {last}]")
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def subtract(ranges: Iterable[Range], covered: Iterable[Range]) -> list[Range]:
    """Return what of `ranges` none of `covered` covers; both ascending and without overlaps."""
    left: list[Range] = []
    holes = list(covered)
    for first, last in ranges:
        for hole_first, hole_last in holes:
            if hole_last < first or hole_first > last:
                continue
            if hole_first > first:
                left.append((first, hole_first - 1))
            first = hole_last + 1
        if first <= last:
            left.append((first, last))
    return left


def count(ranges: Iterable[Range]) -> int:
    """Return how many offsets the ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


def partition_prefix(topics_dir: str, topic: str, partition: int | str) -> str:
    """Return the key prefix of a partition's objects."""
    return f"{topics_dir}/{topic}/partition={partition}/"


def key_before(topics_dir: str, topic: str, partition: int | str, offset: int) -> str:
    """Return a key that sorts before the object that starts at `offset`, and after all that start earlier."""
    return f"{partition_prefix(topics_dir, topic, partition)}{topic}+{partition}+{offset:010d}"


def first_offset(key: str) -> int | None:
    """Return the offset of an object's first record, or None if the key is not the sink's."""
    match = _FIRST_OFFSET.search(key)
    return int(match.group(1)) if match else None


def describe(ranges: Iterable[Range], limit: int = 5) -> str:
    """Return ranges as a person reads them: ``3, 7–9 and 2 more ranges``."""
    listed = list(ranges)
    shown = ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in listed[:limit])
    more = len(listed) - limit
    return f"{shown} and {more} more range(s)" if more > 0 else shown
