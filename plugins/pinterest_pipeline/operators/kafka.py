"""Kafka topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from airflow.sdk import BaseOperator, Context

from pinterest_pipeline.hooks.kafka import KafkaHook


class KafkaCreateTopicsOperator(BaseOperator):
    """
    Create the topics that are missing; return them. An existing topic stays as it is.

    :param topics: names of the topics. (templated)
    :param partitions: number of partitions of a new topic; -1: the brokers' default.
    :param replication: replication factor of a new topic; -1: the brokers' default.
    :param topic_configs: further configuration of a new topic, such as ``retention.ms``. (templated)
    :param kafka_conn_id: the Kafka connection.
    """

    template_fields: Sequence[str] = ("topics", "topic_configs")

    def __init__(
        self,
        *,
        topics: Sequence[str],
        partitions: int = -1,
        replication: int = -1,
        topic_configs: Mapping[str, str] | None = None,
        kafka_conn_id: str = KafkaHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topics = topics
        self.partitions = partitions
        self.replication = replication
        self.topic_configs = topic_configs
        self.kafka_conn_id = kafka_conn_id

    @cached_property
    def hook(self) -> KafkaHook:
        """Return the hook."""
        return KafkaHook(self.kafka_conn_id)

    def execute(self, context: Context) -> list[str]:
        """Create what is missing."""
        created = self.hook.create_topics(
            self.topics,
            partitions=self.partitions,
            replication=self.replication,
            configs=self.topic_configs,
        )
        self.log.info("Created %s; the others were there.", ", ".join(created) or "none")
        return created
