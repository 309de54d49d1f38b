"""Waiting until the S3 sink has written given offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk import Context

from pinterest_pipeline.exceptions import ReportMissing, TopicsRefused
from pinterest_pipeline.hooks.kafka import KafkaHook
from pinterest_pipeline.sensors.base import PollingSensor
from pinterest_pipeline.topic_notes import TopicConflict, TopicNotes
from pinterest_pipeline.triggers.s3_sink import S3SinkLandedTrigger


class S3SinkLandedSensor(PollingSensor[S3Hook]):
    """
    Waits until every given offset lies in the bucket.

    Returns for each topic how many records were acknowledged and how many have landed. With a Kafka connection it
    fails when a topic is no longer the one that is noted in the bucket: the objects of an earlier topic have the same
    names, and would count.

    :param positions: topic → partition → list of inclusive offset ranges ``[first, last]``. (templated)
    :param bucket: bucket the sink writes to. (templated)
    :param topics_dir: the sink's ``topics.dir``. (templated)
    :param kafka_conn_id: the Kafka connection, which is asked why nothing lands, and whether the topics are still
        those that are noted; None: nobody is asked.
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

    def execute(self, context: Context) -> Any:
        """Look once, and defer to the trigger if there is anything to wait for."""
        landed = super().execute(context)
        self._check_topics()
        return landed

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """
        Return what the trigger has found.

        :raises TopicsRefused: what has landed comes from an earlier topic of that name.
        """
        landed = super().execute_complete(context, event)
        self._check_topics()
        return landed

    def _check_topics(self) -> None:
        if self.kafka_conn_id is None or not self.positions:
            return
        with KafkaHook(self.kafka_conn_id).get_conn() as admin:
            try:
                TopicNotes(admin, self.hook.get_conn(), self.bucket, topics_dir=self.topics_dir).check(
                    self.positions
                )
            except TopicConflict as conflict:
                raise TopicsRefused(str(conflict)) from None

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
