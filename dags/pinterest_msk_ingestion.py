"""
# Posts → API → Kafka → S3

Draws posts from the source database and publishes their records through the API Gateway to the topics
`{prefix}.pin`, `.geo` and `.user`; waits until the S3 sink has written **every acknowledged offset** to the
bucket; and checks that nothing was lost on the way.

## When a task fails

- `check_parameters`: so many `posts` at this `rate` take longer than `emulate` may. Nothing was done.
- `create_topics` (creates missing topics): Kafka does not answer, or refuses. See connection `pinterest_kafka`. Or a
  topic was deleted, made anew, given more partitions, or is another cluster's: the message says which and what to do.
  That is not tried again.
- `connector_running` (waits for the sink connector): its state is in the message. Look at the connector's log,
  then restart it.
- `emulate` (draws and sends): the message names the refused records with code and reason; 403 means the
  credentials of `pinterest_api`, 404 the topic. The counts are in the task's XCom `report`, also when it fails.
  `SourceError` names the column or value of the source that cannot be sent. What another try cannot help is final.
- `landed` (waits for the offsets): the message names topic, partition and offsets that are missing. Look at the
  sink's log, and for the records in the dead-letter topic. Clear the task to wait on. It also says when a
  transaction is open in Kafka, whose end the sink has to wait for.
- `reconcile` (drawn = missing + acknowledged + failed, acknowledged = landed): the message names leg, table and
  counts.

A retry of `emulate` goes on where something has failed first; a task that is cleared begins anew. Records may then
exist twice, which changes nothing further on, because the newest record of a post wins. The run's ledger is the XCom
of `reconcile`.

Settings are options of `[pinterest]`; addresses and credentials are in the connections `pinterest_source`,
`pinterest_api`, `pinterest_kafka` and `aws_default`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import chain, dag, get_current_context, task
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
from pinterest_pipeline.hooks.kafka import KafkaHook
from pinterest_pipeline.operators.kafka import KafkaCreateTopicsOperator
from pinterest_pipeline.params import whole_numbers
from pinterest_pipeline.retries import RETRIES
from pinterest_pipeline.sensors.msk_connect import MskConnectConnectorStateSensor
from pinterest_pipeline.sensors.s3_sink import S3SinkLandedSensor
from pinterest_pipeline.tags import Tag

SETTINGS = Settings.read()
ASSETS = Assets.of(SETTINGS)


@dag(
    description="Emulated posts through the API to Kafka and on to S3, each record accounted for.",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=[Tag.PINTEREST, Tag.INGESTION, Tag.TIER_2],
    doc_md=__doc__,
    on_failure_callback=failed_run(SETTINGS),
    default_args={
        "owner": "pinterest",
        **RETRIES,
        "execution_timeout": timedelta(minutes=30),
    },
    params=emulation_params(fewest=1),
)
def pinterest_msk_ingestion() -> None:
    @task(execution_timeout=timedelta(minutes=5))
    def check_parameters() -> None:
        context = get_current_context()
        with quiet_refusals(context):
            refuse_endless(context["params"])

    create_topics = KafkaCreateTopicsOperator(
        task_id="create_topics",
        topics=[SETTINGS.topic(table) for table in TABLES],
        partitions=SETTINGS.topic_partitions,
        replication=SETTINGS.topic_replication,
        bucket=SETTINGS.bucket,
        schema=SETTINGS.clean_schema,
        execution_timeout=timedelta(minutes=5),
    )

    connector_running = MskConnectConnectorStateSensor(
        task_id="connector_running",
        connector_name=SETTINGS.connector_name,
        poke_interval=SETTINGS.poll_seconds,
        timeout=timedelta(minutes=10),
    )

    @task(multiple_outputs=True, execution_timeout=EMULATE_TIMEOUT)
    def emulate() -> dict[str, Any]:
        from airflow.sdk import BaseHook

        from include.emulation.emulation import emulate as run_emulation
        from include.emulation.source import Source
        from pinterest_pipeline.config import source_url
        from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
        from pinterest_pipeline.senders import TopicSender

        context = get_current_context()
        params, ti = whole_numbers(context["params"]), context["ti"]
        sender = TopicSender(ApiGatewayHook().get_conn(), SETTINGS)
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

    landed = S3SinkLandedSensor(
        task_id="landed",
        positions=report["positions"],
        bucket=SETTINGS.bucket,
        kafka_conn_id=KafkaHook.default_conn_name,
        poke_interval=SETTINGS.poll_seconds,
        timeout=timedelta(minutes=30),
    )

    @task(outlets=[ASSETS.topics_landed], execution_timeout=timedelta(minutes=5))
    def reconcile(tables: dict[str, Any], landed: dict[str, Any]) -> dict[str, Any]:
        from pinterest_pipeline.ledger import topics_ledger

        return topics_ledger(tables, landed, {table: SETTINGS.topic(table) for table in TABLES})

    chain(check_parameters(), create_topics, connector_running, report, landed)
    landed_counts: Any = landed.output
    reconcile(report["tables"], landed_counts)


pinterest_msk_ingestion()
