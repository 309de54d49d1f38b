"""make demo: from nothing to the eight answers, through every system, told as it goes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from include.emulation.terminal import printable
from local.stack import prepare, settings
from local.stack.airflow_api import AirflowApi
from local.stack.errors import StackError
from local.stack.parameters import whole_number

TABLES = ("pin", "geo", "user")
QUESTIONS = {
    "q1": "1  most popular category in each country",
    "q2_counts": "2a posts per category and year",
    "q2_winners": "2b most popular category in each year",
    "q3_per_country": "3a user with most followers in each country",
    "q3_top_country": "3b country with the most followed user",
    "q4": "4  most popular category per age group",
    "q5": "5  median follower count per age group",
    "q6": "6  users joined in each year",
    "q7": "7  median follower count by joining year",
    "q8": "8  median follower count by joining year and age group",
}
NOT_AS_PUBLISHED = (
    "answers/latest.json is not what the batch publishes. "
    "Publish it again: make dag DAG=pinterest_daily_batch"
)
MOST_ROWS = 12
MOST_CHARACTERS = 200
"""Of one value."""
MOST_POSTS = 1_000_000
LARGEST_SEED = 2**63 - 1


def run_demo(
    arguments: argparse.Namespace,
    *,
    start_stack: Callable[[settings.Stack], None],
    run_dag: Callable[..., str],
    read_answers: Callable[[settings.Stack], str],
    say: Callable[[str], None],
) -> int:
    """Start the stack, load the source, run the three DAGs, and print the ledger and the answers."""
    posts = whole_number("POSTS", arguments.posts, 1, MOST_POSTS)
    seed = whole_number("SEED", arguments.seed, -LARGEST_SEED, LARGEST_SEED)
    began = time.monotonic()
    stack = settings.load_or_create(settings.home_folder())
    say("1/4 The source tables")
    prepare.load_source(stack, arguments.source)
    say("\n2/4 The stack")
    start_stack(stack)
    say("\n3/4 The three DAGs")
    emulation = {"posts": posts, "seed": seed}
    ledgers = {}
    now = datetime.now(UTC).isoformat()
    for dag_id, conf, how in (
        ("pinterest_msk_ingestion", emulation, {}),
        ("pinterest_daily_batch", {}, {"by_data_since": now}),
        ("pinterest_kinesis_streams", emulation, {}),
    ):
        if run_dag(stack, dag_id, conf, **how) != "success":
            say(f"\nThe run failed. Look at it in Airflow: {stack.url('airflow')}/dags/{dag_id}")
            return 1
        ledgers[dag_id] = _last_ledger(stack, dag_id)
    say("\n4/4 The ledger and the answers")
    published = _published(read_answers(stack))
    console = Console(highlight=False)
    _print_ledger(console, ledgers, published["ledger"])
    for key, title in QUESTIONS.items():
        _print_answer(console, title, published["answers"][key])
    _print_addresses(stack, say)
    say(f"Done in {time.monotonic() - began:.0f} s. The stack stays up; make down ends it.")
    return 0


def _published(text: str) -> dict[str, Any]:
    """Return answers/latest.json if it is what the batch publishes."""
    published = json.loads(text)
    try:
        tables = [published["ledger"][part][name] for part in ("run", "total") for name in TABLES]
        rows = [row for key in QUESTIONS for row in published["answers"][key]]
    except (KeyError, TypeError) as error:
        raise StackError(f"{NOT_AS_PUBLISHED} ({printable(repr(error), 80)})") from None
    if not all(isinstance(each, dict) for each in tables + rows):
        raise StackError(NOT_AS_PUBLISHED)
    return dict(published)


def _last_ledger(stack: settings.Stack, dag_id: str) -> dict[str, Any]:
    """The ledger that the DAG's `reconcile` task returned; the batch DAG's is in the published answers."""
    if dag_id == "pinterest_daily_batch":
        return {}
    api = AirflowApi(stack)
    runs = api.call("GET", f"/dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": 1})[
        "dag_runs"
    ]
    return dict(api.xcom(dag_id, runs[0]["dag_run_id"], "reconcile"))


def _print_ledger(console: Console, ledgers: dict[str, Any], batch: dict[str, Any]) -> None:
    streams = ledgers["pinterest_kinesis_streams"]
    all_streams = {name: streams[name]["total"] for name in TABLES}
    console.print(_ledger_table("Emulator → Kafka → S3, this run", ledgers["pinterest_msk_ingestion"]))
    console.print(_ledger_table("S3 → clean tables, this run", batch["run"]))
    console.print(_ledger_table("S3 → clean tables, all runs", batch["total"]))
    console.print(_ledger_table("Emulator → Kinesis → stream tables, this run", streams))
    console.print(_ledger_table("Kinesis → stream tables, all runs", all_streams))


def _ledger_table(title: str, ledger: dict[str, Any]) -> Table:
    """One column a table, one row a count; a count that only some tables have is a dash in the others."""
    table = Table(title=title, title_justify="left", title_style="bold", min_width=len(title) + 2)
    table.add_column("")
    for name in TABLES:
        table.add_column(name, justify="right", min_width=7)
    for count in ledger["pin"]:
        if count not in {"by_reason", "total"}:
            label = _shown(count.replace("_", " "))
            table.add_row(label, *(_shown(ledger[name].get(count)) for name in TABLES))
    for reason in sorted({reason for name in TABLES for reason in ledger[name].get("by_reason", {})}):
        counts = (ledger[name].get("by_reason", {}).get(reason, 0) for name in TABLES)
        table.add_row(_shown(f"  {reason}"), *map(_shown, counts))
    return table


def _print_answer(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", min_width=len(title) + 2)
    for column in rows[0] if rows else ["no rows"]:
        numeric = rows and isinstance(rows[0][column], int | float)
        table.add_column(_shown(column), justify="right" if numeric else "left")
    for row in rows[:MOST_ROWS]:
        table.add_row(*map(_shown, row.values()))
    if len(rows) > MOST_ROWS:
        table.caption = f"… and {len(rows) - MOST_ROWS} more rows: make -s answers"
        table.caption_justify = "left"
    console.print(table)


def _shown(value: Any) -> Text:
    """Return a value as a cell; a str would be read as rich's markup."""
    if value is None:
        return Text("-")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return Text(
        f"{value:,}" if isinstance(value, int) and value > 9999 else printable(value, MOST_CHARACTERS)
    )


def _print_addresses(stack: settings.Stack, say: Callable[[str], None]) -> None:
    say(
        f"\nAirflow        {stack.url('airflow')}   login: admin   password: {stack.credentials['airflow_password']}"
    )
    say(
        f"Databricks     {stack.url('databricks')}   login: token   password: {stack.credentials['databricks_token']}"
    )
    say(f"API Gateway    {stack.api_url}   (SigV4)")
    say("More addresses and the credentials: make -s env")
