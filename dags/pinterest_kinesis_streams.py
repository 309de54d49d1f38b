"""
# Posts → API → Kinesis → stream tables

Starts the stream notebook, draws posts from the source database and puts their records through the API
Gateway to the streams `streaming-{prefix}-pin`, `-geo` and `-user`; waits until **every acknowledged sequence
number** is committed to the stream tables; stops the notebook; and checks that nothing was lost on the way.
With `posts` = 0 nothing is put: what others have put by then is drained.

## When a task fails

- `create_stream` (creates missing streams; mapped, one a table): permissions of `aws_default`, or the account's
  limit of shards.
- `streams_active` (waits for them): the message tells each stream's status.
- `progress_before` (notes how far the tables are): the bucket does not answer.
- `start_job` (starts the stream notebook as a run of its own): connection `databricks_default`, setting
  `[pinterest] stream_compute`.
- `emulate` (draws and puts): the message names the refused records with code and reason. The counts are in the
  task's XCom `report`, also when it fails.
- `committed` (waits for the sequence numbers): the message says how many shards and records are behind, and how
  the run has ended if it has; its page is the link on `start_job`.
- `stop_job` (teardown: asks the notebook to stop, cancels the run if it does not): the run had failed by itself;
  the message has its page.
- `reconcile` (acknowledged ≤ committed; read = clean + superseded + quarantined): the message names leg, table
  and counts.

`stop_job` runs whatever happens after `start_job`, so no run is left behind. A retry of `start_job` takes over
a run that is still up. A retry of `emulate` posts again, which changes nothing: the newest record of a post
wins. The run's ledger is the XCom of `reconcile`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, XComArg, chain, dag, get_current_context, task
from pendulum import datetime

from pinterest_pipeline.alarms import failed_run
from pinterest_pipeline.assets import Assets
from pinterest_pipeline.config import TABLES, Settings
from pinterest_pipeline.operators.databricks import (
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)
from pinterest_pipeline.operators.kinesis import KinesisCreateStreamOperator
from pinterest_pipeline.sensors.kinesis import KinesisStreamStatusSensor, StreamCommittedSensor
from pinterest_pipeline.tags import Tag
from pinterest_pipeline.templates import RUN_KEY

SETTINGS = Settings.read()
ASSETS = Assets.of(SETTINGS)
STREAMS = {table: SETTINGS.stream(table) for table in TABLES}
STOP_KEY = f"streams/{SETTINGS.prefix}/stop/{RUN_KEY}"


@dag(
    description="Emulated posts through the API to Kinesis and on to the stream tables, each accounted for.",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    tags=[Tag.PINTEREST, Tag.STREAMING, Tag.TIER_2],
    doc_md=__doc__,
    on_failure_callback=failed_run(SETTINGS),
    default_args={
        "owner": "pinterest",
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(hours=4),
    },
    params={
        "posts": Param(
            500,
            type="integer",
            minimum=0,
            maximum=1_000_000,
            title="Posts",
            description_md="How many posts to draw; each is up to three records. 0 drains what others have put.",
        ),
        "seed": Param(
            100,
            type="integer",
            title="Seed",
            description_md="Starts the random generator: the same seed draws the same posts.",
        ),
        "order": Param(
            "classic",
            type="string",
            enum=["classic", "sequential"],
            title="Order",
            description_md="`classic` draws at random, with replacement; `sequential` walks the tables once.",
        ),
        "rate": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="Posts a second",
            description_md="Empty: as fast as the API takes them.",
        ),
        "shards": Param(
            1,
            type="integer",
            minimum=1,
            maximum=100,
            title="Shards",
            description_md="Shards of a stream that has to be created; existing streams keep theirs.",
        ),
    },
)
def pinterest_kinesis_streams() -> None:
    create_streams = KinesisCreateStreamOperator.partial(
        task_id="create_stream",
        shard_count="{{ params.shards }}",
        map_index_template="{{ task.stream_name }}",
        execution_timeout=timedelta(minutes=5),
    ).expand(stream_name=list(STREAMS.values()))

    streams_active = KinesisStreamStatusSensor(
        task_id="streams_active",
        stream_names=list(STREAMS.values()),
        poke_interval=SETTINGS.poll_seconds,
        timeout=timedelta(minutes=10),
    )

    @task(execution_timeout=timedelta(minutes=5))
    def progress_before() -> dict[str, Any]:
        from pinterest_pipeline.hooks.progress import StreamProgressHook

        return StreamProgressHook(bucket=SETTINGS.bucket, key=SETTINGS.progress_key).read()

    before: Any = progress_before()

    start_job = DatabricksStartStreamOperator(
        task_id="start_job",
        bucket=SETTINGS.bucket,
        stop_key=STOP_KEY,
        run_name=f"{SETTINGS.prefix}-kinesis_streams",
        tasks=[
            {
                "task_key": f"{SETTINGS.prefix}-kinesis_streams",
                "notebook_task": {
                    "notebook_path": SETTINGS.notebook("kinesis_streams"),
                    "source": "WORKSPACE",
                    "base_parameters": {
                        "storage": SETTINGS.storage,
                        "prefix": SETTINGS.prefix,
                        "catalog": SETTINGS.catalog,
                        "schema": SETTINGS.schema,
                        "run_id": RUN_KEY,
                        "region": SETTINGS.region,
                        "endpoint_url": SETTINGS.kinesis_endpoint_url,
                        "secret_scope": SETTINGS.secret_scope,
                        "checkpoint_dir": SETTINGS.checkpoint_dir,
                        "trigger": "1 second",
                        "stop_path": f"{SETTINGS.storage}/{STOP_KEY}",
                    },
                },
                **SETTINGS.stream_compute.as_task(),
            }
        ],
        timeout_seconds=int(timedelta(hours=6).total_seconds()),
        execution_timeout=timedelta(minutes=5),
    )

    @task(multiple_outputs=True)
    def emulate() -> dict[str, Any]:
        from airflow.sdk import BaseHook

        from include.emulation.emulation import emulate as run_emulation
        from include.emulation.source import Source
        from pinterest_pipeline.config import source_url
        from pinterest_pipeline.emulating import checked, log_progress
        from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
        from pinterest_pipeline.senders import StreamSender

        context = get_current_context()
        params = context["params"]
        sender = StreamSender(ApiGatewayHook().get_conn(), SETTINGS)
        with Source(source_url(BaseHook.get_connection("pinterest_source"))) as source:
            report = run_emulation(
                source,
                sender,
                posts=params["posts"],
                seed=params["seed"],
                order=params["order"],
                pace=params["rate"],
                progress=log_progress(),
            )
        return checked(report.as_dict(), context["ti"])

    report: Any = emulate()

    run_id = XComArg(start_job, key="run_id")

    committed = StreamCommittedSensor(
        task_id="committed",
        positions=report["positions"],
        stream_names=list(STREAMS.values()),
        bucket=SETTINGS.bucket,
        progress_key=SETTINGS.progress_key,
        databricks_run_id=run_id,
        poke_interval=SETTINGS.poll_seconds,
        timeout=timedelta(minutes=30),
    )

    stop_job = DatabricksStopStreamOperator(
        task_id="stop_job",
        run_id=run_id,
        bucket=SETTINGS.bucket,
        stop_key=STOP_KEY,
        poll_interval=SETTINGS.poll_seconds,
        execution_timeout=timedelta(minutes=10),
    ).as_teardown(setups=start_job, on_failure_fail_dagrun=True)

    @task(outlets=[ASSETS.stream_tables], execution_timeout=timedelta(minutes=5))
    def reconcile(tables: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        from pinterest_pipeline.hooks.progress import StreamProgressHook
        from pinterest_pipeline.ledger import streams_ledger

        after = StreamProgressHook(bucket=SETTINGS.bucket, key=SETTINGS.progress_key).read()
        return streams_ledger(tables, before, after, STREAMS)

    ledger = reconcile(report["tables"], before)
    chain(create_streams, streams_active, before, start_job, report, committed, stop_job)
    chain([committed, stop_job], ledger)


pinterest_kinesis_streams()
