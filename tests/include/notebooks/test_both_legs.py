"""The same records through the topics and through the streams: the same ten answers, and those of the model."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.include.notebooks import model
from tests.include.notebooks.conftest import Workspace
from tests.include.notebooks.test_quality import HOSTILE
from tests.include.notebooks.test_streaming import FIRST, Folders, Records, run

TABLES = ("pin", "geo", "user")
LENIENT = {
    f"max_{name}": "1"
    for name in ("quarantined_share", "quarantined_share_of_run", "unparsable_share", "unmatched_share")
}


def some_post(pick: random.Random, table: str, number: int) -> dict[str, Any]:
    """A record such as users have, with gaps, in one of several versions."""
    if table == "pin":
        return {
            "index": number,
            "title": pick.choice(["A title", " Another ", "No Title Data Available", ""]),
            "poster_name": pick.choice(["Ann", "Bob", "User Info Error"]),
            "follower_count": pick.choice(["5k", "1,234", "2M", "0", "many", "User Info Error"]),
            "category": pick.choice(["art", "zoo", "travel", None]),
        }
    if table == "geo":
        return {
            "ind": number,
            "timestamp": f"{pick.randrange(2017, 2024)}-08-28T03:52:47",
            "latitude": pick.choice([1.5, -3, None]),
            "longitude": 2.5,
            "country": pick.choice(["Peru", "Chile", "Côte d'Ivoire", "", None]),
        }
    return {
        "ind": number,
        "first_name": pick.choice(["Ada", "Max"]),
        "last_name": pick.choice(["L", ""]),
        "age": pick.choice([17, 18, 24, 25, 50, 51, None]),
        "date_joined": f"{pick.randrange(2014, 2022)}-01-02 03:04:05",
    }


def some_records(pick: random.Random, table: str) -> list[bytes]:
    hostile = [
        line if isinstance(line, bytes) else line.encode()
        for name, line in HOSTILE.items()
        if name != "large"
    ]
    # a line break would be two lines in a topic, and one record in a stream
    hostile = [line for line in hostile if b"\n" not in line]
    return [
        pick.choice(hostile)
        if pick.random() < 0.05
        else json.dumps(some_post(pick, table, pick.randrange(60))).encode()
        for _ in range(120)
    ]


@pytest.mark.parametrize("seed", [5])
def test_both_legs_give_the_answers_of_the_model(workspace: Workspace, seed: int) -> None:
    pick = random.Random(seed)
    lines = {table: some_records(pick, table) for table in TABLES}
    streams = Folders(workspace.storage.parent / "streams")
    for table, there in lines.items():
        workspace.put(table, 0, there)
        workspace.run(f"clean_{table}")
        records: Records = {(FIRST + at, "shardId-000000000000"): line for at, line in enumerate(there)}
        halves = list(records.items())
        streams.put(workspace.spark, table, dict(halves[:50]))
        streams.put(workspace.spark, table, dict(halves[50:]))
    run(workspace, streams, "streams")

    published = {}
    for source in ("batch", "stream"):
        workspace.run("queries", run_id=source, source=source, **LENIENT)
        published[source] = json.loads((workspace.storage / f"answers/runs/{source}.json").read_text())
    assert published["stream"]["answers"] == published["batch"]["answers"]
    assert published["stream"]["ledger"]["total"] == published["batch"]["ledger"]["total"]

    clean = {
        table: model.newest(table, {(at, 0): line for at, line in enumerate(there)})[0]
        for table, there in lines.items()
    }
    assert published["stream"]["answers"] == model.answers(clean["pin"], clean["geo"], clean["user"])
    assert len(published["stream"]["answers"]["q8"]) > 3
