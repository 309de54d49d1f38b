"""Kinesis data streams."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout

from pinterest_pipeline.exceptions import WaitFailed
from pinterest_pipeline.hooks.kinesis import KinesisHook
from pinterest_pipeline.triggers.kinesis import KinesisStreamStatusTrigger


def _shards(shard_count: Any) -> int:
    """Return a number of shards that may have come through a template as text."""
    if isinstance(shard_count, bool) or not str(shard_count).isdecimal() or int(shard_count) < 1:
        raise ValueError(f"shard_count is a whole number of at least 1, not {shard_count!r}")
    return int(shard_count)


class KinesisCreateStreamOperator(AwsBaseOperator[KinesisHook]):
    """
    Create those streams that do not exist; return their names.

    :param stream_names: the streams. (templated)
    :param shard_count: number of shards of a new stream. (templated)
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_names", "shard_count")

    def __init__(self, *, stream_names: Sequence[str], shard_count: int | str = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_names = stream_names
        self.shard_count = shard_count

    def execute(self, context: Context) -> list[str]:
        """Create the streams; whoever needs them has to wait until they are ACTIVE."""
        shards = _shards(self.shard_count)
        created = []
        for name in self.stream_names:
            if self.hook.create_stream(name, shards):
                self.log.info("Created %s.", name)  # at once: the next one may fail
                created.append(name)
            else:
                self.log.info("%s is there.", name)
        return created


class KinesisScaleStreamOperator(AwsBaseOperator[KinesisHook]):
    """
    Bring streams to a number of shards; return how many each has.

    The number is reached in the steps that Kinesis takes, each awaited in the triggerer. Records stay where they
    are: shards that are split or merged are read to their end before those that follow them.

    :param stream_names: the streams. (templated)
    :param shard_count: the number of open shards each shall have; None or empty: what it has. (templated)
    :param poll_interval: seconds between two looks at a stream that is being scaled.
    :param timeout: seconds a step may take.
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_names", "shard_count")

    def __init__(
        self,
        *,
        stream_names: Sequence[str],
        shard_count: int | str | None,
        poll_interval: float = 10,
        timeout: float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stream_names = stream_names
        self.shard_count = shard_count
        self.poll_interval = poll_interval
        self.timeout = timeout

    def execute(self, context: Context) -> dict[str, int]:
        """Ask for the first step."""
        return self._step()

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, int]:
        """
        Ask for the next step.

        :raises AirflowSensorTimeout: a step took too long.
        :raises WaitFailed: a stream is gone.
        """
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(f"Gave up after {self.timeout:g} s: {event['message']}.")
        if event["status"] != "success":
            raise WaitFailed(event["message"])
        return self._step()

    def _step(self) -> dict[str, int]:
        if self.shard_count not in (None, ""):
            wanted = _shards(self.shard_count)
            if any([self.hook.update_shard_count(name, wanted) for name in self.stream_names]):
                self.defer(
                    trigger=_status_trigger(self, self.stream_names, "ACTIVE"), method_name="execute_complete"
                )
        summaries = {name: self.hook.describe_stream(name) for name in self.stream_names}
        return {name: summary["OpenShardCount"] for name, summary in summaries.items() if summary}


class KinesisDeleteStreamOperator(AwsBaseOperator[KinesisHook]):
    """
    Delete streams with all their records, and wait in the triggerer until they are gone.

    Until then their names cannot be used. Returns the names of those there were.

    :param stream_names: the streams. (templated)
    :param poll_interval: seconds between two looks at the streams that are being deleted.
    :param timeout: seconds that this may take.
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_names")

    def __init__(
        self, *, stream_names: Sequence[str], poll_interval: float = 10, timeout: float = 600, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.stream_names = stream_names
        self.poll_interval = poll_interval
        self.timeout = timeout

    def execute(self, context: Context) -> list[str]:
        """Delete the streams."""
        deleted = []
        for name in self.stream_names:
            if self.hook.delete_stream(name):
                self.log.info("Deleted %s.", name)  # at once: the next one may fail
                deleted.append(name)
            else:
                self.log.info("There is no %s.", name)
        if any(self.hook.describe_stream(name) for name in deleted):
            self.defer(
                trigger=_status_trigger(self, deleted, None),
                method_name="execute_complete",
            )
        return deleted

    def execute_complete(self, context: Context, event: dict[str, Any]) -> list[str]:
        """
        Return what was deleted.

        :raises AirflowSensorTimeout: it took too long.
        """
        if event["status"] != "success":
            raise AirflowSensorTimeout(f"Gave up after {self.timeout:g} s: {event['message']}.")
        return list(event["value"])


def _status_trigger(
    operator: KinesisScaleStreamOperator | KinesisDeleteStreamOperator,
    stream_names: Sequence[str],
    target_status: str | None,
) -> KinesisStreamStatusTrigger:
    return KinesisStreamStatusTrigger(
        stream_names=list(stream_names),
        target_status=target_status,
        poll_interval=operator.poll_interval,
        end_time=time.time() + operator.timeout,
        aws_conn_id=operator.aws_conn_id,
        region_name=operator.region_name,
        verify=operator.verify,
        botocore_config=operator.botocore_config,
    )
