"""Kinesis data streams."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook


class KinesisHook(AwsBaseHook):
    """
    Look after Kinesis data streams.

    Takes the arguments of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    (``aws_conn_id``, ``region_name``, ``verify``, ``config``).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "kinesis"
        super().__init__(*args, **kwargs)

    def describe_stream(self, stream_name: str) -> dict[str, Any] | None:
        """Return the summary of a stream (``StreamStatus``, ``OpenShardCount`` …), or None if there is none."""
        client: Any = self.get_conn()
        try:
            summary: dict[str, Any] = client.describe_stream_summary(StreamName=stream_name)[
                "StreamDescriptionSummary"
            ]
        except client.exceptions.ResourceNotFoundException:
            return None
        return summary

    def create_stream(self, stream_name: str, shard_count: int) -> bool:
        """
        Create a stream unless it exists.

        :param stream_name: name of the stream.
        :param shard_count: number of shards of a new stream; an existing one keeps its own.
        :return: whether it was created.
        """
        client: Any = self.get_conn()
        try:
            client.create_stream(StreamName=stream_name, ShardCount=shard_count)
        except client.exceptions.ResourceInUseException:
            return False
        return True

    def delete_stream(self, stream_name: str) -> bool:
        """Delete a stream with all its records; return whether there was one."""
        client: Any = self.get_conn()
        try:
            client.delete_stream(StreamName=stream_name, EnforceConsumerDeletion=True)
        except client.exceptions.ResourceNotFoundException:
            return False
        except client.exceptions.ResourceInUseException:
            self.log.info("%s is being deleted already.", stream_name)
        return True

    def update_shard_count(self, stream_name: str, shard_count: int) -> bool:
        """
        Take a stream one step nearer to a number of shards, evenly split.

        Kinesis goes at most to the double and at least to the half in one call, and takes the next one when the
        stream is ACTIVE again. Nothing is asked of a stream that has the number.

        :return: whether there is anything to wait for.
        :raises ValueError: there is no such stream, or Kinesis scales it by itself.
        """
        summary = self.describe_stream(stream_name)
        if summary is None:
            raise ValueError(f"There is no stream {stream_name!r} to scale.")
        if summary["StreamStatus"] != "ACTIVE":
            return True
        current = summary["OpenShardCount"]
        if current == shard_count:
            return False
        if summary.get("StreamModeDetails", {}).get("StreamMode") == "ON_DEMAND":
            raise ValueError(f"{stream_name!r} is an on-demand stream: Kinesis scales it by itself.")
        step = (
            min(shard_count, 2 * current) if shard_count > current else max(shard_count, (current + 1) // 2)
        )
        self.log.info("%s goes from %d to %d shards.", stream_name, current, step)
        client: Any = self.get_conn()
        client.update_shard_count(
            StreamName=stream_name, TargetShardCount=step, ScalingType="UNIFORM_SCALING"
        )
        return True
