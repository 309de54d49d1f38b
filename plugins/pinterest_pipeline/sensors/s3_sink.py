"""Waiting until the S3 sink has written given offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from pinterest_pipeline.exceptions import ReportMissing
from pinterest_pipeline.sensors.base import PollingSensor
from pinterest_pipeline.triggers.s3_sink import S3SinkLandedTrigger


class S3SinkLandedSensor(PollingSensor[S3Hook]):
    """
    Waits until every given offset lies in the bucket.

    Returns for each topic how many records were acknowledged and how many have landed.

    :param positions: topic → partition → list of inclusive offset ranges ``[first, last]``. (templated)
    :param bucket: bucket the sink writes to. (templated)
    :param topics_dir: the sink's ``topics.dir``. (templated)
    :param kafka_conn_id: the Kafka connection, which is asked why nothing lands; None: nobody is asked.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields("positions", "bucket", "topics_dir")

    def __init__(
        self,
        *,
        positions: Any,
        bucket: str,
        topics_dir: str = "topics",
        kafka_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.positions = positions
        self.bucket = bucket
        self.topics_dir = topics_dir
        self.kafka_conn_id = kafka_conn_id

    def trigger(self, **common: Any) -> S3SinkLandedTrigger:
        """
        Return the trigger that waits.

        :raises ReportMissing: there are no positions to wait for.
        """
        if self.positions is None:
            raise ReportMissing
        return S3SinkLandedTrigger(
            positions=self.positions,
            bucket=self.bucket,
            topics_dir=self.topics_dir,
            kafka_conn_id=self.kafka_conn_id,
            **common,
        )
