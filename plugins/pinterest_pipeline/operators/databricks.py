"""Databricks runs, where the provider's operators are not enough."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.operators.databricks import (
    DatabricksNotebookOperator,
    DatabricksSubmitRunOperator,
)
from airflow.sdk import BaseOperator, Context

from pinterest_pipeline.exceptions import WaitFailed
from pinterest_pipeline.triggers.databricks import DatabricksRunOverTrigger


class DatabricksServerlessNotebookOperator(DatabricksNotebookOperator):
    """
    Run a notebook on serverless compute, which the provider's operator cannot ask for.

    Takes the arguments of
    :class:`~airflow.providers.databricks.operators.databricks.DatabricksNotebookOperator`, clusters excepted.
    """

    def _get_run_json(self) -> dict[str, Any]:
        # Serverless is a task without a cluster, and such a task cannot be written in the short form.
        base = self._get_task_base_json()
        return {
            "run_name": self.databricks_task_key,
            "timeout_seconds": base["timeout_seconds"],
            "tasks": [{"task_key": self.databricks_task_key, "notebook_task": base["notebook_task"]}],
        }


class DatabricksStartStreamOperator(DatabricksSubmitRunOperator):
    """
    Start a run that goes on until it is stopped, and do not wait for it.

    A retry whose predecessor's run is still up takes that run over, so that there are never two. A run that
    is over is never taken over, whatever it ended with: after a clear the stream has to run again.

    :param bucket: bucket of the stop object. (templated)
    :param stop_key: key of the stop object, see :class:`DatabricksStopStreamOperator`; what an earlier run
        may have left there is removed. (templated)
    :param aws_conn_id: the AWS connection. (templated)
    :param kwargs: arguments of
        :class:`~airflow.providers.databricks.operators.databricks.DatabricksSubmitRunOperator`.
    """

    template_fields: Sequence[str] = (
        *DatabricksSubmitRunOperator.template_fields,
        "bucket",
        "stop_key",
        "aws_conn_id",
    )

    def __init__(
        self, *, bucket: str, stop_key: str, aws_conn_id: str | None = "aws_default", **kwargs: Any
    ) -> None:
        super().__init__(wait_for_termination=False, deferrable=False, **kwargs)
        self.bucket = bucket
        self.stop_key = stop_key
        self.aws_conn_id = aws_conn_id

    def submit_job(self, context: Context) -> int:
        """Submit the run, once nothing tells it to stop."""
        S3Hook(aws_conn_id=self.aws_conn_id).delete_objects(self.bucket, self.stop_key)
        return int(super().submit_job(context))

    def is_job_succeeded(self, status: str) -> bool:
        """Return False: the end of a stream is never the result one wants."""
        return False


class DatabricksStopStreamOperator(BaseOperator):
    """
    Stop a run gracefully, or else cancel it; return the state it ended in.

    The request is an object in the bucket that the notebook looks for after each micro-batch. It is removed
    when the run is over, so that a later run with the same key does not stop at once.

    :param run_id: the run; without one there is nothing to stop. (templated)
    :param bucket: bucket of the stop object. (templated)
    :param stop_key: key of the stop object. (templated)
    :param grace_seconds: how long the run may take to stop before it is cancelled.
    :param poll_interval: seconds between two looks at the run.
    :param databricks_conn_id: the Databricks connection. (templated)
    :param aws_conn_id: the AWS connection. (templated)
    """

    template_fields: Sequence[str] = ("run_id", "bucket", "stop_key", "databricks_conn_id", "aws_conn_id")

    def __init__(
        self,
        *,
        run_id: Any,
        bucket: str,
        stop_key: str,
        grace_seconds: float = 120,
        poll_interval: float = 10,
        databricks_conn_id: str = "databricks_default",
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.bucket = bucket
        self.stop_key = stop_key
        self.grace_seconds = grace_seconds
        self.poll_interval = poll_interval
        self.databricks_conn_id = databricks_conn_id
        self.aws_conn_id = aws_conn_id

    @cached_property
    def hook(self) -> DatabricksHook:
        """Return the Databricks hook."""
        return DatabricksHook(self.databricks_conn_id, caller="DatabricksStopStreamOperator")

    @cached_property
    def s3(self) -> S3Hook:
        """Return the S3 hook."""
        return S3Hook(aws_conn_id=self.aws_conn_id)

    def execute(self, context: Context) -> dict[str, str] | None:
        """Ask the run to stop, and wait in the triggerer until it has."""
        if self.run_id is None:
            self.log.info("No run was started, so there is none to stop.")
            return None
        self.s3.load_string("stop", self.stop_key, self.bucket, replace=True)
        self.log.info("Asked run %s to stop: s3://%s/%s", self.run_id, self.bucket, self.stop_key)
        self.defer(
            trigger=DatabricksRunOverTrigger(
                run_id=int(self.run_id),
                databricks_conn_id=self.databricks_conn_id,
                poll_interval=self.poll_interval,
                end_time=time.time() + self.grace_seconds,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """
        Cancel a run that did not stop; tidy up.

        :raises WaitFailed: the run had failed.
        """
        state: dict[str, str] = event["value"]
        try:
            if event["status"] != "success":
                # What is committed stays committed, so this loses nothing.
                self.log.warning("Run %s did not stop in %g s: cancelled.", self.run_id, self.grace_seconds)
                self.hook.cancel_run(int(self.run_id))
                return {**state, "life_cycle_state": "TERMINATING", "result_state": "CANCELED"}
            if state["result_state"] not in {"SUCCESS", "CANCELED"}:
                how = state["result_state"] or state["life_cycle_state"]
                raise WaitFailed(
                    f"The stream job's run {self.run_id} had ended {how}: {state['state_message']} "
                    f"See {self.hook.get_run_page_url(int(self.run_id))}"
                )
            return state
        finally:
            self.s3.delete_objects(self.bucket, self.stop_key)
