from __future__ import annotations

from typing import Any

import pytest

from pinterest_pipeline.operators.kinesis import (
    KinesisCreateStreamOperator,
    KinesisDeleteStreamOperator,
    KinesisScaleStreamOperator,
)


def open_shards(kinesis: Any, stream: str) -> int:
    return int(
        kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["OpenShardCount"]
    )


@pytest.mark.parametrize("shards", [2, "2"])
def test_create(kinesis: Any, shards: int | str) -> None:
    create = KinesisCreateStreamOperator(task_id="t", stream_name="posts", shard_count=shards)
    assert create.execute({}) is True
    assert open_shards(kinesis, "posts") == 2
    assert create.execute({}) is False


def test_scale(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="posts", ShardCount=1)
    scale = KinesisScaleStreamOperator(task_id="t", stream_name="posts", shard_count="2")
    assert scale.execute({}) is True
    assert open_shards(kinesis, "posts") == 2
    assert scale.execute({}) is False


def test_delete(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="posts", ShardCount=1)
    delete = KinesisDeleteStreamOperator(task_id="t", stream_name="posts")
    assert delete.execute({}) is True
    assert kinesis.list_streams()["StreamNames"] == []
    assert delete.execute({}) is False


@pytest.mark.parametrize("shards", [0, -1, "none", "1.5", "", True])
@pytest.mark.parametrize("operator", [KinesisCreateStreamOperator, KinesisScaleStreamOperator])
def test_a_bad_number_of_shards_is_named(aws: str, operator: Any, shards: Any) -> None:
    with pytest.raises(ValueError, match=r"shard_count is a whole number of at least 1, not") as raised:
        operator(task_id="t", stream_name="posts", shard_count=shards).execute({})
    assert repr(shards) in str(raised.value)


def test_template_fields() -> None:
    common = {"aws_conn_id", "region_name", "verify"}
    assert set(KinesisCreateStreamOperator.template_fields) == {"stream_name", "shard_count"} | common
    assert set(KinesisScaleStreamOperator.template_fields) == {"stream_name", "shard_count"} | common
    assert set(KinesisDeleteStreamOperator.template_fields) == {"stream_name"} | common
