from __future__ import annotations

from unittest import mock

from pinterest_pipeline.hooks.kafka import KafkaHook
from pinterest_pipeline.operators.kafka import KafkaCreateTopicsOperator


def test_create_topics() -> None:
    operator = KafkaCreateTopicsOperator(
        task_id="t",
        topics=["a", "b"],
        partitions=3,
        replication=2,
        topic_configs={"retention.ms": "1000"},
        kafka_conn_id="other",
    )
    with mock.patch.object(KafkaHook, "create_topics", autospec=True, return_value=["b"]) as create:
        assert operator.execute({}) == ["b"]
    create.assert_called_once_with(
        operator.hook, ["a", "b"], partitions=3, replication=2, configs={"retention.ms": "1000"}
    )
    assert operator.hook.kafka_conn_id == "other"
    assert tuple(operator.template_fields) == ("topics", "topic_configs")
