"""The batch notebooks give over Spark Connect what the model says, with `persist` and without."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pinterest_lake.lake import SettingsError
from pinterest_lake.schemas import CONSTRAINTS, TOPICS, clean_columns, flags_of
from pinterest_lake.storage import lister_for
from pinterest_lake.tables import STAGING_PREFIX, create_clean_table, create_shared_tables
from tests.include.notebooks import model
from tests.include.notebooks.conftest import FakeDbutils, Workspace
from tests.include.notebooks.test_both_legs import LENIENT, TABLES, some_post
from tests.include.notebooks.test_quality import HOSTILE, PINS, USERS

CASES = {"pin": PINS, "geo": HOSTILE, "user": USERS}


def lines_of(table: str) -> list[bytes]:
    """Return every hostile line of a table that can stand in an object, among posts of which many are replaced."""
    pick = random.Random(7)
    cases = [line if isinstance(line, bytes) else line.encode() for line in CASES[table].values()]
    posts = [json.dumps(some_post(pick, table, pick.randrange(60))).encode() for _ in range(90)]
    lines = [line for line in [*cases, *posts] if b"\n" not in line]
    pick.shuffle(lines)
    return lines


def rows(workspace: Workspace, table: str) -> list[dict[str, Any]]:
    columns = [*clean_columns(table), *flags_of(table)]
    found = workspace.spark.table(workspace.lake().table(table)).select(*columns).collect()
    return sorted((row.asDict() for row in found), key=lambda row: row["ind"])


def test_a_history_ends_as_the_model_says(workspace: Workspace) -> None:
    """Two runs, so that rows are replaced; a record leaves quarantine; and all of it is read again."""
    lines = {table: lines_of(table) for table in TABLES}
    workspace.run("configure")
    half = len(lines["geo"]) // 2
    workspace.put("geo", 0, lines["geo"][:half])
    workspace.run("clean_geo")
    workspace.put("geo", half, lines["geo"][half:])
    for table in ("pin", "user"):
        workspace.put(table, 0, lines[table])
    for table in TABLES:
        workspace.run(f"clean_{table}")
    clean = {table: check(workspace, table, there) for table, there in lines.items()}

    spark, quarantine = workspace.spark, workspace.lake().table("quarantine")
    spark.sql(f"UPDATE {quarantine} SET reason = 'blank' WHERE `table` = 'geo' AND reason = 'not_json'")
    workspace.run("clean_geo", retry_quarantined="true")
    check(workspace, "geo", lines["geo"])
    workspace.run("clean_geo", full_refresh="true")
    check(workspace, "geo", lines["geo"])

    counts = workspace.run("queries", run_id="answers", **LENIENT)["ledger"]["total"]
    for table, there in lines.items():
        _, fate = model.newest(table, positioned(there))
        wanted = {name: fate[name] for name in ("read", "clean", "superseded", "quarantined")}
        assert {name: counts[table][name] for name in wanted} == wanted
    published = json.loads((workspace.storage / "answers/runs/answers.json").read_text())
    assert published["answers"] == model.answers(clean["pin"], clean["geo"], clean["user"])
    assert spark.sql(f"SHOW TABLES IN {workspace.lake().namespace} LIKE '{STAGING_PREFIX}*'").collect() == []


def positioned(lines: list[bytes]) -> dict[tuple[int, int], bytes | None]:
    return {(at, 0): line for at, line in enumerate(lines)}


def check(workspace: Workspace, table: str, lines: list[bytes]) -> list[dict[str, Any]]:
    """Hold a table and its quarantine against the model; return the model's rows."""
    records = positioned(lines)
    clean, _ = model.newest(table, records)
    assert rows(workspace, table) == sorted(clean, key=lambda row: row["ind"])
    held = [row for row in workspace.rows("quarantine") if row["table"] == table]
    reasons = {position: model.reason(table, line) for position, line in records.items()}
    assert {(int(row["position"]), 0): (row["reason"], bytes(row["raw"])) for row in held} == {
        position: (why, records[position]) for position, why in reasons.items() if why
    }
    return clean


def test_constraints_are_added_once(workspace: Workspace) -> None:
    lake = workspace.lake()
    create_shared_tables(workspace.spark, lake)
    names = {create_clean_table(workspace.spark, lake, "pin", TOPICS) for _ in range(2)}
    assert names == {lake.table("pin")}
    rows = workspace.spark.sql(f"SHOW TBLPROPERTIES {lake.table('pin')}").collect()
    found = {row["key"] for row in rows if row["key"].startswith("delta.constraints.")}
    assert found == {f"delta.constraints.{name}" for name in CONSTRAINTS["pin"]}
    assert workspace.version("pin") == 2


def test_a_bucket_is_listed_whatever_the_session_tells_of_its_settings(workspace: Workspace) -> None:
    dbutils = FakeDbutils()
    # as with Unity Catalog, which may list where the notebook itself has no credentials
    dbutils.fs.ls = lambda path: []
    lister = lister_for(workspace.spark, dbutils, "s3://no-such-bucket-of-this-test")
    assert type(lister).__name__ == "FolderLister", "without credentials for S3's own API"


def test_the_streams_say_at_once_which_access_mode_they_need(workspace: Workspace) -> None:
    with pytest.raises(SettingsError, match="dedicated access mode"):
        workspace.run("kinesis_streams", checkpoint_dir=str(workspace.storage / "checkpoints"))
    assert not (workspace.storage / "streams").exists(), "nothing was begun"
