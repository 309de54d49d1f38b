"""The batch notebooks, run as a job runs them, over a bucket that holds what the sink writes."""

from __future__ import annotations

import json

from pyarrow import parquet

from tests.include.notebooks.conftest import Workspace

PIN = b'{"index": 7, "title": " A ", "poster_name": "P", "follower_count": "5k", "category": "art"}'
GEO = b'{"ind": 7, "timestamp": "2020-08-28 03:52:47", "latitude": 1.5, "longitude": 2, "country": "Peru"}'
USER = b'{"ind": 7, "first_name": "Ada", "last_name": "L", "age": 50, "date_joined": "2016-01-02T03:04:05"}'


def test_one_post_goes_from_the_bucket_to_the_answers(workspace: Workspace) -> None:
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
