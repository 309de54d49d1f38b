"""How far the stream notebook has come."""

from __future__ import annotations

import json
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook


class StreamProgressHook(S3Hook):
    """
    Read what the stream notebook writes to the bucket after every micro-batch.

    :param bucket: the bucket.
    :param key: key of the progress object.
    :param kwargs: arguments of :class:`~airflow.providers.amazon.aws.hooks.s3.S3Hook`.
    """

    def __init__(self, *, bucket: str, key: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket = bucket
        self.key = key

    def read(self) -> dict[str, Any]:
        """Return stream → its committed positions and cumulative counts; empty before the first batch."""
        client: Any = self.get_conn()
        try:
            body = client.get_object(Bucket=self.bucket, Key=self.key)["Body"]
        except client.exceptions.NoSuchKey:
            return {}
        streams: dict[str, Any] = json.loads(body.read())["streams"]
        return streams
