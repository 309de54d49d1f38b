from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from pinterest_pipeline.exceptions import AnswersOlder
from pinterest_pipeline.operators.answers import PublishAnswersOperator

OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"


def publish(bucket: str) -> None:
    PublishAnswersOperator(
        task_id="publish",
        source_bucket_name=bucket,
        source_bucket_key="answers/runs/r.json",
        dest_bucket_name=bucket,
        dest_bucket_key="answers/latest.json",
    ).execute({})


def put(s3: Any, bucket: str, key: str, body: Any) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(body))


def latest(s3: Any, bucket: str) -> Any:
    return json.loads(s3.get_object(Bucket=bucket, Key="answers/latest.json")["Body"].read())


@pytest.mark.parametrize(
    "published",
    [
        None,
        {"generated_at": OLD, "run_id": "q"},
        {"generated_at": NEW, "run_id": "r"},  # itself, once more
        {"generated_at": "2026-01-01T01:00:00+02:00"},  # an hour earlier
        {"generated_at": "2025-12-31T00:00:00"},
        {"run_id": "q"},
        {"generated_at": None},
        ["no", "answers"],
    ],
)
def test_newer_answers_are_published(s3: Any, bucket: str, published: Any) -> None:
    own = {"generated_at": NEW, "run_id": "r"}
    put(s3, bucket, "answers/runs/r.json", own)
    if published is not None:
        put(s3, bucket, "answers/latest.json", published)
    publish(bucket)
    assert latest(s3, bucket) == own


def test_older_answers_are_not_put_back(s3: Any, bucket: str) -> None:
    put(s3, bucket, "answers/runs/r.json", {"generated_at": OLD})
    put(s3, bucket, "answers/latest.json", {"generated_at": NEW})
    with pytest.raises(AnswersOlder, match=r"r\.json is of 2026-01-01T00:00:00.* aws s3 cp s3://") as refused:
        publish(bucket)
    assert isinstance(refused.value, AirflowFailException), "they will be no younger in the next try"
    assert latest(s3, bucket) == {"generated_at": NEW}


def test_without_answers_nothing_is_published(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError):
        publish(bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
