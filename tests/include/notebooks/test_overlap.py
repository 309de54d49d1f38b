"""Two runs side by side on one schema: neither loses a record of the other, counts one twice, or answers in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pinterest_lake import answers, tables
from pinterest_lake.batch import Batch
from pinterest_lake.ledger import COMMITTED, PLANNED, Ledger, LedgerError, OverlapError
from pinterest_lake.schemas import TOPICS
from tests.include.notebooks.conftest import Workspace
from tests.include.notebooks.test_batch import Crash, Reader, _crash, held_and_then_readable
from tests.include.notebooks.test_quality import geo


@pytest.fixture
def reader(workspace: Workspace) -> Reader:
    return Reader(workspace)


@contextmanager
def meanwhile(where: Any, name: str, act: Callable[[], Any]) -> Iterator[None]:
    """Just before the first call of a function, ``act``: there a run is overtaken."""
    function = getattr(where, name)
    acted: list[bool] = []

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        if not acted:
            acted.append(True)
            act()
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(where, name, overtaken)
        yield
    assert acted


def events(reader: Reader) -> list[tuple[int, str, str]]:
    rows = reader.table("ledger").select("interval", "event", "run_id").collect()
    return sorted(tuple(row) for row in rows)


def test_a_plan_that_another_run_has_made_first_is_not_carried_out(reader: Reader) -> None:
    """Both have listed the bucket; the other one has died after its plan, and had seen less."""
    reader.put(0, [geo(ind=1), geo(ind=2)])
    newer = [geo(ind=3), b"bad", geo(ind=1, country="newer")]
    reader.put(2, newer)

    def early() -> None:
        (
            reader.workspace.storage / "topics/pinterest.geo/partition=0/pinterest.geo+0+0000000002.json"
        ).unlink()
        with pytest.MonkeyPatch.context() as patched, pytest.raises(Crash):
            _crash(patched, Batch, "_carry_out", "before")
            reader.run(run_id="early")
        reader.put(2, newer)

    with (
        meanwhile(Ledger, "plan", early),
        pytest.raises(OverlapError, match="geo: run early is at work on the table"),
    ):
        reader.run(run_id="late")
    assert events(reader) == [(1, PLANNED, "early")]
    assert reader.table("geo").count() == 0
    reader.run(run_id="late")
    reader.check()
    assert events(reader) == [
        (1, COMMITTED, "late"),
        (1, PLANNED, "early"),
        (2, COMMITTED, "late"),
        (2, PLANNED, "late"),
    ]


def test_a_run_of_the_same_id_is_another_run_all_the_same(reader: Reader) -> None:
    """Airflow has lost sight of the first try, and tries again while it still goes on."""
    reader.put(0, [geo(ind=1)])
    with meanwhile(Ledger, "plan", lambda: reader.run(run_id="r")), pytest.raises(OverlapError):
        reader.run(run_id="r")
    reader.check()
    assert events(reader) == [(1, COMMITTED, "r"), (1, PLANNED, "r")]


@pytest.mark.parametrize(
    ("where", "name"),
    [(tables, "append_quarantine"), (tables, "append_new"), (Ledger, "commit")],
    ids=["before the quarantine", "before the rows", "before the commit"],
)
def test_a_step_that_another_run_ends_meanwhile_is_written_and_counted_once(
    reader: Reader, where: Any, name: str
) -> None:
    """The first run is slow; the second finishes its step, and goes on with what has come."""
    reader.put(0, [geo(ind=1), b"bad", geo(ind=2)])

    def second() -> None:
        reader.put(3, [geo(ind=1, country="newer"), b"worse", geo(ind=4)])
        reader.run(run_id="second")

    with meanwhile(where, name, second):
        run, _ = reader.run(run_id="first")
    assert run.read == 0, "the second run has counted the step"
    reader.check()
    assert reader.run()[0].read == 0


@pytest.mark.parametrize(
    ("where", "name"),
    [(tables, "append_quarantine"), (tables, "append_new"), (Ledger, "commit")],
    ids=["before the quarantine", "before the rows", "before the commit"],
)
def test_a_full_refresh_beside_a_run_leaves_one_of_each(reader: Reader, where: Any, name: str) -> None:
    reader.put(0, [geo(ind=1), b"bad", geo(ind=2)])

    def refresh() -> None:
        reader.run(full_refresh=True, run_id="refresh")

    with meanwhile(where, name, refresh), pytest.raises(OverlapError, match="run refresh is at work"):
        reader.run(run_id="slow")
    reader.check()
    reader.put(3, [geo(ind=2, country="newer"), b"worse"])
    reader.run()
    reader.check()


@pytest.mark.parametrize(
    ("where", "name"),
    [(tables, "merge_newest"), (Ledger, "commit")],
    ids=["before the rows", "before the commit"],
)
def test_a_step_that_replaces_rows_is_counted_as_it_was_planned(
    reader: Reader, where: Any, name: str
) -> None:
    """The second run finishes it when the rows are, or are not, replaced already: the counts are the plan's."""
    reader.put(0, [geo(ind=1), geo(ind=2)])
    reader.run()
    reader.put(2, [geo(ind=1, country="newer"), b"bad", geo(ind=3)])
    with meanwhile(where, name, lambda: reader.run(run_id="second")):
        reader.run(run_id="first")
    reader.check()
    assert events(reader)[2:] == [(2, COMMITTED, "second"), (2, PLANNED, "first")]


def test_quarantine_is_not_read_again_in_the_place_of_another_runs_step(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_and_then_readable(reader, monkeypatch)

    def second() -> None:
        reader.put(8, [geo(ind=2, country="newest"), b"worse"])
        reader.run(run_id="second")

    with meanwhile(Ledger, "plan", second), pytest.raises(OverlapError, match="run second is at work"):
        reader.run(retry_quarantined=True, run_id="retry")
    reader.run(retry_quarantined=True, run_id="retry")
    reader.check()


@pytest.mark.parametrize("name", ["merge_newest", "release"])
def test_a_full_refresh_beside_quarantine_that_is_read_again(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    held_and_then_readable(reader, monkeypatch)
    with (
        meanwhile(tables, name, lambda: reader.run(full_refresh=True, run_id="refresh")),
        pytest.raises(OverlapError, match="run refresh is at work"),
    ):
        reader.run(retry_quarantined=True, run_id="retry")
    reader.check()
    assert reader.run()[0].read == 0


@pytest.mark.parametrize("name", ["replace_quarantine", "replace_rows"])
def test_a_late_full_refresh_takes_nothing_back(reader: Reader, name: str) -> None:
    """Another run finishes the refresh, and takes in more, before the first one writes."""
    reader.put(0, [geo(ind=1), b"bad"])

    def second() -> None:
        reader.put(2, [geo(ind=2), b"worse"])
        reader.run(run_id="second")

    with meanwhile(tables, name, second):
        reader.run(full_refresh=True, run_id="first")
    reader.check()


def test_a_ledger_that_was_rolled_back_is_told_and_a_full_refresh_heals_it(reader: Reader) -> None:
    """RESTORE takes rows back, and not what Delta knows of their writers: no later step would be written down."""
    reader.put(0, [geo(ind=1)])
    reader.run()
    lake, spark = reader.workspace.lake(), reader.workspace.spark
    before = {name: reader.workspace.version(name) for name in ("ledger", "geo")}
    for first in (1, 2, 3):
        reader.put(first, [geo(ind=first + 1)])
        reader.run()
    for name, version in before.items():
        spark.sql(f"RESTORE TABLE {lake.table(name)} TO VERSION AS OF {version}")
    with pytest.raises(
        LedgerError, match=r"geo: the ledger does not take step 2.* Run clean_geo with full_refresh=true"
    ):
        reader.run()
    reader.run(full_refresh=True, run_id="refresh")
    reader.check()
    assert events(reader)[2:] == [(5, COMMITTED, "refresh"), (5, PLANNED, "refresh")], (
        "beyond those that were had"
    )
    reader.put(4, [geo(ind=1, country="newer"), b"bad"])
    assert reader.run()[0].read == 2
    reader.check()


def test_a_ledger_whose_rows_were_deleted_is_told_and_a_full_refresh_heals_it(reader: Reader) -> None:
    reader.put(0, [geo(ind=1), b"bad"])
    reader.run()
    reader.workspace.spark.sql(f"DELETE FROM {reader.workspace.lake().table('ledger')}")
    with pytest.raises(LedgerError, match="geo: the ledger does not take step 1"):
        reader.run()
    reader.run(full_refresh=True)
    reader.check()


PIN = b'{"index": %d, "title": "A", "poster_name": "P", "follower_count": "5k", "category": "art"}'
USER = b'{"ind": %d, "first_name": "Ada", "last_name": "L", "age": 50, "date_joined": "2016-01-02T03:04:05"}'


class Cleaned:
    """A schema with one post, and geo records to come."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        workspace.put("pin", 0, [PIN % 1, PIN % 2])
        workspace.put("geo", 0, [geo(ind=1, country="Peru")])
        workspace.put("user", 0, [USER % 1])
        for table in ("pin", "geo", "user"):
            workspace.run(f"clean_{table}")

    def another(self) -> None:
        """A run by hand takes in one more geo record."""
        self.workspace.put("geo", 1, [geo(ind=2, country="Peru")])
        self.workspace.run("clean_geo", run_id="another")

    def published(self, run_id: str) -> bool:
        folder = self.workspace.storage / "answers"
        return any((folder / kind / f"{run_id}.json").exists() for kind in ("runs", "refused"))


@pytest.fixture
def cleaned(workspace: Workspace) -> Cleaned:
    return Cleaned(workspace)


@pytest.mark.parametrize(
    ("where", "name"),
    [(Batch, "_carry_out"), (tables, "append_new"), (Ledger, "commit")],
    ids=["planned", "before the rows", "before the commit"],
)
def test_nothing_is_answered_in_the_middle_of_a_step(cleaned: Cleaned, where: Any, name: str) -> None:
    workspace = cleaned.workspace

    def asked() -> None:
        with pytest.raises(
            OverlapError, match=r"geo: run another has begun step 2 and not ended it.* run clean_geo"
        ):
            workspace.run("queries", run_id="asked")
        assert not cleaned.published("asked")
        assert not workspace.spark.catalog.tableExists(workspace.lake().table("quality"))

    with meanwhile(where, name, asked):
        cleaned.another()
    ledger = workspace.run("queries", run_id="asked")["ledger"]
    assert ledger["total"]["geo"]["clean"] == 2


def test_a_step_between_two_looks_is_noticed(cleaned: Cleaned) -> None:
    with (
        meanwhile(answers, "_version", cleaned.another),
        pytest.raises(OverlapError, match="another run has taken in"),
    ):
        cleaned.workspace.run("queries", run_id="asked")
    assert not cleaned.published("asked")


@pytest.mark.parametrize("name", ["facts", "ask", "write"])
def test_the_answers_are_of_the_tables_that_were_judged(cleaned: Cleaned, name: str) -> None:
    """Records that come after the look at the tables are neither counted nor answered from."""
    with meanwhile(answers, name, cleaned.another):
        result = cleaned.workspace.run("queries", run_id="asked")
    assert result["ledger"]["total"]["geo"]["clean"] == 1
    (row,) = cleaned.workspace.rows("q1_top_category_by_country")
    assert row["category_count"] == 1
    again = cleaned.workspace.run("queries", run_id="again")
    assert again["ledger"]["total"]["geo"]["clean"] == 2
    (row,) = cleaned.workspace.rows("q1_top_category_by_country")
    assert row["category_count"] == 2


def test_answers_of_two_runs_are_never_told_as_one_set(
    cleaned: Cleaned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow run has written its first answer when the quick one writes all of them; it writes the rest after."""
    workspace, lake = cleaned.workspace, cleaned.workspace.lake("slow")
    found = answers.ask(answers.snapshot(workspace.spark, lake, TOPICS))
    cleaned.another()
    monkeypatch.setattr(answers, "_WRITERS", 1)
    write = answers._write
    written: list[bool] = []

    def overtaken(*args: Any) -> Any:
        result = write(*args)
        if not written:
            written.append(True)
            workspace.run("queries", run_id="quick")
        return result

    monkeypatch.setattr(answers, "_write", overtaken)
    with pytest.raises(
        OverlapError, match="q1_top_category_by_country: another run has written it meanwhile"
    ):
        answers.write(workspace.spark, lake, TOPICS, found)
    assert [row["run_id"] for row in workspace.rows("answer_sets")] == ["quick"]
