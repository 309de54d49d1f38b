"""From nothing to the eight answers, through every system, and what a user may lean on afterwards."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import stat
import subprocess
from pathlib import Path

import psutil
import pytest
from deltalake import DeltaTable

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("pin", "geo", "user")

pytestmark = pytest.mark.timeout(1800)  # the first of them waits for the whole of make demo


def drawn_numbers(posts: int, seed: int = 100) -> list[int]:
    """The classic emulator, written once more: the pause is drawn before the number."""
    generator = random.Random(seed)
    return [(generator.randrange(0, 2), generator.randint(0, 11000))[1] for _ in range(posts)]


def answers(stack):
    return json.loads(stack.make("answers").stdout)


def test_every_leg_balances(stack, demo):
    published = answers(stack)
    distinct = len(set(drawn_numbers(300)))
    for table in TABLES:
        total = published["ledger"]["total"][table]
        assert total["read"] == total["clean"] + total["superseded"] + total["quarantined"]
        assert (total["read"], total["clean"], total["quarantined"]) == (300, distinct, 0)


def test_the_tables_hold_what_the_ledger_says(env):
    distinct = len(set(drawn_numbers(300)))
    for name in (*TABLES, *(f"pinterest_{table}_table" for table in TABLES)):
        numbers = DeltaTable(f"{env['LAKE_DIR']}/{name}").to_pyarrow_table(columns=["ind"])["ind"].to_pylist()
        assert sorted(numbers) == sorted(set(drawn_numbers(300))), name
        assert len(numbers) == distinct


def test_posts_per_year_and_category_agree_with_the_source(stack, env):
    """Question 2 computed by SQL over the source rows that were drawn."""
    numbers = ",".join(map(str, set(drawn_numbers(300))))
    with sqlite3.connect(env["SOURCE_URL"].removeprefix("sqlite:///")) as source:
        rows = source.execute(
            f"""SELECT CAST(substr(g.timestamp, 1, 4) AS INTEGER) AS post_year, p.category, count(*) AS category_count
                FROM pinterest_data p JOIN geolocation_data g ON p."index" = g.ind
                WHERE p."index" IN ({numbers}) AND substr(g.timestamp, 1, 4) BETWEEN '2018' AND '2022'
                GROUP BY 1, 2 ORDER BY 1, 2"""
        ).fetchall()
    published = answers(stack)["answers"]["q2_counts"]
    assert [(row["post_year"], row["category"], row["category_count"]) for row in published] == rows


def test_up_twice_is_harmless(stack, demo):
    before = pids_of_the_parts(stack)
    assert "is up already" in stack.make("up").stdout
    assert pids_of_the_parts(stack) == before


def pids_of_the_parts(stack) -> dict[str, str]:
    """Part -> pid, as make status tells: the processes that parts start and end as they go are not in it."""
    lines = stack.make("status").stdout.splitlines()
    return {line.split()[0]: re.search(r"\bpid (\d+),", line)[1] for line in lines}


def test_status_says_that_every_part_is_ready(stack, demo):
    lines = stack.make("status").stdout.splitlines()
    assert [line for line in lines if line.split()[1] != "ready"] == []


def test_airflow_dags_test_posts_the_same_again_and_no_answer_changes(stack, env):
    before = answers(stack)
    replay = {"posts": 300.0, "seed": 100.0}  # whole numbers may come so: JSON Schema takes them for integers
    confs = {
        "pinterest_msk_ingestion": replay,
        "pinterest_kinesis_streams": {**replay, "shards": 1.0},
        "pinterest_daily_batch": {},
    }
    for dag_id, conf in confs.items():
        done = subprocess.run(
            [ROOT / ".venv/airflow/bin/airflow", "dags", "test", dag_id, "--conf", json.dumps(conf)],
            cwd=ROOT,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    after = answers(stack)
    assert after["answers"] == before["answers"]
    assert after["run_id"] != before["run_id"]
    assert after["ledger"]["run"]["pin"]["read"] == 300
    assert after["ledger"]["total"]["pin"]["read"] == before["ledger"]["total"]["pin"]["read"] + 300
    assert after["ledger"]["total"]["pin"]["clean"] == before["ledger"]["total"]["pin"]["clean"]


def test_everything_listens_on_loopback_only(demo, processes):
    listening = [
        connection.laddr
        for connections in processes(psutil.Process.net_connections)
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert [
        address for address in listening if address.ip not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    ] == []


def test_no_credential_is_in_a_log_or_a_process_list(env, processes):
    home = Path(env["PIPELINE_HOME"])
    secrets = json.loads((home / "etc" / "credentials.json").read_text())
    secrets.pop("aws_access_key_id")  # a name, not a secret: it stands in every signed request
    command_lines = "\n".join(" ".join(command) for command in processes(psutil.Process.cmdline))
    assert [name for name, value in secrets.items() if value in command_lines] == []
    for log in [*(home / "log").glob("*"), *(home / "airflow" / "logs").rglob("*.log")]:
        text = log.read_text("utf-8", "replace")
        assert [(log.name, name) for name, value in secrets.items() if value in text] == []


def test_credentials_are_readable_by_their_owner_only(env):
    home = Path(env["PIPELINE_HOME"])
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home / "etc").iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demo", "POSTS=0"), "POSTS=0: at least 1 is needed."),
        (("demo", "POSTS=-5"), "POSTS=-5: at least 1 is needed."),
        (("demo", "POSTS=many"), "POSTS=many is not a whole number."),
        (("demo", "SOURCE=/no/such/folder"), "/no/such/folder"),
        (("dag", "DAG=pinterest_msk_ingestion", "CONF={"), "CONF is not JSON"),
        (("dag", 'DAG=pinterest_msk_ingestion', 'CONF={"posts": -1}'), "posts"),
        (("dag", 'DAG=pinterest_msk_ingestion', 'CONF={"posts": 1, "posts": 2}'), "CONF names 'posts' more than once"),
        (("dag", "DAG=no_such_dag"), "There is no DAG no_such_dag. These are there: pinterest_daily_batch, pinterest"),
        (("dag", "DAG=pinterest_daily_batch?x=1#"), "There is no DAG pinterest_daily_batch?x=1#."),
        (("dag", "DAG=../../connections"), "There is no DAG ../../connections."),
        (("dag", "DAG=-h"), "There is no DAG -h."),
        (("logs", "SERVICE=nothing"), "choose one of"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_its_reason(stack, demo, arguments, message):
    done = stack.make(*arguments, check=False)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
