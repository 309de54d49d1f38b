"""Who is told when a DAG run fails."""

import json
from types import SimpleNamespace
from typing import Any

import boto3
from airflow.sdk import DAG

from pinterest_pipeline.alarms import failed_run
from pinterest_pipeline.config import Settings


def _client(service: Any, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


def test_without_a_topic_nobody_is_told() -> None:
    assert failed_run(Settings(bucket="data")) == []


def test_the_topic_is_told_which_run_failed(aws: str) -> None:
    sns, sqs = _client("sns", aws), _client("sqs", aws)
    topic = sns.create_topic(Name="alarms")["TopicArn"]
    queue = sqs.create_queue(QueueName="inbox")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    context = {
        "dag": DAG("pinterest_daily_batch", schedule=None),
        "dag_run": SimpleNamespace(run_id="scheduled__2026-01-01"),
        "reason": "task_failure",
    }
    for notifier in failed_run(Settings(bucket="data", alarm_topic_arn=topic)):
        notifier(context)

    (message,) = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    told = json.loads(message["Body"])
    assert told["Subject"] == "Airflow: pinterest_daily_batch failed"
    assert "scheduled__2026-01-01 of pinterest_daily_batch has failed (task_failure)" in told["Message"]
