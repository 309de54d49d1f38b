"""The sink's objects: how they are named and found, and which offsets of each are still to be taken.

An object's first offset plus the number of a line is the offset of the record in that line, so progress is kept
in offsets, never in names: a sink that was killed between an upload and its commit writes the same object again,
perhaps longer, or another one that overlaps it. Plain Python; nothing here knows Spark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pinterest_lake.addresses import redacted

LOOK_BACK = 256
"""How many of the newest objects of a partition are looked at again.

A sink rewrites what it had uploaded and not yet committed; that is a few objects, never hundreds.
"""

DEAD_LETTERS = ".dead-letters"
"""Stands behind the topic's name where objects hold what the sink could not write as lines, in envelopes."""

Range = tuple[int, int]
"""Offsets from the first, included, to the second, excluded."""


class StorageError(Exception):
    """The storage cannot be read; the text says where, why, and what to do."""


@dataclass(frozen=True, order=True)
class SinkObject:
    """One object of the sink: partition, first offset and size in bytes name what it holds."""

    partition: int
    first: int
    size: int
    path: str = field(compare=False)


@dataclass(frozen=True)
class PartitionProgress:
    """How far one partition has been read: all below ``floor``, and the objects (first, end, size) above it."""

    floor: int = 0
    objects: tuple[tuple[int, int, int], ...] = ()

    @property
    def covered(self) -> list[Range]:
        """The offsets that have been taken, as ranges in order."""
        return merged([(0, self.floor), *((first, end) for first, end, _ in self.objects)])

    @property
    def next_offset(self) -> int:
        """One past the newest offset taken."""
        return max([self.floor, *(end for _, end, _ in self.objects)])

    def has(self, item: SinkObject) -> bool:
        """Whether the object was read, as it is now."""
        return any((first, size) == (item.first, item.size) for first, _, size in self.objects)

    def advanced(self, read: Iterable[tuple[int, int, int]]) -> PartitionProgress:
        """The progress after reading further objects (first, end, size)."""
        ends: dict[int, tuple[int, int, int]] = {item[0]: item for item in self.objects}
        for first, end, size in read:
            ends[first] = (first, max(end, ends.get(first, (0, 0, 0))[1]), size)
        newest = sorted(ends.values())[-LOOK_BACK:]
        floor = newest[0][0] if len(ends) > LOOK_BACK else self.floor
        return PartitionProgress(max(floor, self.floor), tuple(newest))


Progress = dict[int, PartitionProgress]


def dump_progress(progress: Progress) -> dict[str, Any]:
    """As JSON keeps it."""
    return {
        str(partition): {
            "next": item.next_offset,
            "floor": item.floor,
            "objects": [list(o) for o in item.objects],
        }
        for partition, item in sorted(progress.items())
    }


def load_progress(data: Mapping[str, Any]) -> Progress:
    """The opposite of ``dump_progress``."""
    return {
        int(partition): PartitionProgress(item["floor"], tuple((f, e, s) for f, e, s in item["objects"]))
        for partition, item in data.items()
    }


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same offsets as few ranges in order."""
    result: list[Range] = []
    for start, end in sorted(item for item in ranges if item[0] < item[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """The offsets of ``ranges`` that are not in ``taken``."""
    left = merged(ranges)
    for start, end in merged(taken):
        left = [
            piece for a, b in left for piece in ((a, min(b, start)), (max(a, end), b)) if piece[0] < piece[1]
        ]
    return left


def within(ranges: Iterable[Range], wanted: Sequence[Range]) -> list[Range]:
    """The offsets that are in both."""
    ranges = merged(ranges)
    return without(ranges, without(ranges, wanted))


@dataclass(frozen=True)
class Take:
    """Offsets from ``start`` to ``end`` (excluded) to be taken from the object that begins at ``first``."""

    partition: int
    first: int
    start: int
    end: int


def assign(
    lengths: Mapping[tuple[int, int], int],
    progress: Progress,
    wanted: Mapping[int, Sequence[Range]] | None = None,
) -> list[Take]:
    """Says which offsets to take from which object, so that each offset is taken once.

    ``lengths`` gives the number of lines of each object (partition, first offset). What ``progress`` covers is
    left out, and so is what is not in ``wanted`` (None: everything is wanted).
    """
    covered = {partition: item.covered for partition, item in progress.items()}
    takes = []
    for (partition, first), lines in sorted(lengths.items()):
        done = covered.setdefault(partition, [])
        left = without([(first, first + lines)], done)
        if wanted is not None:
            left = within(left, wanted.get(partition, []))
        takes += [Take(partition, first, start, end) for start, end in left]
        covered[partition] = merged([*done, *left])
    return takes


def candidates(listed: Iterable[SinkObject], progress: Progress) -> list[SinkObject]:
    """The objects that may hold offsets not taken yet: new ones, and those that have changed their size."""
    nothing = PartitionProgress()
    return sorted(
        item
        for item in listed
        if item.first >= progress.get(item.partition, nothing).floor
        and not progress.get(item.partition, nothing).has(item)
    )


class Lister(Protocol):
    """Gives what lies under a folder of the storage: (path, size) of objects, or folders by name."""

    def folders(self, folder: str) -> Iterable[str]: ...

    def files(self, folder: str, after: str) -> Iterable[tuple[str, int]]: ...


def find(lister: Lister, topic: str, progress: Progress) -> Iterator[SinkObject]:
    """All objects of a topic that may hold something new, and the newest ``LOOK_BACK`` of each partition.

    Names sort by offset (10 digits), so listing starts where the look-back does, whatever lies before.
    """
    root = f"topics/{topic}"
    for name in lister.folders(root):
        match = re.fullmatch(r"partition=([0-9]+)", name)
        if not match:
            continue
        partition = int(match[1])
        floor = progress.get(partition, PartitionProgress()).floor
        folder = f"{root}/{name}"
        for path, size in lister.files(folder, f"{topic}+{partition}+{floor:010d}"):
            item = re.fullmatch(
                rf"{re.escape(topic)}\+{partition}\+([0-9]{{10,}})\.json", path.rsplit("/", 1)[-1]
            )
            if item:
                yield SinkObject(partition, int(item[1]), size, path)


class FolderLister:
    """Lists through ``dbutils.fs.ls``: works for mounts, volumes and buckets, but lists whole folders."""

    def __init__(self, storage: str, ls: Callable[[str], Iterable[Any]]) -> None:
        self._storage = storage.rstrip("/")
        self._ls = ls

    def folders(self, folder: str) -> list[str]:
        return sorted(item.name.rstrip("/") for item in self._list(folder))

    def files(self, folder: str, after: str) -> list[tuple[str, int]]:
        found = [(item.path, item.size) for item in self._list(folder) if item.name > after]
        return sorted(found)

    def _list(self, folder: str) -> list[Any]:
        try:
            return list(self._ls(f"{self._storage}/{folder}"))
        except Exception as error:
            if is_missing(error):
                return []
            raise StorageError(
                f"{self._storage}/{folder} cannot be listed: {first_line(error)}. "
                "Check that the cluster may read the bucket, or run configure again."
            ) from error


class BucketLister:
    """Lists a bucket with S3's own ListObjectsV2, which can start after a key."""

    def __init__(self, storage: str, bucket: str, root: str, client: Any) -> None:
        self._storage = storage.rstrip("/")
        self._bucket = bucket
        self._root = root.strip("/")
        self._client = client

    def folders(self, folder: str) -> list[str]:
        prefix = self._key(folder) + "/"
        pages = self._pages(Prefix=prefix, Delimiter="/")
        return [
            item["Prefix"].removeprefix(prefix).rstrip("/")
            for page in pages
            for item in page.get("CommonPrefixes", [])
        ]

    def files(self, folder: str, after: str) -> list[tuple[str, int]]:
        prefix = self._key(folder) + "/"
        pages = self._pages(Prefix=prefix, StartAfter=prefix + after)
        return [
            (f"{self._storage}/{folder}/{item['Key'].removeprefix(prefix)}", item["Size"])
            for page in pages
            for item in page.get("Contents", [])
        ]

    def _key(self, folder: str) -> str:
        return f"{self._root}/{folder}".strip("/")

    def _pages(self, **request: str) -> Iterator[Mapping[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, **request)
        try:
            yield from pages
        except Exception as error:
            raise StorageError(
                f"{self._storage} cannot be listed: {first_line(error)}. "
                "Check the bucket's name and that the cluster may list it."
            ) from error


def is_missing(error: Exception) -> bool:
    """Return whether an error of ``dbutils.fs`` says that there is nothing at a path."""
    text = str(error)
    return isinstance(error, FileNotFoundError) or any(
        sign in text for sign in ("FileNotFoundException", "No such file", "does not exist", "Path not found")
    )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says; a mount's address may hold keys, which are left out."""
    return redacted((str(error).strip() or type(error).__name__).splitlines()[0])[:300]
