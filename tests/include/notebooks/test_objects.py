"""Which offsets are taken from which object: in plain Python, over any history of the sink."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinterest_lake import objects
from pinterest_lake.objects import (
    LOOK_BACK,
    BucketLister,
    FolderLister,
    PartitionProgress,
    SinkObject,
    StorageError,
    Take,
    assign,
    candidates,
    find,
    merged,
    within,
    without,
)

RANGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6)


def offsets(ranges: Any) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, end)}


@given(RANGES, RANGES)
def test_ranges_are_sets_of_offsets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert offsets(merged(one)) == offsets(one)
    assert offsets(without(one, other)) == offsets(one) - offsets(other)
    assert offsets(within(one, other)) == offsets(one) & offsets(other)
    assert merged(one) == sorted(merged(one))


class History:
    """A bucket with one partition, read run by run."""

    def __init__(self) -> None:
        self.lines: dict[int, int] = {}
        self.progress: objects.Progress = {}
        self.taken: list[int] = []

    def run(self) -> list[Take]:
        listed = [SinkObject(0, first, lines, f"{first}") for first, lines in self.lines.items()]
        found = candidates(listed, self.progress)
        takes = assign({(0, item.first): item.size for item in found}, self.progress)
        read = [(item.first, item.first + item.size, item.size) for item in found]
        self.progress[0] = self.progress.get(0, PartitionProgress()).advanced(read)
        stored = objects.dump_progress(self.progress)
        assert objects.load_progress(stored) == self.progress
        self.taken += [offset for item in takes for offset in range(item.start, item.end)]
        return takes


@given(st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), max_size=4), max_size=8))
def test_each_offset_is_taken_once_whatever_the_sink_rewrites(runs: list[list[tuple[int, int]]]) -> None:
    history = History()
    for written in runs:
        for first, lines in written:
            history.lines[first] = max(lines, history.lines.get(first, 0))
        history.run()
    assert sorted(history.taken) == sorted(offsets((f, f + n) for f, n in history.lines.items()))


def test_the_same_key_again_and_longer() -> None:
    history = History()
    history.lines = {0: 50, 50: 10}
    history.run()
    history.lines = {0: 50, 50: 25}
    assert history.run() == [Take(0, 50, 60, 75)]
    assert history.run() == []


def test_an_older_object_that_overlaps_and_holds_the_tail() -> None:
    history = History()
    history.lines = {0: 50, 50: 50, 100: 50}
    history.run()
    history.lines[90] = 200
    assert history.run() == [Take(0, 90, 150, 290)]


def test_a_gap_that_is_filled_later() -> None:
    history = History()
    history.lines = {0: 10, 20: 10}
    history.run()
    history.lines[10] = 10
    assert history.run() == [Take(0, 10, 10, 20)]


def test_what_was_planned_is_taken_and_nothing_else() -> None:
    assert assign({(0, 0): 10, (0, 5): 20}, {}, {0: [(3, 12)]}) == [Take(0, 0, 3, 10), Take(0, 5, 10, 12)]


def test_progress_does_not_grow_with_history() -> None:
    history = History()
    history.lines = {first: 10 for first in range(0, 10 * (LOOK_BACK + 50), 10)}
    history.run()
    assert len(history.progress[0].objects) == LOOK_BACK
    assert history.progress[0].floor == 500
    assert history.progress[0].next_offset == 10 * (LOOK_BACK + 50)
    assert sorted(history.taken) == list(range(10 * (LOOK_BACK + 50)))


class Bucket:
    """An S3 client over a set of keys; remembers how it was asked."""

    def __init__(self, keys: dict[str, int]) -> None:
        self.keys = keys
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, name: str) -> Any:
        assert name == "list_objects_v2"
        return SimpleNamespace(paginate=self._pages)

    def _pages(self, Bucket: str, Prefix: str, StartAfter: str = "", Delimiter: str = "") -> Any:
        self.asked.append({"StartAfter": StartAfter})
        keys = sorted(key for key in self.keys if key.startswith(Prefix) and key > StartAfter)
        if Delimiter:
            folders = sorted({Prefix + key.removeprefix(Prefix).split("/")[0] + "/" for key in keys})
            yield {"CommonPrefixes": [{"Prefix": folder} for folder in folders]}
            return
        yield {}  # a page may be empty
        yield {"Contents": [{"Key": key, "Size": self.keys[key]} for key in keys]}


def key(first: int, partition: int = 0, topic: str = "p.pin") -> str:
    return f"topics/{topic}/partition={partition}/{topic}+{partition}+{first:010d}.json"


def test_listing_starts_where_the_look_back_does() -> None:
    bucket = Bucket({key(0): 9, key(100): 9, key(200): 9, key(7, partition=11): 5, "topics/p.pin/other": 1})
    progress = {0: PartitionProgress(floor=100, objects=((100, 200, 9),))}
    found = list(find(BucketLister("s3://b", "b", "", bucket), "p.pin", progress))
    assert found == [SinkObject(0, 100, 9, ""), SinkObject(0, 200, 9, ""), SinkObject(11, 7, 5, "")]
    assert found[0].path == "s3://b/" + key(100)
    assert bucket.asked[1]["StartAfter"] < key(100) < key(101)
    assert bucket.asked[1]["StartAfter"] > key(99)
    assert candidates(found, progress) == found[1:]


def test_folders_and_buckets_are_listed_alike(tmp_path: Any) -> None:
    for name in (key(0), key(100), key(7, partition=11), "topics/p.pin/partition=0/_tmp", "topics/p.pin/x"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")

    def ls(folder: str) -> list[Any]:
        from pathlib import Path

        items = sorted(Path(folder).iterdir())
        return [
            SimpleNamespace(path=str(item), name=item.name + "/" * item.is_dir(), size=item.stat().st_size)
            for item in items
        ]

    found = list(find(FolderLister(str(tmp_path), ls), "p.pin", {}))
    assert found == [SinkObject(0, 0, 5, ""), SinkObject(0, 100, 5, ""), SinkObject(11, 7, 5, "")]
    assert list(find(FolderLister(str(tmp_path), ls), "p.geo", {})) == []


def test_a_storage_that_cannot_be_listed_is_named() -> None:
    def ls(folder: str) -> list[Any]:
        raise PermissionError("AccessDenied: no\nat a.java")

    with pytest.raises(
        StorageError, match=r"s3://b/topics/p\.pin cannot be listed: AccessDenied: no\. Check"
    ):
        list(find(FolderLister("s3://b", ls), "p.pin", {}))


@pytest.mark.parametrize(
    "text",
    [
        "Volume 'main.default.pinterest' does not exist.",
        "[VOLUME_DOES_NOT_EXIST] 'main.default.pinterest' is gone",
        "com.databricks.sql.managedcatalog.UnityCatalogServiceException: External Location 'lake' does not exist.",
        "java.io.FileNotFoundException: Bucket pinterest-data does not exist",
        "org.apache.hadoop.fs.s3a.UnknownStoreException: `s3a://pinterest-data/': The specified bucket does not exist",
        "NoSuchBucket: 404",
        "Catalog 'main' was not found",
        "Storage Credential 'lake' does not exist",
    ],
)
def test_a_folder_of_a_storage_that_is_gone_is_not_empty(text: str) -> None:
    def ls(path: str) -> list[object]:
        if path == "s3://b":  # a root may still be answered for, from a cache
            return []
        raise RuntimeError(text)

    with pytest.raises(StorageError, match=r"s3://b/topics/p\.pin cannot be listed: "):
        list(find(FolderLister("s3://b", ls), "p.pin", {}))


def test_a_folder_is_missing_only_in_a_storage_that_is_there() -> None:
    def gone(path: str) -> list[object]:
        raise FileNotFoundError(f"No such file or directory: {path}")

    def there(path: str) -> list[object]:
        return [] if path == "s3://my-bucket" else gone(path)

    with pytest.raises(StorageError, match=r"s3://my-bucket/topics/p\.pin cannot be listed: No such file"):
        list(find(FolderLister("s3://my-bucket", gone), "p.pin", {}))
    assert list(find(FolderLister("s3://my-bucket", there), "p.pin", {})) == []
