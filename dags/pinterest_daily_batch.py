"""
# S3 → clean tables → the eight answers

Every day at midnight UTC, and whenever it is triggered, five Databricks notebooks turn the topics' objects in
the bucket into the clean tables `pin`, `geo` and `user` and answer the eight questions. The answers are then
published as `answers/latest.json`. On Sundays, and when the parameter `maintain` is set, a sixth puts the tables'
small files together and deletes old ones.

## When a task fails

The run page (link on the task) has the notebook's output and traceback.

- `configure` (mounts the bucket if asked to, creates the schema): mostly the cluster's credentials; its
  instance profile must reach the bucket.
- `clean_pin`, `clean_geo`, `clean_user` (read, clean, merge: one row a post). `LedgerError` (the ledger was restored)
  and `PositionError` (the objects are another topic's) say what to do, and are not tried again.
- `queries` (answers the questions, writes `answers/runs/{run key}.json`). `QualityError` is the quality gate: more is
  wrong with the clean tables than the parameters `max_…` allow. It names each expectation with what was found; the
  table `quality` and `answers/refused/` hold all of them, and `make quarantine` shows what cannot be read. The answers
  and their tables stay the last good ones. It is not tried again: mend the source or a rule (then run with
  `retry_quarantined`), or allow more with the parameter that the message names. `missing` are records that were lost
  before they were read: get them back, or say with `accept_missing` that they are lost.
- `publish` (copies that object to `answers/latest.json`): until it succeeds the previous answers stay in place.
- `maintenance_due` and `maintain` (`OPTIMIZE`, `VACUUM`): the answers are out by then, and they may simply be
  cleared. Where maintenance is not due, `maintain` is skipped.

Runs queue behind each other, whether they are scheduled, triggered or cleared. A backfill is refused: a run takes
everything that is new, whatever its date.

Each notebook is a Databricks run of its own. **Retrying or clearing a task starts a new run**, and every
notebook may be run again at any time: merging the same records twice changes nothing.

Where notebooks run is the setting `[pinterest] compute`; credentials are in the connections
`databricks_default` and `aws_default`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.providers.databricks.operators.databricks import DatabricksNotebookOperator
from airflow.sdk import CronTriggerTimetable, Param, chain, dag, get_current_context, task

from pinterest_pipeline import upkeep
from pinterest_pipeline.alarms import failed_run
from pinterest_pipeline.assets import Assets
from pinterest_pipeline.config import TABLES, Settings
from pinterest_pipeline.hooks.answers import LATEST_KEY, answers_key
from pinterest_pipeline.operators.databricks import DatabricksServerlessNotebookOperator
from pinterest_pipeline.params import number_param
from pinterest_pipeline.retries import NotebookRetryPolicy
from pinterest_pipeline.tags import Tag
from pinterest_pipeline.templates import FILTERS, RUN_KEY

SETTINGS = Settings.read()
ASSETS = Assets.of(SETTINGS)

SHARES = {
    "max_quarantined_share": (0.1, "Quarantined records, as a share of all records of a table."),
    "max_quarantined_share_of_run": (0.5, "Quarantined records, as a share of those that this run reads."),
    "max_unparsable_share": (0.1, "Follower counts that cannot be parsed, as a share of all pins."),
    "max_unmatched_share": (0.25, "Pins without a clean geo, or user, record, as a share of all pins."),
}
"""Thresholds of the quality gate: the largest share that passes, and of what."""


def notebook(name: str, **parameters: str) -> DatabricksNotebookOperator:
    """Return the task that runs a notebook; its parameters are widgets, so all are text."""
    arguments: dict[str, Any] = {
        "task_id": name,
        "databricks_task_key": f"{SETTINGS.prefix}-{name}",
        "notebook_path": SETTINGS.notebook(name),
        "source": "WORKSPACE",
        "notebook_params": {
            "storage": SETTINGS.storage,
            "prefix": SETTINGS.prefix,
            "catalog": SETTINGS.catalog,
            "schema": SETTINGS.schema,
            "run_id": RUN_KEY,
            **parameters,
        },
        "polling_period_seconds": SETTINGS.poll_seconds,
        "deferrable": True,
        "retry_policy": NotebookRetryPolicy(),
    }
    if SETTINGS.compute.serverless:
        return DatabricksServerlessNotebookOperator(**arguments)
    return DatabricksNotebookOperator(**arguments, **SETTINGS.compute.as_task())


def threshold(name: str, default: float, what: str) -> Param:
    """Return the parameter of a share that the quality gate lets pass."""
    return number_param(
        default,
        type="number",
        bounds={"minimum": 0, "maximum": 1},
        title=name.replace("max_", "Maximum ").replace("_", " "),
        description_md=f"{what} The run fails if the share is larger; 1 lets every run pass.",
    )


@dag(
    description="Clean tables and the eight answers from everything the topics have landed in S3.",
    # With a start date in the past, switching the DAG on would at once run it for the midnight before.
    # False would run it at once until 02:24: Airflow takes a tenth of a day for "just missed"
    schedule=CronTriggerTimetable("0 0 * * *", timezone="UTC", run_immediately=timedelta(0)),
    start_date=None,
    catchup=False,
    max_active_runs=1,
    # max_active_runs does not count a backfill's runs, and a run has no date: all would do the same work, side by side
    allowed_run_types=[
        "scheduled",
        "manual",
        "operator_triggered",
        "asset_triggered",
        "asset_materialization",
    ],
    dagrun_timeout=timedelta(hours=12),
    tags=[Tag.PINTEREST, Tag.BATCH, Tag.TIER_1],
    doc_md=__doc__,
    user_defined_filters=FILTERS,
    on_failure_callback=failed_run(SETTINGS),
    default_args={
        "owner": "pinterest",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(hours=4),
    },
    params={
        "full_refresh": Param(
            False,
            type="boolean",
            title="Full refresh",
            description_md="Rebuild the clean tables from everything in the bucket, not only from what is new.",
        ),
        "retry_quarantined": Param(
            False,
            type="boolean",
            title="Retry quarantined records",
            description_md="Read quarantined records by the current rules, and merge those that are valid now.",
        ),
        "maintain": Param(
            False,
            type="boolean",
            title="Maintain the tables",
            description_md="Run OPTIMIZE and VACUUM after the answers, as on Sundays.",
        ),
        **{name: threshold(name, default, what) for name, (default, what) in SHARES.items()},
        "max_age_hours": number_param(
            168,
            type="number",
            bounds={"minimum": 0, "maximum": 1_000_000},
            title="Maximum age of the newest row, in hours",
            description_md="The run fails if no row is newer than this.",
        ),
        "max_missing": number_param(
            0,
            type="integer",
            bounds={"minimum": 0},
            title="Maximum missing records",
            description_md="Offsets of a topic that no object holds, per table. The run fails if there are more.",
        ),
        "accept_missing": Param(
            False,
            type="boolean",
            title="Accept missing records",
            description_md="Take offsets that no object holds by now for lost: later runs do not miss them any more.",
        ),
    },
)
def pinterest_daily_batch() -> None:
    configure = notebook("configure", bucket=f"s3://{SETTINGS.bucket}", mount_point=SETTINGS.mount_point)
    cleans = [
        notebook(
            f"clean_{table}",
            full_refresh="{{ params.full_refresh | string | lower }}",
            retry_quarantined="{{ params.retry_quarantined | string | lower }}",
            accept_missing="{{ params.accept_missing | string | lower }}",
        )
        for table in TABLES
    ]
    limits = {name: f"{{{{ params.{name} }}}}" for name in (*SHARES, "max_age_hours", "max_missing")}
    queries = notebook("queries", source="batch", **limits)
    publish = S3CopyObjectOperator(
        task_id="publish",
        source_bucket_name=SETTINGS.bucket,
        source_bucket_key=answers_key(RUN_KEY),
        dest_bucket_name=SETTINGS.bucket,
        dest_bucket_key=LATEST_KEY,
        outlets=[ASSETS.answers],
        execution_timeout=timedelta(minutes=5),
    )

    @task.short_circuit(execution_timeout=timedelta(minutes=5))
    def maintenance_due() -> bool:
        context = get_current_context()
        return upkeep.is_due(context["dag_run"], asked=context["params"]["maintain"])

    chain(configure, cleans, queries, publish, maintenance_due(), notebook("maintain"))


pinterest_daily_batch()
