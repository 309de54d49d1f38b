"""The batch way in over whole histories: any split, any crash, any rewriting of objects, the same tables."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pinterest_lake import tables
from pinterest_lake.batch import take_in
from pinterest_lake.ledger import Counts, Ledger
from pinterest_lake.objects import FolderLister, StorageError
from pinterest_lake.schemas import RECORDS, clean_columns
from tests.include.notebooks import model
from tests.include.notebooks.conftest import FakeDbutils, Workspace, workspace_in
from tests.include.notebooks.test_quality import HOSTILE, geo
from tests.support import history

Records = dict[tuple[int, int], bytes | None]
"""(offset, partition) → bytes: in this order, the newest is the last."""


class Crash(Exception):
    """Stands for a driver that is killed."""


class Reader:
    """A bucket with geo records, and a table they are taken into, run by run."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.records: Records = {}
        self.runs = 0

    def put(self, first: int, lines: list[bytes], partition: int = 0) -> None:
        self.workspace.put("geo", first, lines, partition)
        self.records |= {(first + number, partition): line for number, line in enumerate(lines)}

    def set_aside(self, first: int, values: list[bytes | None], partition: int = 0) -> None:
        self.workspace.set_aside("geo", first, values, partition)
        self.records |= {(first + number, partition): value for number, value in enumerate(values)}

    def run(
        self,
        *,
        full_refresh: bool = False,
        retry_quarantined: bool = False,
        accept_missing: bool = False,
        run_id: str = "",
    ) -> tuple[Counts, Counts]:
        self.runs += 1
        lake = self.workspace.lake(run_id or f"run-{self.runs}")
        lister = FolderLister(lake.storage, FakeDbutils().fs.ls)
        return take_in(
            self.workspace.spark,
            lake,
            "geo",
            lister,
            full_refresh=full_refresh,
            retry_quarantined=retry_quarantined,
            accept_missing=accept_missing,
        )

    def table(self, name: str) -> Any:
        return self.workspace.spark.table(self.workspace.lake().table(name))

    def version(self) -> int:
        name = self.workspace.lake().table("geo")
        return int(self.workspace.spark.sql(f"DESCRIBE HISTORY {name}").agg(F.max("version")).collect()[0][0])

    def check(self) -> None:
        """Rows, quarantine and ledger are the model's."""
        rows, fate = model.newest("geo", self.records)
        columns = [F.col(name).cast("string") for name in clean_columns("geo")]
        found = sorted(tuple(row) for row in self.table("geo").select(*columns).collect())
        expected = self.workspace.spark.createDataFrame(
            [tuple(row[name] for name in clean_columns("geo")) for row in rows],
            self.table("geo").schema[: len(columns)],
        ).select(*columns)
        assert found == sorted(tuple(row) for row in expected.collect())

        held = {
            (int(row["position"]), int(row["shard"])): (row["reason"], row["raw"] and bytes(row["raw"]))
            for row in self.table("quarantine").collect()
        }
        reasons = {position: model.reason("geo", raw) for position, raw in self.records.items()}
        assert held == {
            position: (reason, self.records[position]) for position, reason in reasons.items() if reason
        }
        assert self.table("quarantine").count() == len(held)

        total = Ledger(self.workspace.spark, self.workspace.lake(), "geo").counts()[1].standing()
        assert (total.read, total.clean, total.superseded, total.quarantined) == (
            len(self.records),
            fate["clean"],
            fate["superseded"],
            fate["quarantined"],
        )
        assert total.by_reason == {
            reason: count for reason, count in Counter(reasons.values()).items() if reason
        } | {reason: 0 for reason, count in total.by_reason.items() if count == 0}
        assert not (report := self.report(reasons)), report

    def report(self, reasons: Mapping[tuple[int, int], str | None]) -> history.Report:
        """What the checker says, which knows of the bucket and the tables, and nothing of the pipeline."""
        put = [
            replace(record, ind=None if reasons[offset, partition] else record.ind)
            for (offset, partition), raw in sorted(self.records.items(), key=itemgetter(0))
            if (record := history.record_of("geo", partition, offset, raw))
        ]
        storage = self.workspace.storage
        objects = {
            str(path.relative_to(storage)): path.read_bytes() for path in storage.glob("topics/*/*/*.json")
        }
        return history.check(
            put,
            landed=history.lines_of(objects, "pinterest"),
            rows=[
                history.Record("geo", str(row["_partition"]), row["_offset"], row["ind"])
                for row in self.table("geo").select("ind", "_partition", "_offset").collect()
            ],
            held=[
                history.Record(
                    "geo", row["shard"], int(row["position"]), None, row["raw"] and bytes(row["raw"])
                )
                for row in self.table("quarantine").select("shard", "position", "raw").collect()
            ],
            counted={"geo": history.counts_of(self.table("ledger").collect(), "geo")},
        )


@pytest.fixture
def reader(workspace: Workspace) -> Reader:
    return Reader(workspace)


def some_lines(seed: int, count: int, posts: int) -> list[bytes]:
    """Versions of a few posts, and hostile lines among them."""
    pick = random.Random(seed)
    hostile = [
        line if isinstance(line, bytes) else line.encode()
        for name, line in HOSTILE.items()
        if name != "large"
    ]
    return [
        pick.choice(hostile)
        if pick.random() < 0.3
        else geo(ind=pick.randrange(posts), country=f"version {number}")
        for number in range(count)
    ]


OBJECT = st.tuples(st.integers(1, 12), st.sampled_from([0, 0, 0, 1, 9]))
"""Lines of an object that come anew, and lines before them that lie in an older object too."""
RUN = st.lists(OBJECT, max_size=3)
HISTORIES = st.lists(st.tuples(RUN, RUN), min_size=16, max_size=16)
"""What the sink writes for two runs, partition by partition: many histories for the price of one."""


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(histories=HISTORIES)
def test_any_split_into_runs_and_a_full_refresh_give_the_same(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    histories: list[tuple[list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    lines = [some_lines(partition, 40, 60) for partition in range(len(histories))]
    done = [0] * len(histories)
    with workspace_in(spark, tmp_path_factory.mktemp("split")) as workspace:
        reader = Reader(workspace)
        for number in range(2):
            for partition, history in enumerate(histories):
                for size, before in history[number]:
                    start, end = max(done[partition] - before, 0), done[partition] + size
                    reader.put(start, lines[partition][start:end], partition)
                    done[partition] = min(end, len(lines[partition]))
            run, _ = reader.run()
            assert run.read == run.clean + run.superseded + run.quarantined
        for partition, there in enumerate(lines):
            reader.put(done[partition], there[done[partition] :], partition)
        reader.run()
        reader.check()
        run, total = reader.run(full_refresh=True)
        assert run == total
        reader.check()


def test_nothing_new_changes_nothing_and_counts_nothing(reader: Reader) -> None:
    reader.put(0, [geo(), b"", geo(country="newer")])
    first = reader.run(run_id="a")
    version = reader.version()
    assert reader.run(run_id="b") == (Counts(), first[1])
    assert reader.run(run_id="a") == first  # a task that was cleared runs again under the same run
    assert reader.version() == version
    reader.check()


@pytest.mark.parametrize(
    "point",
    [
        (Ledger, "plan", "before"),
        (Ledger, "plan", "after"),
        (tables, "append_quarantine", "after"),
        (tables, "merge_newest", "after"),
        (Ledger, "commit", "before"),
    ],
    ids=lambda point: f"{point[2]} {point[1]}",
)
def test_a_crash_anywhere_changes_nothing(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, point: tuple[Any, str, str]
) -> None:
    reader.put(0, [geo(ind=1), geo(ind=2), b"bad"])
    reader.run()
    reader.put(3, [geo(ind=2, country="newer"), geo(ind=3), b"worse", geo(ind=3, country="newer")])
    with monkeypatch.context() as patched:
        _crash(patched, *point)
        with pytest.raises(Crash):
            reader.run(run_id="killed")
    # meanwhile the sink has written the same object again, longer, and another
    reader.put(3, [*[reader.records[offset, 0] for offset in range(3, 7)], geo(ind=1, country="newest")])
    reader.put(8, [b"worst"])
    run, _ = reader.run(run_id="killed")
    assert (run.read, run.clean, run.superseded, run.quarantined) == (6, 3, 1, 2)
    reader.check()


def test_a_crash_of_the_first_run_and_of_a_refresh(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.put(0, [geo(ind=1), b"bad", geo(ind=2)])
    with monkeypatch.context() as patched:
        _crash(patched, tables, "append_new", "after")
        with pytest.raises(Crash):
            reader.run()
    reader.put(3, [geo(ind=1, country="newer")])
    reader.run()
    reader.check()
    with monkeypatch.context() as patched:
        _crash(patched, tables, "replace_quarantine", "after")
        with pytest.raises(Crash):
            reader.run(full_refresh=True)
    reader.run()
    reader.check()


def _crash(patched: pytest.MonkeyPatch, where: Any, name: str, when: str) -> None:
    """Makes a function die, before or after it has done its work."""
    function: Callable[..., Any] = getattr(where, name)

    def dying(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            function(*args, **kwargs)
        raise Crash

    patched.setattr(where, name, dying)


def test_objects_that_were_planned_and_are_gone_are_named(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.put(0, [geo(), geo()])
    with monkeypatch.context() as patched:
        _crash(patched, Ledger, "plan", "after")
        with pytest.raises(Crash):
            reader.run()
    reader.records.clear()
    reader.put(0, [geo()])
    with pytest.raises(StorageError, match="Put the objects back, or run with full_refresh=true"):
        reader.run()
    reader.run(full_refresh=True)
    reader.check()


def test_ten_thousand_hostile_lines_are_all_in_the_ledger(reader: Reader) -> None:
    lines = [line for seed in range(10) for line in some_lines(seed, 1_000, 500)]
    reader.put(0, lines[:6_000])
    reader.put(6_000, lines[6_000:])
    reader.run()
    reader.check()


def test_what_the_sink_set_aside_is_held_at_its_offset(reader: Reader) -> None:
    reader.put(0, [geo(ind=1), geo(ind=2)])
    reader.set_aside(2, [None, geo(ind=1, country="newer") + b"\n"])
    reader.put(4, [geo(ind=3)])
    reader.set_aside(0, [b"\xff\n"], partition=1)
    run, _ = reader.run()
    assert run.by_reason == {"line_break": 2, "null_value": 1}
    reader.check()
    # the sink was killed before it had committed: the same again, longer
    reader.set_aside(2, [None, geo(ind=1, country="newer") + b"\n"])
    reader.put(4, [geo(ind=3), geo(ind=4)])
    reader.set_aside(6, [None])
    run, _ = reader.run()
    assert (run.read, run.clean, run.quarantined) == (2, 1, 1)
    reader.check()
    reader.run(full_refresh=True)
    reader.check()


LENIENT = RECORDS["geo"]
STRICT = replace(LENIENT, ranges={**LENIENT.ranges, "latitude": 10})


def held_and_then_readable(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that a rule of yesterday held, between others that are older, newer, or held still."""
    monkeypatch.setitem(RECORDS, "geo", STRICT)
    reader.put(0, [geo(ind=1), geo(ind=2, latitude=50), geo(ind=3, latitude=50), b"bad", geo(ind=4)])
    reader.put(5, [geo(ind=3, country="newer"), geo(ind=4, latitude=50, country="newest"), geo(latitude=91)])
    reader.put(0, [geo(ind=5, latitude=50), geo(ind=5, latitude=60, country="newer")], partition=1)
    reader.run()
    monkeypatch.setitem(RECORDS, "geo", LENIENT)


def test_what_a_new_rule_can_read_joins_at_its_old_position(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_and_then_readable(reader, monkeypatch)
    reader.put(8, [geo(ind=6), b""])
    run, _ = reader.run(retry_quarantined=True, run_id="retry")
    assert (run.read, run.clean, run.superseded, run.quarantined) == (2, 4, 2, -4)
    reader.check()
    version = reader.version()
    assert reader.run(retry_quarantined=True, run_id="retry")[0] == run
    assert reader.version() == version


@pytest.mark.parametrize(
    "point",
    [
        (Ledger, "plan", "after"),
        (tables, "merge_newest", "after"),
        (tables, "release", "after"),
    ],
    ids=lambda point: f"{point[2]} {point[1]}",
)
def test_a_crash_anywhere_in_a_retry_changes_nothing(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, point: tuple[Any, str, str]
) -> None:
    held_and_then_readable(reader, monkeypatch)
    with monkeypatch.context() as patched:
        _crash(patched, *point)
        with pytest.raises(Crash):
            reader.run(retry_quarantined=True)
    reader.put(8, [geo(ind=2, country="newest"), b"bad"])
    reader.run(retry_quarantined=True)
    reader.check()


def test_a_reason_that_a_new_rule_changes(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECORDS, "geo", replace(LENIENT, key="country"))
    reader.put(0, [geo(country=None), geo(country=None, latitude=91), b"bad"])
    run, _ = reader.run()
    assert run.by_reason == {"no_ind": 2, "not_json": 1}
    monkeypatch.setitem(RECORDS, "geo", LENIENT)
    run, total = reader.run(retry_quarantined=True)
    assert run.by_reason == {"no_ind": -2, "out_of_range": 1}
    assert (total.read, total.clean, total.quarantined) == (3, 1, 2)
    reader.check()


def test_a_topic_begun_anew_is_read_once_its_earlier_objects_are_away_and_a_refresh_has_run(
    reader: Reader,
) -> None:
    """As create_topics says when it refuses to make a topic that was deleted."""
    reader.put(0, some_lines(1, 40, 60))
    reader.set_aside(40, [None])
    reader.run()
    topics = reader.workspace.storage / "topics"
    topics.rename(topics.with_name("before"))
    reader.records.clear()
    reader.put(0, some_lines(2, 10, 60))
    assert reader.run()[0].read == 0  # the earlier topic's progress still counts
    reader.run(full_refresh=True)
    reader.check()
    reader.put(10, some_lines(3, 10, 60))
    assert reader.run()[0].read == 10
    reader.check()


def test_offsets_that_no_record_has_are_passed_over(reader: Reader) -> None:
    """A transaction's end takes an offset, and so do the records of one that was aborted."""
    reader.put(3, some_lines(1, 2, 60))
    reader.put(9, some_lines(2, 2, 60))
    assert reader.run()[0].read == 4
    reader.put(12, some_lines(3, 2, 60))
    assert reader.run()[0].read == 2
    reader.check()


def test_of_versions_in_two_partitions_the_larger_offset_wins_whichever_came_last(reader: Reader) -> None:
    """Positions of two partitions are no times: so topics are keyed by the post's number and never grow."""
    reader.put(900, [geo(ind=7, country="the version before partitions were added")], partition=1)
    reader.run()
    reader.put(0, [geo(ind=7, country="the version after")], partition=4)
    reader.run()
    reader.check()
    assert [row["country"] for row in reader.table("geo").collect()] == [
        "the version before partitions were added"
    ]
    reader.put(900, [geo(ind=7, country="the same offset, a higher partition")], partition=5)
    reader.run()
    reader.check()
    assert [row["country"] for row in reader.table("geo").collect()] == [
        "the same offset, a higher partition"
    ]
