"""The batch notebooks, run as a job runs them, over a bucket that holds what the sink writes."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from pyarrow import parquet

from pinterest_lake.answers import ANSWERS
from pinterest_lake.expectations import QualityError
from pinterest_lake.lake import SettingsError
from pinterest_lake.objects import StorageError
from pinterest_lake.storage import lister_for, mount
from pinterest_lake.tables import STAGING_PREFIX
from tests.include.notebooks.conftest import FakeDbutils, Workspace

PIN = b'{"index": 7, "title": " A ", "poster_name": "P", "follower_count": "5k", "category": "art"}'
GEO = b'{"ind": 7, "timestamp": "2020-08-28 03:52:47", "latitude": 1.5, "longitude": 2, "country": "Peru"}'
USER = b'{"ind": 7, "first_name": "Ada", "last_name": "L", "age": 50, "date_joined": "2016-01-02T03:04:05"}'


def test_one_post_goes_from_the_bucket_to_the_answers(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.put("pin", 0, [PIN, b"nonsense"])
    workspace.put("geo", 0, [GEO])
    workspace.put("user", 0, [USER])
    workspace.run("configure")
    for table in ("pin", "geo", "user"):
        workspace.run(f"clean_{table}", run_id="r")
    result = workspace.run("queries", run_id="r")

    published = json.loads((workspace.storage / "answers/runs/r.json").read_text())
    assert published["ledger"] == result["ledger"]
    assert published["ledger"]["total"]["pin"] == {
        "read": 2,
        "clean": 1,
        "superseded": 0,
        "quarantined": 1,
        "by_reason": {"not_json": 1},
        "unparsable_follower_counts": 0,
    }
    assert published["answers"]["q1"] == [{"country": "Peru", "category": "art", "category_count": 1}]
    assert published["answers"]["q8"] == [
        {"age_group": "36-50", "year_joined": 2016, "median_follower_count": 5000.0}
    ]
    held = workspace.rows("quarantine")
    assert [(row["shard"], row["position"], bytes(row["raw"])) for row in held] == [("0", "1", b"nonsense")]

    tables = ["pin", "geo", "user", *(table for table, _ in ANSWERS.values())]
    versions = {table: workspace.version(table) for table in tables}
    capsys.readouterr()
    for table in ("pin", "geo", "user"):
        workspace.run(f"clean_{table}")
        assert capsys.readouterr().out == "nothing was new\n"
    again = workspace.run("queries")
    assert "changed: nothing\n" in capsys.readouterr().out
    assert {name: again["ledger"]["run"][name]["read"] for name in ("pin", "geo", "user")} == {
        "pin": 0,
        "geo": 0,
        "user": 0,
    }
    assert {table: workspace.version(table) for table in tables} == versions
    assert without_comment(workspace) == []


def without_comment(workspace: Workspace) -> list[str]:
    """Tables of the schema, and their columns, that say nothing of themselves."""
    spark, missing = workspace.spark, []
    for shown in spark.sql(f"SHOW TABLES IN {workspace.schema}").collect():
        table = shown["tableName"]
        name = workspace.lake().table(table)
        detail = spark.sql(f"DESCRIBE DETAIL {name}").select("description").collect()[0]
        missing += [] if detail["description"] else [table]
        fields = spark.table(name).schema.fields
        missing += [f"{table}.{each.name}" for each in fields if not each.metadata.get("comment")]
    return missing


def test_a_failed_gate_leaves_the_last_good_answers(workspace: Workspace) -> None:
    """More than a tenth of the pins cannot be read, and then a few more may."""
    for table, line in (("pin", PIN), ("geo", GEO), ("user", USER)):
        lines = [line.replace(b"7,", b"%d," % number) for number in range(99)]
        workspace.put(
            table, 0, [*lines, b'{"index": 99, "ind": 99, "title": null, "age": null, "country": null}']
        )
        workspace.run(f"clean_{table}")
    workspace.run("queries", run_id="good")
    before = {name: workspace.rows(table) for name, (table, _) in ANSWERS.items()}
    (good,) = workspace.rows("answer_sets")
    assert good["run_id"] == "good"
    assert good["versions"] == {table: workspace.version(table) for table, _ in ANSWERS.values()}

    workspace.put("pin", 100, [b'{"index": 200, "title": "T", "category": "zoo"}', *[b"nonsense"] * 25])
    workspace.run("clean_pin", run_id="bad")
    with pytest.raises(QualityError) as failed:
        workspace.run("queries", run_id="bad")
    assert str(failed.value) == (
        "1 of 13 expectations are not met, so the last answers stay as they are: "
        "quarantined_share of pin: 0.1984, at most 0.1 (25 of 126)"
    )
    assert {name: workspace.rows(table) for name, (table, _) in ANSWERS.items()} == before
    assert not (workspace.storage / "answers/runs/bad.json").exists()
    told = json.loads((workspace.storage / "answers/refused/bad.json").read_text())
    assert "answers" not in told
    assert told["ledger"]["total"]["pin"]["quarantined"] == 25
    assert [each["expectation"] for each in told["quality"] if not each["passed"]] == ["quarantined_share"]
    kept = [row for row in workspace.rows("quality") if row["run_id"] == "bad"]
    assert [(row["expectation"], row["table"], row["observed"]) for row in kept if not row["passed"]] == [
        ("quarantined_share", "pin", 25 / 126)
    ]

    workspace.run("queries", run_id="bad", max_quarantined_share="0.2")
    assert len([row for row in workspace.rows("quality") if row["run_id"] == "bad"]) == len(kept)
    assert workspace.rows("answer_sets") == [good], "no answer has changed"


def test_maintenance_changes_no_row(workspace: Workspace) -> None:
    for number in range(3):
        workspace.put("geo", number, [GEO.replace(b"7,", b"%d," % number)])
        workspace.run("clean_geo")
    rows = workspace.rows("geo")
    files = workspace.spark.table(workspace.lake().table("geo")).inputFiles()
    assert workspace.run("maintain")["put_together"]["geo"] == len(files) == 3
    assert workspace.rows("geo") == rows
    with pytest.raises(SettingsError, match="widget 'retention_hours' is '1'; it must be at least 168"):
        workspace.run("maintain", retention_hours="1")


def test_versions_stay_readable_for_as_long_as_is_asked(workspace: Workspace) -> None:
    """By the table's properties: what VACUUM is told does not count on Databricks."""
    workspace.put("geo", 0, [GEO])
    workspace.run("clean_geo")
    name = workspace.lake().table("geo")

    def retention() -> dict[str, str]:
        rows = workspace.spark.sql(f"SHOW TBLPROPERTIES {name}").collect()
        return {row["key"]: row["value"] for row in rows if "Retention" in row["key"]}

    version = workspace.version("geo")
    workspace.run("maintain")
    assert retention() == {}, "Delta's own, a week, is what is asked for: nothing to change"
    workspace.run("maintain", retention_hours="1000")
    wanted = {
        "delta.deletedFileRetentionDuration": "interval 1000 hours",
        "delta.logRetentionDuration": "interval 1000 hours",
    }
    assert retention() == wanted
    workspace.run("maintain")
    assert retention() == {
        "delta.deletedFileRetentionDuration": "interval 168 hours",
        "delta.logRetentionDuration": "interval 720 hours",
    }
    assert workspace.spark.sql(f"SELECT * FROM {name} VERSION AS OF {version}").count() == 1


def test_a_staging_table_that_was_left_behind_is_dropped_a_day_later(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.run("configure")
    left = workspace.lake().table(f"{STAGING_PREFIX}left")
    workspace.spark.sql(f"CREATE TABLE {left} (ind int) USING DELTA")
    workspace.run("maintain")
    assert workspace.spark.catalog.tableExists(left), "it may be in use"
    monkeypatch.setattr("pinterest_lake.maintenance._STAGING_LIVES", dt.timedelta(0))
    workspace.run("maintain")
    assert not workspace.spark.catalog.tableExists(left)


def test_a_row_that_no_rule_allows_is_refused(workspace: Workspace) -> None:
    workspace.put("geo", 0, [GEO])
    workspace.run("clean_geo")
    table = workspace.lake().table("geo")
    for change in ("ind = NULL", "coordinates = array(91D, 0D)"):
        with pytest.raises(Exception, match="DELTA_VIOLATE_CONSTRAINT_WITH_VALUES"):
            workspace.spark.sql(f"UPDATE {table} SET {change}")


def test_moments_of_any_year_can_be_read_without_spark(workspace: Workspace) -> None:
    years = ["0001", "1677", "2020", "2262", "9999"]
    lines = [
        GEO.replace(b"2020-", f"{year}-".encode()).replace(b"7,", b"%d," % n) for n, year in enumerate(years)
    ]
    workspace.put("geo", 0, lines)
    workspace.run("clean_geo")
    table = workspace.spark.table(workspace.lake().table("geo"))
    rows = [
        row
        for path in table.inputFiles()
        for row in parquet.read_table(path.removeprefix("file://")).to_pylist()
    ]
    assert sorted(row["timestamp"].year for row in rows) == [int(year) for year in years]


CLEANS = ("clean_pin", "clean_geo", "clean_user")


@pytest.mark.parametrize("notebook", ["configure", *CLEANS, "queries", "kinesis_streams"])
def test_a_storage_that_is_not_there_fails(workspace: Workspace, notebook: str) -> None:
    nowhere = workspace.storage / "there-is-no-such"
    with pytest.raises(StorageError) as failed:
        workspace.run(notebook, storage=str(nowhere))
    assert str(failed.value).startswith(f"{nowhere} cannot be listed: ")
    assert str(failed.value).endswith(
        "Check that the bucket (or volume) exists and that the cluster's instance profile may list and read it."
    )


@pytest.mark.parametrize("notebook", CLEANS)
def test_a_bucket_without_topics_holds_nothing_yet(workspace: Workspace, notebook: str) -> None:
    table = notebook.removeprefix("clean_")
    assert workspace.run(notebook)["run"][table]["read"] == 0
    (workspace.storage / "topics" / f"another.{table}").mkdir(parents=True)
    assert workspace.run(notebook)["run"][table]["read"] == 0


@pytest.mark.parametrize("notebook", ["configure", *CLEANS, "queries", "maintain", "kinesis_streams"])
@pytest.mark.parametrize(
    "storage",
    [
        "file:/etc",
        "/mnt/pinterest/../../..",
        "",
        "bucket",
        "s3a://KEY:secret@my-bucket",
        "s3a://KEY:sec/ret@my-bucket",
    ],
)
def test_what_is_no_storage_is_refused(workspace: Workspace, notebook: str, storage: str) -> None:
    with pytest.raises(
        SettingsError, match=r"^widget 'storage' is .*; it must be s3://bucket, or a path"
    ) as failed:
        workspace.run(notebook, storage=storage)
    assert "KEY" not in str(failed.value)
    assert "ret@" not in str(failed.value)


@pytest.mark.parametrize(
    ("widget", "value"),
    [
        ("checkpoint_dir", "file:/tmp/checkpoints"),
        ("checkpoint_dir", "s3a://KEY:secret@my-bucket"),
        ("stop_path", "/mnt/pinterest/../stop"),
        ("endpoint_url", "https://KEY:secret@kinesis.example"),
        ("endpoint_url", "https://kinesis.example/?key=KEY"),
        ("schema", "s3a://KEY:secret@my-bucket"),
    ],
)
def test_what_the_stream_job_cannot_use_is_refused(workspace: Workspace, widget: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^widget '{widget}' is ") as failed:
        workspace.run("kinesis_streams", **{widget: value})
    assert "KEY" not in str(failed.value)


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", "r:1", "a b", "x" * 129, "r'1", "r\n1", "r=1", "r=="])
def test_a_run_id_that_is_no_name_is_refused(workspace: Workspace, run_id: str) -> None:
    with pytest.raises(SettingsError, match=r"^widget 'run_id' is .*; it must be 1 to 128 letters"):
        workspace.run("clean_pin", run_id=run_id)


def test_runs_whose_keys_look_alike_are_counted_apart(workspace: Workspace) -> None:
    """As the DAG names r:1, r+1 and r-1; Delta escapes them again, as folders."""
    longest = "x" * 62 + "==" + "0" * 64
    keys = ["r=3A1", "r=2B1", "r-1", "=3A" * 42, longest]
    for number, key in enumerate(keys):
        workspace.put("pin", number, [PIN])
        assert workspace.run("clean_pin", run_id=key)["run"]["pin"]["read"] == 1
    assert workspace.run("clean_pin", run_id="r+1")["run"]["pin"]["read"] == 0
    assert sorted({row["run_id"] for row in workspace.rows("ledger")}) == sorted(keys)


@pytest.mark.parametrize(
    "bucket", ["s3a://KEY:secret@my-bucket", "s3a://KEY:sec/ret@my-bucket", "KEY:secret@my-bucket"]
)
def test_a_bucket_is_not_mounted_with_a_login(bucket: str) -> None:
    dbutils = FakeDbutils()
    with pytest.raises(
        StorageError, match=r"^cannot mount .* bucket must be s3://NAME, without a login"
    ) as failed:
        mount(dbutils, bucket, "/mnt/pinterest")
    assert "KEY" not in str(failed.value)
    assert dbutils.fs.mounts() == []


def test_a_login_in_somebody_elses_mount_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    dbutils = FakeDbutils()
    dbutils.fs.mount("s3a://KEY:secret@old-bucket", "/mnt/pinterest")
    assert mount(dbutils, "s3://new-bucket", "/mnt/pinterest/") == (
        "mounted s3://new-bucket at /mnt/pinterest in the place of s3a://…@old-bucket"
    )

    def denied(path: str) -> None:
        raise RuntimeError(f"getFileStatus on s3a://KEY:sec/ret@old-bucket/x: Access Denied ({path})")

    dbutils.fs.ls = denied
    with pytest.raises(StorageError) as failed:
        lister_for(None, dbutils, "/mnt/pinterest")  # type: ignore[arg-type]
    assert "s3a://…@old-bucket/x: Access Denied" in str(failed.value)
    assert "KEY" not in str(failed.value)
