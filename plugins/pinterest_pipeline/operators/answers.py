"""Publishing a run's answers."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from airflow.providers.amazon.aws.operators.s3 import S3CopyObjectOperator
from airflow.sdk import Context

from pinterest_pipeline.exceptions import AnswersOlder


class PublishAnswersOperator(S3CopyObjectOperator):
    """
    Copy a run's answers to where readers look, unless newer ones are there.

    A task that is cleared days later would put its old answers back.

    Takes the arguments of :class:`~airflow.providers.amazon.aws.operators.s3.S3CopyObjectOperator`.
    """

    def execute(self, context: Context) -> None:
        """
        Publish the answers.

        :raises AnswersOlder: newer ones are published.
        """
        source = (self.source_bucket_name, self.source_bucket_key)
        target = (self.dest_bucket_name, self.dest_bucket_key)
        own, published = self._generated_at(*source), self._generated_at(*target)
        if own and published and own < published:
            raise AnswersOlder("s3://{}/{}".format(*source), own, "s3://{}/{}".format(*target), published)
        super().execute(context)

    def _generated_at(self, bucket: str | None, key: str) -> datetime | None:
        """Return when answers were generated; None where there are none that say so."""
        client: Any = self.hook.conn
        with suppress(client.exceptions.NoSuchKey, ValueError, TypeError, KeyError):
            body = client.get_object(Bucket=bucket, Key=key)["Body"]
            return datetime.fromisoformat(json.loads(body.read())["generated_at"]).astimezone(UTC)
        return None
