"""The sink's objects: how they are named and found, and which offsets of each are still to be taken.

An object's first offset plus the number of a line is the offset of the record in that line, so progress is kept
in offsets, never in names: a sink that was killed between an upload and its commit writes the same object again,
perhaps longer, or another one that overlaps it. Plain Python; nothing here knows Spark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pinterest_lake.addresses import redacted

NOTES = "kafka/topics"
"""Folder in which ``create_topics`` notes which topics the objects come from."""

LOOK_BACK = 256
"""How many of the newest objects of a partition are looked at again.

A sink rewrites what it had uploaded and not yet committed; that is a few objects, never hundreds.
"""

DEAD_LETTERS = ".dead-letters"
"""Stands behind the topic's name where objects hold what the sink could not write as lines, in envelopes."""

MOST_RECORDS = 9 * 10**9
"""Offsets a partition may come to. A name pads its offset to ten digits, and one of eleven sorts before most of ten."""

Range = tuple[int, int]
"""Offsets from the first, included, to the second, excluded."""


class StorageError(Exception):
    """The storage cannot be read; the text says where, why, and what to do."""


class PositionError(StorageError):
    """Objects are not those that the positions taken so far belong to; to try again ends the same."""


@dataclass(frozen=True, order=True)
class SinkObject:
    """One object of the sink: partition, first offset and size in bytes name what it holds."""

    partition: int
    first: int
    size: int
    path: str = field(compare=False)

    @property
    def is_dead_letters(self) -> bool:
        """Whether it holds envelopes."""
        return f"{DEAD_LETTERS}+" in self.path


@dataclass(frozen=True)
class PartitionProgress:
    """How far one partition has been read: all below ``floor``, and the objects (first, end, size) above it.

    Below ``settled``, everything had been stored when the bucket was listed: what is not there will not come.
    """

    floor: int = 0
    objects: tuple[tuple[int, int, int], ...] = ()
    settled: int = 0

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

    def advanced(self, read: Iterable[tuple[int, int, int]], settled: int = 0) -> PartitionProgress:
        """Return the progress after reading further objects (first, end, size).

        ``settled`` is an offset below which the listing was complete. The end of the last listing is one, too.
        """
        ends: dict[int, tuple[int, int, int]] = {item[0]: item for item in self.objects}
        for first, end, size in read:
            ends[first] = (first, max(end, ends.get(first, (0, 0, 0))[1]), size)
        settled = max(settled, self.settled, self.next_offset)
        known, floor = sorted(ends.values()), self.floor
        if len(known) > LOOK_BACK:
            floor = max(floor, _between(known, min(known[-LOOK_BACK][0], settled)))
        return PartitionProgress(floor, tuple(item for item in known if item[1] > floor), settled)


def _between(known: Sequence[tuple[int, int, int]], offset: int) -> int:
    """Return the largest offset up to this one that lies within no object: one that does may be written again."""
    for first, end, _ in reversed(known):
        if first < offset < end:
            offset = first
    return offset


Progress = dict[int, PartitionProgress]


def dump_progress(progress: Progress, life: str | None = None) -> dict[str, Any]:
    """As JSON keeps it, with the life of the topic that it belongs to, where that is known."""
    return {
        str(partition): {
            "next": item.next_offset,
            "floor": item.floor,
            "settled": item.settled,
            "objects": [list(o) for o in item.objects],
            **({"topic": life} if life else {}),
        }
        for partition, item in sorted(progress.items())
    }


def load_progress(data: Mapping[str, Any]) -> Progress:
    """The opposite of ``dump_progress``."""
    return {
        int(partition): PartitionProgress(
            item["floor"], tuple((f, e, s) for f, e, s in item["objects"]), item.get("settled", 0)
        )
        for partition, item in data.items()
    }


def life_of(data: Mapping[str, Any]) -> str | None:
    """The life of the topic that ``dump_progress`` was told, if it was."""
    return next((item["topic"] for item in data.values() if "topic" in item), None)


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

    Names sort by offset (10 digits), so listing starts where the look-back does, whatever lies before. Raises
    StorageError for a name that does not sort so.
    """
    root = f"topics/{topic}"
    for name in lister.folders(root):
        match = re.fullmatch(r"partition=(0|[1-9][0-9]*)", name)
        if not match:
            continue
        partition = int(match[1])
        floor = progress.get(partition, PartitionProgress()).floor
        folder = f"{root}/{name}"
        start = f"{floor:010d}" if floor else ""  # of names that do not sort, some sort before the first one
        for path, size in lister.files(folder, f"{topic}+{partition}+{start}"):
            item = re.fullmatch(rf"{re.escape(topic)}\+{partition}\+([0-9]+)\.json", path.rsplit("/", 1)[-1])
            if item:
                yield SinkObject(partition, _first_offset(item[1], path), size, path)


def _first_offset(digits: str, path: str) -> int:
    """Parse the offset of an object's name. Raises PositionError unless names sort by it."""
    first = int(digits)
    if digits != f"{first:010d}":
        raise PositionError(
            f"{path}: the sink pads an offset to ten digits, and this is not named so: a connector with another "
            "filename.offset.zero.pad.width writes here. Set it to 10, and move what it has written elsewhere."
        )
    if first >= MOST_RECORDS:
        raise PositionError(
            f"{path}: this partition has come to offset {first:,}, and names of objects sort up to ten digits. "
            "Go on under a new prefix and schema."
        )
    return first


def settled(listed: Iterable[SinkObject]) -> dict[int, int]:
    """Return for each partition an offset below which a listing holds all there is.

    The sink stores in the order of offsets, in both folders. So at the moment at which the topic's own folder was
    listed, all before its newest object was there; the folder of dead letters, listed later, may be ahead of it.
    """
    ends: dict[int, int] = {}
    for item in listed:
        if not item.is_dead_letters:
            ends[item.partition] = max(item.first, ends.get(item.partition, 0))
    return ends


def ends(progress: Progress, lengths: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """Return where each object (partition, first offset) ends: those known before, and those read since."""
    known = {(partition, o[0]): o[1] for partition, item in progress.items() for o in item.objects}
    return {**known, **{(partition, first): first + lines for (partition, first), lines in lengths.items()}}


def check_claims(listed: Iterable[SinkObject], ends: Mapping[tuple[int, int], int]) -> None:
    """Raise PositionError for offsets that lie both in an object of lines and in one of dead letters.

    ``ends`` tells where objects end; one that it does not know counts as one record.
    """
    folders: dict[int, tuple[list[Range], list[Range]]] = {}
    for item in listed:
        end = ends.get((item.partition, item.first), item.first + 1)
        folders.setdefault(item.partition, ([], []))[item.is_dead_letters].append((item.first, end))
    for partition, (lines, envelopes) in sorted(folders.items()):
        if both := within(lines, envelopes):
            raise PositionError(
                f"partition {partition}: offsets {told(both)} lie both in an object of the topic and in one of its "
                f"dead letters, and only one can be the record. A topic that was made anew, or a second "
                "connector, has written here: move what is not this topic's elsewhere, and run with full_refresh=true."
            )


@dataclass(frozen=True)
class TopicNote:
    """What is noted of a topic beside its objects: its ``life`` differs from that of any other topic of its name."""

    life: str
    partitions: int

    @classmethod
    def parse(cls, text: str) -> TopicNote:
        """Read a note as ``create_topics`` writes it."""
        note = json.loads(text)
        return cls(f"{note['cluster_id']}/{note['topic_id']}", int(note["partitions"]))

    def check_life(self, topic: str, known: str | None) -> None:
        """Raise PositionError when what was taken so far belongs to another life of the topic."""
        if known not in {None, self.life}:
            raise PositionError(
                f"{topic} is not the topic whose records were taken in: that was {known} (cluster/topic id), and "
                f"{NOTES}/{topic}.json names {self.life}. Its offsets begin anew, so new records would pass for read. "
                "When the earlier topic's objects are moved elsewhere, run with full_refresh=true: the table then "
                "holds the new topic's records only. To keep both, set prefix and schema to names not used before."
            )

    def check_partitions(self, topic: str, listed: Iterable[SinkObject]) -> None:
        """Raise PositionError for objects of a partition that the topic did not have."""
        added = sorted({item.partition for item in listed if item.partition >= self.partitions})
        if added:
            raise PositionError(
                f"{topic} had {self.partitions} partition(s) by {NOTES}/{topic}.json, and there are objects of "
                f"partition {told([(number, number + 1) for number in added])}. Versions of a post in different "
                "partitions have no order: an older one can win. Set prefix and schema to names not used before. Where "
                "no post is sent in two versions, delete the note; pinterest_msk_ingestion then notes it anew."
            )


def told(ranges: Sequence[Range], most: int = 5) -> str:
    """Return ranges of offsets as a person reads them, both ends included."""
    first = [f"{start}" if end - start == 1 else f"{start} to {end - 1}" for start, end in ranges[:most]]
    return ", ".join(first) + (f" and {len(ranges) - most} more ranges" if len(ranges) > most else "")


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
            if is_missing(error) and self._can_be_listed():
                return []
            raise StorageError(
                f"{self._storage}/{folder} cannot be listed: {first_line(error)}. "
                "Check that the cluster may read the bucket, or run configure again."
            ) from error

    def _can_be_listed(self) -> bool:
        """Return whether the storage itself is there: a folder of one that is gone is not an empty folder."""
        try:
            self._ls(self._storage)
        except Exception:
            return False
        return True


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


_CONTAINER = re.compile(
    r"\b(bucket|volume|external location|storage credential|catalog|schema)\b[^/]*\b(does not exist|not found)"
    r"|NoSuchBucket|UnknownStore|(VOLUME|LOCATION|CREDENTIAL|CATALOG|SCHEMA)_(DOES_NOT_EXIST|NOT_FOUND)",
    re.IGNORECASE,
)
"""What says that not the folder is missing, but what holds it."""


def is_missing(error: Exception) -> bool:
    """Return whether an error of ``dbutils.fs`` says that there is nothing at a path."""
    text = str(error)
    if _CONTAINER.search(text):
        return False
    return isinstance(error, FileNotFoundError) or any(
        sign in text for sign in ("FileNotFoundException", "No such file", "does not exist", "Path not found")
    )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says; a mount's address may hold keys, which are left out."""
    return redacted((str(error).strip() or type(error).__name__).splitlines()[0])[:300]
