from __future__ import annotations

from unittest import mock

import pytest

from pinterest_pipeline.exceptions import TopicsRefused
from pinterest_pipeline.hooks.kafka import KafkaHook
from pinterest_pipeline.operators.kafka import KafkaCreateTopicsOperator
from pinterest_pipeline.topic_notes import TopicConflict


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


def test_it_notes_and_compares_the_topics_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = KafkaCreateTopicsOperator(
        task_id="t", topics=["p.pin"], bucket="b", schema="s", aws_conn_id="other"
    )
    calls = mock.Mock()
    calls.notes.return_value.check.return_value = {}
    monkeypatch.setattr(KafkaHook, "get_conn", mock.MagicMock())
    monkeypatch.setattr(KafkaHook, "create_topics", calls.create)
    monkeypatch.setattr("pinterest_pipeline.operators.kafka.S3Hook", calls.s3)
    monkeypatch.setattr("pinterest_pipeline.operators.kafka.TopicNotes", calls.notes)
    calls.create.return_value = ["p.pin"]
    assert operator.execute({}) == ["p.pin"]
    assert [name for name, _, _ in calls.mock_calls] == [
        "s3",
        "s3().get_conn",
        "notes",
        "notes().check",
        "create",
        "notes().write",
    ]
    calls.s3.assert_called_once_with("other")
    calls.notes.return_value.check.side_effect = TopicConflict(["p.pin is another"], "Do this.")
    calls.create.reset_mock()
    with pytest.raises(TopicsRefused, match=r"\Ap\.pin is another\nDo this\.\Z"):
        operator.execute({})
    calls.create.assert_not_called()
