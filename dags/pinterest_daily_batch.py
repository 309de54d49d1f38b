"""
# S3 → clean tables → the eight answers

Whenever `pinterest_msk_ingestion` has landed records, every day at midnight UTC, and when it is triggered, five
Databricks notebooks turn the topics' objects in the bucket into the clean tables `pin`, `geo` and `user` and answer the
eight questions. The answers are then published as `answers/latest.json`. On Sundays, and when the parameter `maintain`
is set, a sixth puts the tables' small files together and deletes old ones.

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
  `retry_quarantined`), or allow more with the parameter: `max_quarantined_percent` for `quarantined_share`. `missing`
  are records that were lost before they were read: get them back, or say with `accept_missing` that they are lost.
- `publish` (copies that object to `answers/latest.json`): until it succeeds the previous answers stay in place.
  Answers that are older than the published ones are refused; the message has the command that puts them back.
- `maintenance_due` and `maintain` (`OPTIMIZE`, `VACUUM`): the answers are out by then, and they may simply be
  cleared. Where maintenance is not due, `maintain` is skipped.

Runs queue behind each other, whether they are scheduled, triggered, started by new data or cleared. A backfill is
refused: a run takes everything that is new, whatever its date.

Each notebook is a Databricks run of its own. **Retrying or clearing a task starts a new run**, and every
notebook may be run again at any time: merging the same records twice changes nothing.

Where notebooks run is the setting `[pinterest] compute`; credentials are in the connections
`databricks_default` and `aws_default`.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from airflow.sdk import (
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    chain,
    dag,
    get_current_context,
    task,
)

from pinterest_pipeline import upkeep
from pinterest_pipeline.alarms import failed_run
from pinterest_pipeline.assets import Assets
from pinterest_pipeline.config import TABLES, Settings
from pinterest_pipeline.hooks.answers import LATEST_KEY, answers_key
from pinterest_pipeline.notebooks import notebook_task
from pinterest_pipeline.operators.answers import PublishAnswersOperator
from pinterest_pipeline.params import number_param
from pinterest_pipeline.retries import RETRIES
from pinterest_pipeline.tags import Tag
from pinterest_pipeline.templates import FILTERS, RUN_KEY

SETTINGS = Settings.read()
ASSETS = Assets.of(SETTINGS)

PERCENTS = {
    "max_quarantined_percent": (10, "Quarantined records, of all records of a table."),
    "max_quarantined_percent_of_run": (50, "Quarantined records, of those that this run reads."),
    "max_unparsable_percent": (10, "Follower counts that cannot be parsed, of all pins."),
    "max_unmatched_percent": (25, "Pins without a clean geo, or user, record, of all pins."),
}
"""Thresholds of the quality gate: the largest percentage that passes, and of what. Whole, as the form steps by 1."""


notebook = partial(notebook_task, SETTINGS)


def threshold(name: str, default: int, what: str) -> Param:
    """Return the parameter of a percentage that the quality gate lets pass."""
    return number_param(
        default,
        type="integer",
        bounds={"minimum": 0, "maximum": 100},
        title=name.replace("max_", "Maximum ").replace("_", " "),
        description_md=f"{what} The run fails if it is a larger percentage; 100 lets every run pass.",
    )


@dag(
    description="Clean tables and the eight answers from everything the topics have landed in S3.",
    schedule=AssetOrTimeSchedule(
        assets=[ASSETS.topics_landed],
        # With a start date in the past, switching the DAG on would at once run it for the midnight before.
        # False would run it at once until 02:24: Airflow takes a tenth of a day for "just missed"
        timetable=CronTriggerTimetable("0 0 * * *", timezone="UTC", run_immediately=timedelta(0)),
    ),
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
    tags=[Tag.PINTEREST, Tag.BATCH, Tag.TIER_1],
    doc_md=__doc__,
    user_defined_filters=FILTERS,
    on_failure_callback=failed_run(SETTINGS),
    default_args={
        "owner": "pinterest",
        **RETRIES,
        "execution_timeout": timedelta(minutes=30),
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
        **{name: threshold(name, default, what) for name, (default, what) in PERCENTS.items()},
        "max_age_hours": number_param(
            None,
            type=["null", "number"],
            bounds={"minimum": 0, "maximum": 1_000_000},
            title="Maximum age of the newest row, in hours",
            description_md="The run fails if no row is newer than this. Empty: after a week it is a warning.",
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
    # the notebook's widgets take shares
    shares = {name.replace("percent", "share"): f"{{{{ params.{name} / 100 }}}}" for name in PERCENTS}
    queries = notebook(
        "queries",
        source="batch",
        max_age_hours="{{ '' if params.max_age_hours is none else params.max_age_hours }}",
        max_missing="{{ params.max_missing | int }}",
        **shares,
    )
    publish = PublishAnswersOperator(
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
