"""Kinesis data streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk import Context

from pinterest_pipeline.hooks.kinesis import KinesisHook


def _shards(shard_count: Any) -> int:
    """Return a number of shards that may have come through a template as text."""
    if isinstance(shard_count, bool) or not str(shard_count).isdecimal() or int(shard_count) < 1:
        raise ValueError(f"shard_count is a whole number of at least 1, not {shard_count!r}")
    return int(shard_count)


class KinesisCreateStreamOperator(AwsBaseOperator[KinesisHook]):
    """
    Create a stream unless it exists; return whether it was created.

    :param stream_name: the stream. (templated)
    :param shard_count: number of shards of a new stream. (templated)
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_name", "shard_count")

    def __init__(self, *, stream_name: str, shard_count: int | str = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_name = stream_name
        self.shard_count = shard_count

    def execute(self, context: Context) -> bool:
        """Create the stream; whoever needs it has to wait until it is ACTIVE."""
        created = self.hook.create_stream(self.stream_name, _shards(self.shard_count))
        self.log.info("%s %s.", "Created" if created else "There already was", self.stream_name)
        return created


class KinesisScaleStreamOperator(AwsBaseOperator[KinesisHook]):
    """
    Bring a stream to a number of shards; return whether anything had to change.

    :param stream_name: the stream. (templated)
    :param shard_count: the number of open shards it shall have. (templated)
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_name", "shard_count")

    def __init__(self, *, stream_name: str, shard_count: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_name = stream_name
        self.shard_count = shard_count

    def execute(self, context: Context) -> bool:
        """Ask for the shards; whoever needs them has to wait until the stream is ACTIVE again."""
        changed = self.hook.update_shard_count(self.stream_name, _shards(self.shard_count))
        self.log.info("%s %s.", self.stream_name, "is being scaled" if changed else "has that many shards")
        return changed


class KinesisDeleteStreamOperator(AwsBaseOperator[KinesisHook]):
    """
    Delete a stream with all its records; return whether there was one.

    :param stream_name: the stream. (templated)
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_name")

    def __init__(self, *, stream_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_name = stream_name

    def execute(self, context: Context) -> bool:
        """Delete the stream."""
        return self.hook.delete_stream(self.stream_name)
