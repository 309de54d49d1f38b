"""Which offsets are taken from which object: in plain Python, over any history of the sink."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinterest_lake import objects
from pinterest_lake.objects import (
    LOOK_BACK,
    BucketLister,
    FolderLister,
    PartitionProgress,
    PositionError,
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
        settled = objects.settled(listed)[0] if listed else 0
        self.progress[0] = self.progress.get(0, PartitionProgress()).advanced(read, settled)
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


class Sink:
    """A partition of a topic of which some records are dead letters, and the objects that a sink makes of it.

    It stores in the order of offsets. After a crash it starts again where it had committed, and cuts otherwise. What it
    stores and has not committed is less than the look-back, but for what it stores once more in other cuts.
    """

    def __init__(self, dead: Sequence[bool], look_back: int) -> None:
        self.dead = dead
        self.look_back = look_back
        self.stored: dict[tuple[bool, int], int] = {}
        self.at = self.committed = self.reached = self.uncommitted = 0
        self.cut = 3

    def store(self, count: int = 1) -> None:
        """Store the next objects."""
        for _ in range(count):
            first, dead = self.at, self.dead[self.at : self.at + 1]
            while (
                self.at < len(self.dead) and self.at - first < self.cut and [self.dead[self.at]] == list(dead)
            ):
                self.at += 1
            if self.at > first:
                key = (bool(dead[0]), first)
                self.stored[key] = max(self.stored.get(key, 0), self.at - first)
            self.uncommitted += self.at > self.reached
            self.reached = max(self.reached, self.at)
            if self.uncommitted >= self.look_back - 1:
                self.commit()

    def commit(self) -> None:
        self.committed, self.uncommitted = self.at, 0

    def crash(self, cut: int) -> None:
        self.at, self.cut = self.committed, cut

    def listed(self, *, dead: bool) -> list[SinkObject]:
        folder = "t.dead-letters" if dead else "t"
        return [
            SinkObject(0, first, lines, f"{folder}+0+{first:010d}.json")
            for (is_dead, first), lines in sorted(self.stored.items())
            if is_dead == dead
        ]


class Batch:
    """Reads what a sink has stored, as the notebooks do: one folder, then the other, then the objects themselves."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.progress: objects.Progress = {}
        self.taken: list[int] = []
        self.lists: list[SinkObject] = []

    def list(self, *, dead: bool) -> None:
        floor = self.progress.get(0, PartitionProgress()).floor
        self.lists += [item for item in self.sink.listed(dead=dead) if item.first >= floor]

    def read(self) -> None:
        found = candidates(self.lists, self.progress)
        now = {item: self.sink.stored[item.is_dead_letters, item.first] for item in found}
        takes = assign({(0, item.first): lines for item, lines in now.items()}, self.progress)
        read = [(item.first, item.first + lines, item.size) for item, lines in now.items()]
        before = self.progress.get(0, PartitionProgress())
        self.progress[0] = before.advanced(read, objects.settled(self.lists).get(0, 0))
        lengths = {(0, item.first): lines for item, lines in now.items()}
        objects.check_claims(self.lists, objects.ends({0: before}, lengths))
        self.taken += [offset for item in takes for offset in range(item.start, item.end)]
        self.lists = []
        holes = set(range(self.progress[0].settled)) - set(self.taken)
        assert not holes, "what is told to be settled has no holes"

    def run(self) -> None:
        self.list(dead=False)
        self.list(dead=True)
        self.read()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(1, 12)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("crash"), st.sampled_from([1, 2, 3, 30])),
        st.tuples(st.just("run"), st.integers(0, 12)),
    ),
    max_size=30,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(dead=st.lists(st.booleans(), min_size=120, max_size=120), rare=st.booleans(), steps=STEPS)
def test_whatever_is_stored_between_two_lists_is_taken_once(
    dead: list[bool], rare: bool, steps: list[tuple[str, int]]
) -> None:
    """Storing, crashing, cutting anew, listing one folder, then the other, and reading, in any order."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(objects, "LOOK_BACK", 4)
        sink = Sink([False] * 40 + dead if rare else dead, look_back=4)
        batch = Batch(sink)
        for step, number in steps:
            if step == "run":
                batch.list(dead=False)
                sink.store(number)
                batch.list(dead=True)
                batch.read()
            elif step == "store":
                sink.store(number)
            elif step == "crash":
                sink.crash(number)
            else:
                sink.commit()
        sink.store(len(sink.dead))
        batch.run()
        batch.run()
    assert sorted(batch.taken) == list(range(len(sink.dead)))


def test_a_flood_of_dead_letters_between_the_two_lists_hides_no_line() -> None:
    """Every record is an object; many come after the topic's folder was listed and before the other one was."""
    sink = Sink([bool(offset % 2) for offset in range(8 * LOOK_BACK)], LOOK_BACK)
    batch = Batch(sink)
    sink.store(1_000)
    batch.list(dead=False)
    sink.store(8 * LOOK_BACK)
    batch.list(dead=True)
    batch.read()
    batch.run()
    assert sorted(batch.taken) == list(range(8 * LOOK_BACK))


def test_a_long_object_cut_anew_into_many_is_still_known_to_its_end() -> None:
    sink = Sink([False] * (40 * LOOK_BACK), LOOK_BACK)
    batch = Batch(sink)
    sink.store()
    sink.commit()
    sink.cut = 39 * LOOK_BACK
    sink.store()
    batch.run()
    sink.crash(10)
    sink.store(2 * LOOK_BACK)
    batch.run()
    assert len(batch.taken) == 3 + 39 * LOOK_BACK, "nothing was new"
    # and it may grow once more before it is committed
    sink.crash(40 * LOOK_BACK)
    sink.store()
    batch.run()
    assert sorted(batch.taken) == list(range(40 * LOOK_BACK))


def test_one_offset_in_both_folders_is_refused() -> None:
    lines = SinkObject(0, 0, 30, "topics/t/partition=0/t+0+0000000000.json")
    envelope = SinkObject(0, 2, 9, "topics/t.dead-letters/partition=0/t.dead-letters+0+0000000002.json")
    same = replace(envelope, first=0)
    objects.check_claims([lines, envelope], {})
    with pytest.raises(PositionError, match="partition 0: offsets 0 lie both"):
        objects.check_claims([lines, same], {})
    ends = objects.ends({0: PartitionProgress(objects=((0, 3, 30),))}, {(0, 2): 2})
    with pytest.raises(PositionError, match=r"partition 0: offsets 2 lie both in .*full_refresh=true"):
        objects.check_claims([lines, envelope], ends)
    objects.check_claims([lines, envelope], {**ends, (0, 0): 2})
    objects.check_claims([lines, replace(envelope, partition=1)], ends)


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


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("p.pin+0+000000000000.json", "filename.offset.zero.pad.width"),
        ("p.pin+0+0.json", "filename.offset.zero.pad.width"),
        ("p.pin+0+9000000000.json", "new prefix"),
        ("p.pin+0+10000000000.json", "new prefix"),
    ],
)
def test_names_that_do_not_sort_by_their_offset_are_refused(name: str, why: str) -> None:
    bucket = Bucket({f"topics/p.pin/partition=0/{name}": 9})
    with pytest.raises(PositionError, match=rf"{re.escape(name)}.*{why}"):
        list(find(BucketLister("s3://b", "b", "", bucket), "p.pin", {}))


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
