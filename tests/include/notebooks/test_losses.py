"""What was lost, or was another topic's, before the batch read it: it is told, and a person decides."""

from __future__ import annotations

import json

import pytest

from pinterest_lake import answers
from pinterest_lake.expectations import QualityError, Thresholds, judge
from pinterest_lake.ledger import ACCEPT, COMMITTED, Counts, Ledger
from pinterest_lake.objects import PositionError
from pinterest_lake.schemas import TOPICS
from tests.include.notebooks.conftest import Workspace
from tests.include.notebooks.test_batch import Reader
from tests.include.notebooks.test_overlap import Cleaned
from tests.include.notebooks.test_quality import geo


def note(workspace: Workspace, topic_id: str, partitions: int = 1, topic: str = "pinterest.geo") -> None:
    """Note a topic as create_topics does."""
    path = workspace.storage / f"kafka/topics/{topic}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"cluster_id": "c", "topic_id": topic_id, "partitions": partitions}
    path.write_text(json.dumps(told, indent=1))


@pytest.fixture
def reader(workspace: Workspace) -> Reader:
    return Reader(workspace)


@pytest.fixture
def cleaned(workspace: Workspace) -> Cleaned:
    return Cleaned(workspace)


def missing(reader: Reader) -> dict[int, list[tuple[int, int]]]:
    return Ledger(reader.workspace.spark, reader.workspace.lake(), "geo").missing()


def test_offsets_that_no_object_holds_are_missing_until_they_come_or_are_accepted(reader: Reader) -> None:
    reader.put(2, [geo(ind=1)])
    reader.put(6, [geo(ind=2)])
    reader.set_aside(9, [None])
    reader.run()
    assert missing(reader) == {0: [(0, 2), (3, 6)]}, "dead letters may be ahead of the topic's own folder"
    reader.put(3, [b"", b"bad", geo(ind=3)])
    reader.put(10, [geo(ind=4)])
    reader.run()
    assert missing(reader) == {0: [(0, 2), (7, 9)]}, "a line that cannot be read, or is blank, is a record"
    reader.run(accept_missing=True)
    assert missing(reader) == {}
    reader.check()
    reader.run(full_refresh=True)
    assert missing(reader) == {0: [(0, 2), (7, 9)]}, "counted anew"
    reader.check()


def test_the_gate_names_missing_offsets_and_passes_once_they_are_accepted(cleaned: Cleaned) -> None:
    workspace = cleaned.workspace
    workspace.put("geo", 998, [geo(ind=2, country="Peru")])
    workspace.run("clean_geo")
    with pytest.raises(
        QualityError, match=r"missing of geo: 997, at most 0 \(offsets 1 to 997 of partition 0"
    ):
        workspace.run("queries", run_id="asked")
    workspace.run("queries", run_id="asked", max_missing="997")
    workspace.run("clean_geo", accept_missing="true")
    total = workspace.run("queries", run_id="asked")["ledger"]["total"]
    assert total["geo"]["read"] == 2
    (row,) = [row for row in workspace.rows("ledger") if row["kind"] == ACCEPT and row["event"] == COMMITTED]
    assert json.loads(row["taken"]) == {"0": [[1, 998]]}


def test_a_table_that_was_restored_or_doubled_is_told_though_its_counts_agree(cleaned: Cleaned) -> None:
    workspace, lake = cleaned.workspace, cleaned.workspace.lake()
    workspace.put("geo", 1, [geo(ind=2, country="Peru")])
    workspace.run("clean_geo")
    before = workspace.version("geo")
    workspace.put("geo", 2, [geo(ind=1, country="newer")])
    workspace.run("clean_geo")

    def imbalance() -> str:
        return answers.facts(answers.snapshot(workspace.spark, lake, TOPICS))["geo"].imbalance

    assert imbalance() == ""
    workspace.spark.sql(f"RESTORE TABLE {lake.table('geo')} TO VERSION AS OF {before}")
    assert "geo was restored to an older version" in imbalance()
    workspace.run("clean_geo", full_refresh="true")
    assert imbalance() == ""
    workspace.spark.sql(f"UPDATE {lake.table('geo')} SET ind = 1")
    assert imbalance().startswith("geo has 2 rows of 1 posts: 1 rows are doubled")


def test_records_of_a_topic_made_anew_are_not_passed_over(reader: Reader) -> None:
    """It was noted anew, its objects lie where the earlier ones did, and nobody has asked for a full refresh."""
    reader.put(0, [geo(ind=1), geo(ind=2)])
    reader.run()
    note(reader.workspace, "first")
    reader.put(2, [geo(ind=3)])
    reader.run()  # a ledger without a life takes the one that is noted
    note(reader.workspace, "second")
    topics = reader.workspace.storage / "topics"
    topics.rename(topics.with_name("before"))
    reader.records.clear()
    reader.put(0, [geo(ind=1, country="anew")])
    with pytest.raises(PositionError, match=r"that was c/first .* names c/second.* full_refresh=true"):
        reader.run()
    reader.run(full_refresh=True)
    reader.check()
    reader.put(1, [geo(ind=2, country="anew")])
    assert reader.run()[0].read == 1
    reader.check()


def test_objects_that_cannot_be_the_topics_are_refused(reader: Reader) -> None:
    """A partition that it had not when it was noted, and an offset that is both a line and a dead letter."""
    note(reader.workspace, "t", partitions=2)
    reader.put(0, [geo(ind=1), geo(ind=2), geo(ind=3)])
    reader.put(0, [geo(ind=4)], partition=1)
    reader.run()
    path = reader.workspace.put("geo", 0, [geo(ind=4, country="newer")], partition=2)
    with pytest.raises(PositionError, match=r"had 2 partition.*objects of partition 2"):
        reader.run()
    path.unlink()
    path = reader.workspace.set_aside("geo", 2, [None])
    for full_refresh in (False, True):
        with pytest.raises(PositionError, match="partition 0: offsets 2 lie both"):
            reader.run(full_refresh=full_refresh)
    path.unlink()
    reader.check()


def test_missing_records_are_judged_where_there_are_any() -> None:
    facts = {table: answers.Facts(Counts(), Counts()) for table in ("pin", "geo", "user")}
    assert not [result for result in judge(facts, Thresholds()) if result.expectation == "missing"]
    facts["geo"] = answers.Facts(Counts(), Counts(), missing={0: [(3, 5)], 2: [(0, 1)]})
    for limit, passes in ((2, False), (3, True)):
        (found,) = [
            each for each in judge(facts, Thresholds(max_missing=limit)) if each.expectation == "missing"
        ]
        assert (found.table, found.observed, found.passed) == ("geo", 3.0, passes)
        assert found.detail.startswith(
            "offsets 3 to 4 of partition 0; offsets 0 of partition 2: in no object."
        )
