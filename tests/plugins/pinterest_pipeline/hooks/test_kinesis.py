from __future__ import annotations

from typing import Any

import pytest

from pinterest_pipeline.hooks.kinesis import KinesisHook


def test_create_describe_scale_delete(kinesis: Any) -> None:
    hook = KinesisHook()
    assert hook.create_stream("posts", 2) is True
    assert hook.create_stream("posts", 5) is False
    summary = hook.describe_stream("posts")
    assert summary is not None
    assert (summary["StreamStatus"], summary["OpenShardCount"]) == ("ACTIVE", 2)
    assert kinesis.list_streams()["StreamNames"] == ["posts"]

    assert hook.update_shard_count("posts", 2) is False
    assert hook.update_shard_count("posts", 4) is True
    assert (
        kinesis.describe_stream_summary(StreamName="posts")["StreamDescriptionSummary"]["OpenShardCount"] == 4
    )

    assert hook.delete_stream("posts") is True
    assert hook.delete_stream("posts") is False
    assert hook.describe_stream("posts") is None


def test_a_stream_that_is_not_there_cannot_be_scaled(aws: str) -> None:
    with pytest.raises(ValueError, match="no stream 'none'"):
        KinesisHook().update_shard_count("none", 2)
