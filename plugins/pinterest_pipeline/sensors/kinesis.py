"""Waiting for Kinesis streams, and for what the stream job has made of their records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from pinterest_pipeline.hooks.kinesis import KinesisHook
from pinterest_pipeline.sensors.base import PollingSensor
from pinterest_pipeline.triggers.kinesis import KinesisStreamStatusTrigger, StreamCommittedTrigger

STATUSES = ("CREATING", "DELETING", "ACTIVE", "UPDATING")


class KinesisStreamStatusSensor(PollingSensor[KinesisHook]):
    """
    Waits until all streams have a status; returns each stream's status.

    :param stream_names: the streams. (templated)
    :param target_status: CREATING, DELETING, ACTIVE or UPDATING.
    """

    aws_hook_class = KinesisHook
    template_fields: Sequence[str] = aws_template_fields("stream_names")

    def __init__(self, *, stream_names: list[str], target_status: str = "ACTIVE", **kwargs: Any) -> None:
        if target_status not in STATUSES:
            raise ValueError(f"target_status is one of {', '.join(STATUSES)}, not {target_status!r}")
        super().__init__(**kwargs)
        self.stream_names = stream_names
        self.target_status = target_status

    def trigger(self, **common: Any) -> KinesisStreamStatusTrigger:
        """Return the trigger that waits."""
        return KinesisStreamStatusTrigger(
            stream_names=self.stream_names, target_status=self.target_status, **common
        )


class StreamCommittedSensor(PollingSensor[S3Hook]):
    """
    Waits until the stream job has committed everything up to given positions; returns its progress.

    Each look says how many records it is behind, and for how many seconds the oldest of them has been waiting.

    With no positions it drains: it waits for every record that is in the streams when the wait begins.

    :param positions: stream → shard → ``{"last": sequence number, "records": how many}``. (templated)
    :param stream_names: the streams to drain if there are no positions. (templated)
    :param bucket: bucket that holds the job's progress. (templated)
    :param progress_key: key of the progress object. (templated)
    :param databricks_run_id: the run of the stream job; when it is over the wait fails. (templated)
    :param cancel_on_kill: cancel that run when this task is killed, marked or cleared while it waits. (templated)
    :param databricks_conn_id: the Databricks connection. (templated)
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "positions",
        "stream_names",
        "bucket",
        "progress_key",
        "databricks_run_id",
        "cancel_on_kill",
        "databricks_conn_id",
    )

    def __init__(
        self,
        *,
        positions: Any,
        stream_names: list[str],
        bucket: str,
        progress_key: str,
        databricks_run_id: Any = None,
        cancel_on_kill: Any = False,
        databricks_conn_id: str = "databricks_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.positions = positions
        self.stream_names = stream_names
        self.bucket = bucket
        self.progress_key = progress_key
        self.databricks_run_id = databricks_run_id
        self.cancel_on_kill = cancel_on_kill
        self.databricks_conn_id = databricks_conn_id

    def trigger(self, **common: Any) -> StreamCommittedTrigger:
        """Return the trigger that waits."""
        return StreamCommittedTrigger(
            positions=self.positions or {},
            stream_names=self.stream_names,
            since=time.time(),
            bucket=self.bucket,
            progress_key=self.progress_key,
            databricks_run_id=None if self.databricks_run_id is None else int(self.databricks_run_id),
            cancel_on_kill=str(self.cancel_on_kill) == "True",
            databricks_conn_id=self.databricks_conn_id,
            **common,
        )
