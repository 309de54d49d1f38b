"""The published answers."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook

LATEST_KEY = "answers/latest.json"


def answers_key(run_key: str) -> str:
    """Return the object key of one run's answers."""
    return f"answers/runs/{run_key}.json"


class AnswersHook(S3Hook):
    """
    Read the published answers.

    :param bucket: the bucket.
    :param kwargs: arguments of :class:`~airflow.providers.amazon.aws.hooks.s3.S3Hook`.
    """

    def __init__(self, *, bucket: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket

    def read(self) -> dict[str, Any] | None:
        """Return what was published last (``run_id``, ``generated_at``, ``ledger``, ``answers``), or None."""
        client: Any = self.get_conn()
        try:
            body = client.get_object(Bucket=self.bucket, Key=LATEST_KEY)["Body"]
        except client.exceptions.NoSuchKey:
            return None
        published: dict[str, Any] = json.loads(body.read())
        return published
