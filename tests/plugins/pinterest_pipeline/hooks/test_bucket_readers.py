"""The two hooks that read one JSON object of the bucket."""

from __future__ import annotations

import json
from typing import Any

from pinterest_pipeline.hooks.answers import AnswersHook
from pinterest_pipeline.hooks.progress import StreamProgressHook


def test_answers(s3: Any, bucket: str) -> None:
    hook = AnswersHook(bucket=bucket)
    assert hook.read() is None
    s3.put_object(Bucket=bucket, Key="answers/latest.json", Body=json.dumps({"run_id": "r"}))
    assert hook.read() == {"run_id": "r"}


def test_progress(s3: Any, bucket: str) -> None:
    hook = StreamProgressHook(bucket=bucket, key="streams/p/progress.json")
    assert hook.read() == {}
    body = {"run_id": "r", "streams": {"s": {"read": 1, "committed": {"shard": "1"}}}}
    s3.put_object(Bucket=bucket, Key="streams/p/progress.json", Body=json.dumps(body))
    assert hook.read() == {"s": {"read": 1, "committed": {"shard": "1"}}}
