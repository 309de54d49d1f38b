"""Who is told when a DAG run fails, and what; the callbacks are run as Airflow's DAG processor runs them."""

import json
from collections.abc import Callable
from typing import Any
from unittest import mock
from uuid import uuid4

import boto3
import pendulum
import pytest
import structlog
from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext
from airflow.dag_processing.processor import _execute_dag_callbacks
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from pinterest_pipeline.alarms import failed_run, quiet_refusals
from pinterest_pipeline.config import Settings
from pinterest_pipeline.exceptions import ParametersRefused
from pinterest_pipeline.tags import Tag

RUN_ID = "scheduled__2026-01-01T00:00:00+00:00"
PAGE = "https://workspace.example/#job/1/run/7"
BASE = "https://airflow.example"
RUN = f"{BASE}/dags/pinterest_daily_batch/runs/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00"


@pytest.fixture
def inbox(aws: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Callable[[], list[dict[str, Any]]]]:
    """A topic, and what reads its messages."""

    def client(service: Any) -> Any:
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return boto3.client(service, endpoint_url=aws, region_name="us-east-1", **keys)

    sns, sqs = client("sns"), client("sqs")
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", BASE)

    def read() -> list[dict[str, Any]]:
        reply = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in reply.get("Messages", [])]

    return topic, read


def fail(topic: str, task_id: str | None, xcoms: dict[tuple[str, str], Any] | None = None) -> None:
    """Let a run fail in a task, or for no task's fault, as Airflow's DAG processor hears of it."""
    settings = Settings(bucket="data", alarm_topic_arn=topic)
    tags = [Tag.PINTEREST, Tag.TIER_1]
    callbacks: Any = failed_run(settings)
    with DAG("pinterest_daily_batch", schedule=None, tags=tags, on_failure_callback=callbacks) as dag:
        for name in ("configure", "start_job", "committed"):
            BaseOperator(task_id=name)
    moment = pendulum.datetime(2026, 1, 1)
    run = {
        **{"dag_id": dag.dag_id, "run_id": RUN_ID, "run_type": "scheduled", "state": "failed"},
        **{"logical_date": moment, "data_interval_start": None, "data_interval_end": None},
        **{"run_after": moment, "start_date": moment, "end_date": moment, "consumed_asset_events": []},
        **{"partition_key": None, "clear_number": 0},
    }
    blamed = None
    if task_id:
        blamed = {
            **{"id": uuid4(), "task_id": task_id, "dag_id": dag.dag_id, "run_id": RUN_ID, "try_number": 3},
            **{"dag_version_id": uuid4(), "map_index": -1, "pool_slots": 1, "queue": "default"},
            **{"priority_weight": 1, "queued_dttm": None},
        }
    context = DagRunContext(dag_run=run, last_ti=blamed)  # type: ignore[arg-type]
    request = DagCallbackRequest(
        filepath="dag.py",
        dag_id=dag.dag_id,
        run_id=RUN_ID,
        bundle_name="dags-folder",
        bundle_version=None,
        context_from_server=context,
        msg="task_failure" if task_id else "all_tasks_deadlocked",
    )

    def xcom_pull(self: Any, task_ids: str, key: str) -> Any:
        del self
        if xcoms is None:
            raise ConnectionError("the API server does not answer")
        return xcoms.get((task_ids, key))

    bag: Any = mock.Mock(dags={dag.dag_id: dag})
    with mock.patch.object(RuntimeTaskInstance, "xcom_pull", xcom_pull):
        _execute_dag_callbacks(bag, request, structlog.get_logger())


def test_without_a_topic_nobody_is_told() -> None:
    assert failed_run(Settings(bucket="data")) == []


def test_the_message_names_task_log_databricks_page_and_tier(inbox: Any) -> None:
    topic, read = inbox
    fail(topic, "configure", {("configure", "run_page_url"): PAGE, ("start_job", "run_page_url"): "another"})
    (told,) = read()
    assert told["Subject"] == "Airflow tier 1: pinterest_daily_batch failed"
    assert told["Message"].splitlines() == [
        f"The run {RUN_ID} of pinterest_daily_batch has failed in its task configure (task_failure).",
        "",
        f"Log: {RUN}/tasks/configure?try_number=3",
        f"Databricks: {PAGE}",
        f"Run: {RUN}",
        f"What to do about each task is in the DAG's documentation: {BASE}/dags/pinterest_daily_batch",
    ]


def test_a_task_about_the_stream_job_names_the_jobs_page(inbox: Any) -> None:
    topic, read = inbox
    fail(topic, "committed", {("start_job", "run_page_url"): PAGE})
    (told,) = read()
    assert f"Databricks: {PAGE}" in told["Message"].splitlines()


def test_a_run_that_fails_for_no_tasks_fault_is_told_of(inbox: Any) -> None:
    """Airflow then knows the DAG, the run's id and the reason, and nothing else."""
    topic, read = inbox
    fail(topic, None)
    (told,) = read()
    assert told["Subject"] == "Airflow tier 1: pinterest_daily_batch failed"
    assert told["Message"].splitlines() == [
        f"The run {RUN_ID} of pinterest_daily_batch has failed (all_tasks_deadlocked).",
        "",
        f"Run: {RUN}",
        f"What to do about each task is in the DAG's documentation: {BASE}/dags/pinterest_daily_batch",
    ]


def test_a_link_that_cannot_be_had_does_not_keep_the_message_back(inbox: Any) -> None:
    topic, read = inbox
    fail(topic, "configure", None)
    (told,) = read()
    assert f"Log: {RUN}/tasks/configure?try_number=3" in told["Message"].splitlines()
    assert "Databricks" not in told["Message"]


def test_refused_parameters_fail_the_run_and_page_nobody(inbox: Any) -> None:
    topic, read = inbox
    ti = mock.Mock(spec=RuntimeTaskInstance)
    with pytest.raises(ParametersRefused, match=r"^set confirm$"), quiet_refusals({"ti": ti}):
        raise ParametersRefused("set confirm")
    ((_, pushed),) = ti.xcom_push.call_args_list

    fail(topic, "configure", {("configure", pushed["key"]): pushed["value"]})
    assert read() == []
    fail(topic, "committed", {("configure", pushed["key"]): pushed["value"]})  # another task, another reason
    assert len(read()) == 1


def test_another_failure_of_that_task_is_no_refusal() -> None:
    ti = mock.Mock(spec=RuntimeTaskInstance)
    with pytest.raises(OSError, match="no route"), quiet_refusals({"ti": ti}):
        raise OSError("no route")
    assert ti.xcom_push.mock_calls == []
