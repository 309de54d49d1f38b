from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.operators.databricks import DatabricksNotebookOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from pinterest_pipeline.exceptions import WaitFailed
from pinterest_pipeline.operators.databricks import (
    DatabricksServerlessNotebookOperator,
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)
from pinterest_pipeline.triggers.databricks import DatabricksRunOverTrigger


@pytest.fixture
def databricks() -> Any:
    """Every Databricks hook of the operators."""
    hook = mock.create_autospec(DatabricksHook, instance=True)
    hook.submit_run.return_value = 42
    hook.get_run_page_url.return_value = "http://databricks/run/42"
    with (
        mock.patch("pinterest_pipeline.operators.databricks.DatabricksHook", return_value=hook),
        mock.patch("airflow.providers.databricks.operators.databricks.DatabricksHook", return_value=hook),
    ):
        yield hook


class Store(dict[str, Any]):
    """A task state store as the operator sees it."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context(store: Store | None = None) -> Any:
    return {"ti": mock.MagicMock(stats_tags={}), "task_state_store": Store() if store is None else store}


def notebook(**arguments: Any) -> dict[str, Any]:
    with DAG("d", schedule=None):
        operator = DatabricksServerlessNotebookOperator(
            task_id="t",
            databricks_task_key="p-queries",
            notebook_path="/Shared/p/queries",
            source="WORKSPACE",
            notebook_params={"prefix": "p"},
            **arguments,
        )
    return operator._get_run_json()


def test_a_serverless_run_is_a_task_without_a_cluster() -> None:
    assert issubclass(DatabricksServerlessNotebookOperator, DatabricksNotebookOperator)
    assert notebook() == {
        "run_name": "p-queries",
        "timeout_seconds": 0,
        "tasks": [
            {
                "task_key": "p-queries",
                "notebook_task": {
                    "notebook_path": "/Shared/p/queries",
                    "source": "WORKSPACE",
                    "base_parameters": {"prefix": "p"},
                },
            }
        ],
    }


def start_operator(bucket: str) -> DatabricksStartStreamOperator:
    return DatabricksStartStreamOperator(
        task_id="start",
        run_name="stream",
        tasks=[{"task_key": "stream", "notebook_task": {"notebook_path": "/n"}}],
        bucket=bucket,
        stop_key="stop/r",
    )


def test_start_submits_and_does_not_wait(databricks: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="stop/r", Body=b"left behind")
    store = Store()
    started = context(store)
    start_operator(bucket).execute(started)
    assert databricks.submit_run.call_args.args[0]["run_name"] == "stream"
    started["ti"].xcom_push.assert_any_call(key="run_id", value=42)
    assert store == {"databricks_run_id": 42}
    databricks.get_run.assert_not_called()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket), "the new run would stop at once"


def test_a_retry_takes_over_a_run_that_is_up(databricks: Any, s3: Any, bucket: str) -> None:
    databricks.get_run.return_value = {"state": {"life_cycle_state": "RUNNING"}}
    retried = context(Store(databricks_run_id=41))
    start_operator(bucket).execute(retried)
    databricks.submit_run.assert_not_called()
    retried["ti"].xcom_push.assert_any_call(key="run_id", value=41)


@pytest.mark.parametrize("result", ["SUCCESS", "FAILED", "CANCELED"])
def test_a_run_that_is_over_is_started_anew(databricks: Any, s3: Any, bucket: str, result: str) -> None:
    databricks.get_run.return_value = {"state": {"life_cycle_state": "TERMINATED", "result_state": result}}
    store = Store(databricks_run_id=41)
    start_operator(bucket).execute(context(store))
    databricks.submit_run.assert_called_once()
    assert store == {"databricks_run_id": 42}


def test_killing_the_start_cancels_the_run(databricks: Any, s3: Any, bucket: str) -> None:
    operator: Any = start_operator(bucket)
    operator.execute(context())
    operator.on_kill()
    databricks.cancel_run.assert_called_once_with(42)


def stop_operator(bucket: str, run_id: Any = 42) -> DatabricksStopStreamOperator:
    return DatabricksStopStreamOperator(
        task_id="stop", run_id=run_id, bucket=bucket, stop_key="stop/r", grace_seconds=30, poll_interval=1
    )


def state(life_cycle: str, result: str = "", message: str = "") -> dict[str, str]:
    return {"life_cycle_state": life_cycle, "result_state": result, "state_message": message}


def test_stop_asks_and_waits(databricks: Any, s3: Any, bucket: str) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        stop_operator(bucket, "42").execute({})
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatabricksRunOverTrigger)
    assert (trigger.run_id, trigger.poll_interval) == (42, 1)
    assert deferred.value.method_name == "execute_complete"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == "stop/r"

    ended = state("TERMINATED", "SUCCESS")
    event = {"status": "success", "message": "", "value": ended}
    assert stop_operator(bucket).execute_complete({}, event) == ended
    databricks.cancel_run.assert_not_called()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_run_that_does_not_stop_is_cancelled(databricks: Any, s3: Any, bucket: str) -> None:
    event = {"status": "timeout", "message": "", "value": state("RUNNING")}
    assert stop_operator(bucket).execute_complete({}, event) == state("TERMINATING", "CANCELED")
    databricks.cancel_run.assert_called_once_with(42)


def test_a_run_that_had_failed_is_told_with_its_page(databricks: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="stop/r", Body=b"stop")
    event = {"status": "success", "message": "", "value": state("TERMINATED", "FAILED", "boom")}
    with pytest.raises(WaitFailed, match="run 42 had ended FAILED: boom See http://databricks/run/42"):
        stop_operator(bucket).execute_complete({}, event)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_without_a_run_there_is_nothing_to_stop(databricks: Any, s3: Any, bucket: str) -> None:
    assert stop_operator(bucket, None).execute({}) is None
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
