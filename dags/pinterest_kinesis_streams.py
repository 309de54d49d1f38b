"""
# Posts → API → Kinesis → stream tables

Brings the streams `streaming-{prefix}-pin`, `-geo` and `-user` to what they shall be, sees to it that the stream job
is running, draws posts from the source database and puts their records through the API Gateway; waits until **every
acknowledged sequence number** is committed to the stream tables; and checks that nothing was lost on the way. With
`posts` = 0 nothing is put: what others have put by then is drained.

The stream job is the Databricks job `{prefix}-kinesis_streams`, of which one run goes on at a time. A run of this DAG
that finds one going leaves it alone; else it starts one, and at the end stops the one it has started. `job` = `keep`
leaves it running; `stop` stops it whoever has started it. Databricks tries a failed job again by itself, 20 times, and
except with `keep` for 48 hours at most, should nobody be left to stop it. The next run of this DAG adopts a job whose
own run is over without having stopped it.

Stopping another run's job and deleting the streams (`delete_streams`, which stops the job too) take a `confirm`: the
prefix. Nothing else here stops or deletes what it has not made.

## When a task fails

- `progress_before` (checks the parameters; notes how far the tables are): `confirm` is missing or wrong; so many
  `posts` at this `rate` take longer than `emulate` may; or the bucket does not answer.
- `create_streams` (creates missing streams): permissions of `aws_default`, or the account's limit of shards.
- `streams_active` (waits for them): the message tells each stream's status.
- `scale_streams` (brings the streams to `shards`, in the steps Kinesis takes): Kinesis scales a stream ten times a
  day at most. Records stay; shards that are split or merged are read to their end first.
- `start_job` (finds the stream job's run, or starts one; one that is just ending is waited for): connection
  `databricks_default`, setting `[pinterest] stream_compute`.
- `emulate` (draws and puts): the message names the refused records with code and reason. The counts are in the
  task's XCom `report`, also when it fails. `SourceError` names the column or value of the source that cannot be
  sent. What another try cannot help is final.
- `committed` (waits for the sequence numbers): the message says how many records and seconds each stream is behind,
  and how the run has ended if it has, or that it fails again and again; its page is the link on `start_job`.
- `stop_job` (teardown: asks the notebook to stop; cancels the run if it does not in ten minutes, or if its cluster
  still starts; waits until it is over): the run had failed by itself, or does not end; the message has its page.
- `check_streams` (a notebook, on the batch's compute: counts rows and posts of the stream tables, and what is in
  quarantine, and compares them with the job's ledger): the message names table and counts, and how to rebuild it.
- `reconcile` (acknowledged ≤ committed; read = clean + superseded + quarantined): the message names leg, table
  and counts. Its log, and `may_be_lost` in its XCom, say of which time records may be lost because no job has read
  them for longer than the streams keep them.
- `delete_wanted`, `delete_streams` (skipped unless asked for; not there, and not offered, where
  `[pinterest] may_delete_streams` is false; waits until they are gone): permissions of `aws_default`. Streams that are
  made anew under the same names need new checkpoints: delete the folder `[pinterest] checkpoint_dir`. The tables stay.

A retry of `start_job` finds the run it has started. A retry of `emulate` goes on where something has failed first, and
a task that is cleared begins anew: records that come twice change nothing, as the newest record of a post wins and
the emulator's records of a post are equal. The run's ledger is the XCom of `reconcile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, chain, dag, get_current_context, task
from pendulum import datetime

from pinterest_pipeline.alarms import failed_run, quiet_refusals
from pinterest_pipeline.assets import Assets
from pinterest_pipeline.config import TABLES, Settings
from pinterest_pipeline.emulating import (
    EMULATE_TIMEOUT,
    EmulationProgress,
    checked,
    emulation_params,
    refuse_endless,
)
from pinterest_pipeline.exceptions import ParametersRefused
from pinterest_pipeline.notebooks import notebook_task
from pinterest_pipeline.operators.databricks import (
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)
from pinterest_pipeline.operators.kinesis import (
    KinesisCreateStreamOperator,
    KinesisDeleteStreamOperator,
    KinesisScaleStreamOperator,
)
from pinterest_pipeline.params import number_param, whole_numbers
from pinterest_pipeline.retries import RETRIES
from pinterest_pipeline.sensors.kinesis import KinesisStreamStatusSensor, StreamCommittedSensor
from pinterest_pipeline.tags import Tag
from pinterest_pipeline.templates import FILTERS, RUN_KEY

SETTINGS = Settings.read()
ASSETS = Assets.of(SETTINGS)
STREAMS = {table: SETTINGS.stream(table) for table in TABLES}
STREAM_NAMES = list(STREAMS.values())
STOP_PREFIX = f"streams/{SETTINGS.prefix}/stop"

# Databricks fills in {{job.run_id}}; Airflow must not. The job as it stands can also be run from its own page.
DATABRICKS_RUN = "{{ '{{job.run_id}}' }}"
JOB = {
    "name": f"{SETTINGS.prefix}-kinesis_streams",
    "max_concurrent_runs": 1,
    "tasks": [
        {
            "task_key": "kinesis_streams",
            # as a rule each attempt starts a cluster: what can never work ends after some hours, not never
            "max_retries": 20,
            "min_retry_interval_millis": 30_000,
            "retry_on_timeout": True,
            "notebook_task": {
                "notebook_path": SETTINGS.notebook("kinesis_streams"),
                "source": "WORKSPACE",
                "base_parameters": {
                    "storage": SETTINGS.storage,
                    "bucket": f"s3://{SETTINGS.bucket}",
                    "mount_point": SETTINGS.mount_point,
                    "prefix": SETTINGS.prefix,
                    "catalog": SETTINGS.catalog,
                    "schema": SETTINGS.schema,
                    "run_id": DATABRICKS_RUN,
                    "region": SETTINGS.region,
                    "endpoint_url": SETTINGS.kinesis_endpoint_url,
                    "secret_scope": SETTINGS.secret_scope,
                    "service_credential": SETTINGS.service_credential,
                    "checkpoint_dir": SETTINGS.checkpoint_dir,
                    "trigger": "1 second",
                    "stop_path": f"{SETTINGS.storage}/{STOP_PREFIX}/{DATABRICKS_RUN}",
                },
            },
            **SETTINGS.stream_compute.as_task(),
        }
    ],
}
TIME_LIMIT = timedelta(hours=48)
"""More than a run of this DAG can take from `start_job` on; then Databricks ends the job's run by itself."""
JOB_TIME_LIMIT = f"{{{{ 0 if params.get('job') == 'keep' else {TIME_LIMIT.total_seconds():.0f} }}}}"

IS_STOPPED = (
    "{{ params.get('delete_streams', False) or params.job == 'stop' or "
    "(params.job == 'drain' and ti.xcom_pull(task_ids='start_job', key='started')) }}"
)

DELETE_STREAMS = (
    {
        "delete_streams": Param(
            False,
            type="boolean",
            title="Delete the streams",
            description_md=(
                "When everything is committed, stop the job and delete the three streams (needs Confirm)."
            ),
        )
    }
    if SETTINGS.may_delete_streams
    else {}
)


def check_parameters(params: Mapping[str, Any]) -> None:
    """Refuse what a run may not do, what takes a confirmation that was not given, and what cannot end in time."""
    deletes = params.get("delete_streams", False)
    if deletes and not SETTINGS.may_delete_streams:
        raise ParametersRefused(
            "The streams are not Airflow's to delete: [pinterest] may_delete_streams is false. Nothing was done."
        )
    if (params["job"] == "stop" or deletes) and params["confirm"] != SETTINGS.prefix:
        what = "delete the streams" if deletes else "stop a job that another run has started"
        raise ParametersRefused(
            f"To {what}, set confirm to {SETTINGS.prefix!r}; it is {params['confirm'] or ''!r}. Nothing was done."
        )
    refuse_endless(params)


@dag(
    description="Emulated posts through the API to Kinesis and on to the stream tables, each accounted for.",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    # No dagrun_timeout: it would skip the teardown, too. Every task and wait has an end of its own.
    tags=[Tag.PINTEREST, Tag.STREAMING, Tag.TIER_2],
    doc_md=__doc__,
    user_defined_filters=FILTERS,
    on_failure_callback=failed_run(SETTINGS),
    default_args={
        "owner": "pinterest",
        **RETRIES,
        "execution_timeout": timedelta(minutes=30),
    },
    params={
        **emulation_params(fewest=0, note="0 drains what others have put."),
        "shards": number_param(
            None,
            type=["null", "integer"],
            bounds={"minimum": 1, "maximum": 100},
            title="Shards",
            description_md="Shards of each stream, 1 to 100. Empty: as many as it has; 1 for a new stream.",
        ),
        "job": Param(
            "drain",
            type="string",
            enum=["drain", "keep", "stop"],
            title="Stream job",
            description_md=(
                "When everything is committed:\n\n"
                "- **drain** stops the job if this run started it\n"
                "- **keep** leaves it running\n"
                "- **stop** stops it, whoever started it (needs Confirm)"
            ),
        ),
        **DELETE_STREAMS,
        "confirm": Param(
            None,
            type=["null", "string"],
            title="Confirm",
            description_md=(
                f"Enter **{SETTINGS.prefix}** to stop a job that another run started, or to delete the streams. "
                "Else leave this empty."
            ),
        ),
    },
)
def pinterest_kinesis_streams() -> None:
    @task(execution_timeout=timedelta(minutes=5))
    def progress_before() -> dict[str, Any]:
        from pinterest_pipeline.hooks.progress import StreamProgressHook

        context = get_current_context()
        with quiet_refusals(context):
            check_parameters(context["params"])
        return StreamProgressHook(bucket=SETTINGS.bucket, key=SETTINGS.progress_key).read()

    before: Any = progress_before()

    create_streams = KinesisCreateStreamOperator(
        task_id="create_streams",
        stream_names=STREAM_NAMES,
        shard_count="{{ params.shards | int or 1 }}",
        region_name=SETTINGS.region,
        execution_timeout=timedelta(minutes=5),
    )

    streams_active = KinesisStreamStatusSensor(
        task_id="streams_active",
        stream_names=STREAM_NAMES,
        region_name=SETTINGS.region,
        poke_interval=SETTINGS.poll_seconds,
        timeout=timedelta(minutes=10),
    )

    scale_streams = KinesisScaleStreamOperator(
        task_id="scale_streams",
        stream_names=STREAM_NAMES,
        shard_count="{{ params.shards | int or '' }}",
        region_name=SETTINGS.region,
        poll_interval=SETTINGS.poll_seconds,
    )

    start_job: Any = DatabricksStartStreamOperator(
        task_id="start_job",
        job=JOB,
        run_key=RUN_KEY,
        time_limit=JOB_TIME_LIMIT,
        poll_interval=SETTINGS.poll_seconds,
        multiple_outputs=True,
    )

    @task(multiple_outputs=True, execution_timeout=EMULATE_TIMEOUT)
    def emulate() -> dict[str, Any]:
        from airflow.sdk import BaseHook

        from include.emulation.emulation import Report
        from include.emulation.emulation import emulate as run_emulation
        from include.emulation.source import Source
        from pinterest_pipeline.config import source_url
        from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
        from pinterest_pipeline.senders import StreamSender

        context = get_current_context()
        params, ti = whole_numbers(context["params"]), context["ti"]
        if params["posts"] == 0:  # no reason to open the source
            return checked(Report(0, params["seed"], params["order"]).as_dict(), ti)
        sender = StreamSender(ApiGatewayHook().get_conn(), SETTINGS)
        progress = EmulationProgress(context)
        with Source(source_url(BaseHook.get_connection("pinterest_source"))) as source:
            report = run_emulation(
                source,
                sender,
                posts=params["posts"],
                seed=params["seed"],
                order=params["order"],
                pace=params["rate"],
                progress=progress,
                account=progress.account,
                resume=progress.resumed,
            )
        return checked(report.as_dict(), ti, retriable=report.retriable > 0)

    report: Any = emulate()

    run_id = start_job.output["run_id"]

    committed = StreamCommittedSensor(
        task_id="committed",
        positions=report["positions"],
        stream_names=STREAM_NAMES,
        bucket=SETTINGS.bucket,
        progress_key=SETTINGS.progress_key,
        region_name=SETTINGS.region,
        databricks_run_id=run_id,
        poke_interval=SETTINGS.poll_seconds,
        timeout=timedelta(minutes=45),  # five clusters may start in vain
    )

    stop_job = DatabricksStopStreamOperator(
        task_id="stop_job",
        run_id=run_id,
        stop=IS_STOPPED,
        bucket=SETTINGS.bucket,
        stop_prefix=STOP_PREFIX,
        poll_interval=SETTINGS.poll_seconds,
    ).as_teardown(setups=start_job, on_failure_fail_dagrun=True)

    check_streams = notebook_task(SETTINGS, "check_streams")

    @task(outlets=[ASSETS.stream_tables], execution_timeout=timedelta(minutes=5))
    def reconcile(tables: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        from pinterest_pipeline.hooks.progress import StreamProgressHook
        from pinterest_pipeline.ledger import streams_ledger

        after = StreamProgressHook(bucket=SETTINGS.bucket, key=SETTINGS.progress_key).read()
        return streams_ledger(tables, before, after, STREAMS)

    ledger = reconcile(report["tables"], before)
    chain(before, create_streams, streams_active, scale_streams, start_job, report, committed, stop_job)
    chain([committed, stop_job], check_streams, ledger)

    if SETTINGS.may_delete_streams:

        @task.short_circuit(execution_timeout=timedelta(minutes=5))
        def delete_wanted() -> bool:
            return bool(get_current_context()["params"]["delete_streams"])

        delete_streams = KinesisDeleteStreamOperator(
            task_id="delete_streams",
            stream_names=STREAM_NAMES,
            region_name=SETTINGS.region,
            poll_interval=SETTINGS.poll_seconds,
        )
        chain(ledger, delete_wanted(), delete_streams)


pinterest_kinesis_streams()
