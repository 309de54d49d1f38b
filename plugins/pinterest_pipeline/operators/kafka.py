"""Kafka topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import BaseOperator, Context

from pinterest_pipeline.exceptions import TopicsRefused
from pinterest_pipeline.hooks.kafka import KafkaHook
from pinterest_pipeline.topic_notes import Topic, TopicConflict, TopicNotes


class KafkaCreateTopicsOperator(BaseOperator):
    """
    Create the topics that are missing; return them. An existing topic stays as it is.

    With a bucket, the topics are noted there, and a later run fails, before it creates anything, when a topic is no
    longer the one whose records the bucket holds: deleted, made anew, of another cluster, or with more partitions.

    :param topics: names of the topics. (templated)
    :param partitions: number of partitions of a new topic; -1: the brokers' default.
    :param replication: replication factor of a new topic; -1: the brokers' default.
    :param topic_configs: further configuration of a new topic, such as ``retention.ms``. (templated)
    :param bucket: bucket that the S3 sink writes these topics to; None: nothing is noted and compared.
    :param schema: schema whose clean tables are filled from these topics.
    :param kafka_conn_id: the Kafka connection.
    :param aws_conn_id: the AWS connection.
    """

    template_fields: Sequence[str] = ("topics", "topic_configs")

    def __init__(
        self,
        *,
        topics: Sequence[str],
        partitions: int = -1,
        replication: int = -1,
        topic_configs: Mapping[str, str] | None = None,
        bucket: str | None = None,
        schema: str = "",
        kafka_conn_id: str = KafkaHook.default_conn_name,
        aws_conn_id: str | None = S3Hook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topics = topics
        self.partitions = partitions
        self.replication = replication
        self.topic_configs = topic_configs
        self.bucket = bucket
        self.schema = schema
        self.kafka_conn_id = kafka_conn_id
        self.aws_conn_id = aws_conn_id

    @cached_property
    def hook(self) -> KafkaHook:
        """Return the hook."""
        return KafkaHook(self.kafka_conn_id)

    def execute(self, context: Context) -> list[str]:
        """Create what is missing."""
        if self.bucket is None:
            return self._create()
        with self.hook.get_conn() as admin:
            notes = TopicNotes(admin, S3Hook(self.aws_conn_id).get_conn(), self.bucket)
            try:
                self._compare(notes.check(self.topics, schema=self.schema))
                created = self._create()
                notes.write(self.topics, schema=self.schema)
            except TopicConflict as conflict:
                raise TopicsRefused(str(conflict)) from None
        return created

    def _compare(self, existing: Mapping[str, Topic]) -> None:
        for name, topic in existing.items():
            if self.partitions not in {-1, topic.partitions}:
                self.log.warning(
                    "Topic %s has %d partition(s), and keeps them: %d is what a new topic would get.",
                    name, topic.partitions, self.partitions,
                )  # fmt: skip

    def _create(self) -> list[str]:
        created = self.hook.create_topics(
            self.topics,
            partitions=self.partitions,
            replication=self.replication,
            configs=self.topic_configs,
        )
        self.log.info("Created %s; the others were there.", ", ".join(created) or "none")
        return created
