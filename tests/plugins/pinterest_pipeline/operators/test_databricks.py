from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from airflow.providers.databricks.operators.databricks import DatabricksNotebookOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from pinterest_pipeline.exceptions import RunEnding, WaitFailed
from pinterest_pipeline.hooks.databricks import DatabricksStreamJobHook
from pinterest_pipeline.operators.databricks import (
    DatabricksServerlessNotebookOperator,
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)
from pinterest_pipeline.triggers.databricks import DatabricksRunOverTrigger


@pytest.fixture
def databricks() -> Any:
    """Every Databricks hook of the operators."""
    hook = mock.create_autospec(DatabricksStreamJobHook, instance=True)
    hook.put_job.return_value = 7
    hook.active_run.return_value = None
    hook.run_now.return_value = 42
    hook.get_run.return_value = {"run_id": 42, **lives("RUNNING")}
    hook.get_run_page_url.side_effect = "http://databricks/run/{}".format
    where = "pinterest_pipeline.operators.databricks"
    with (
        mock.patch(f"{where}.DatabricksHook", return_value=hook),
        mock.patch(f"{where}.DatabricksStreamJobHook", return_value=hook),
    ):
        yield hook


def lives(life_cycle: str, **more: Any) -> dict[str, Any]:
    return {"state": {"life_cycle_state": life_cycle}, **more}


def context() -> Any:
    return {"ti": mock.MagicMock(stats_tags={})}


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
                "disable_auto_optimization": True,
                "max_retries": 0,
            }
        ],
    }


JOB = {
    "name": "p-kinesis_streams",
    "tasks": [{"task_key": "stream", "notebook_task": {"notebook_path": "/n"}}],
}


def start_operator() -> DatabricksStartStreamOperator:
    return DatabricksStartStreamOperator(task_id="start", job=JOB, run_key="manual-1")


def started_by(run_key: str) -> dict[str, Any]:
    return {"run_id": 41, "overriding_parameters": {"notebook_params": {"run_id": run_key}}}


def test_start_runs_the_job_and_does_not_wait(databricks: Any) -> None:
    begun = context()
    assert start_operator().execute(begun) == {"run_id": 42, "job_id": 7, "started": True}
    databricks.put_job.assert_called_once_with(JOB)
    databricks.run_now.assert_called_once_with({"job_id": 7, "notebook_params": {"run_id": "manual-1"}})
    begun["ti"].xcom_push.assert_called_once_with(key="run_page_url", value="http://databricks/run/42")
    databricks.get_run.assert_not_called()


@pytest.mark.parametrize(
    ("active", "started"),
    [
        (started_by("manual-0"), False),
        ({"run_id": 41}, False),  # started on its page
        (started_by("manual-1"), True),  # by an earlier try of this task
    ],
)
def test_a_run_that_is_going_is_left_alone(databricks: Any, active: dict[str, Any], started: bool) -> None:
    databricks.active_run.return_value = active
    operator = start_operator()
    assert operator.execute(context()) == {"run_id": 41, "job_id": 7, "started": started}
    databricks.run_now.assert_not_called()
    operator.on_kill()
    databricks.cancel_run.assert_not_called()


def test_a_run_that_is_ending_is_waited_for_and_not_adopted(databricks: Any) -> None:
    databricks.active_run.return_value = {**started_by("manual-1"), **lives("TERMINATING")}
    with pytest.raises(TaskDeferred) as deferred:
        start_operator().execute(context())
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatabricksRunOverTrigger)
    assert trigger.run_id == 41
    assert (deferred.value.method_name, deferred.value.kwargs) == ("execute_complete", {"ending": 41})
    databricks.run_now.assert_not_called()

    late = {"status": "timeout", "message": "", "value": state("TERMINATING")}
    with pytest.raises(
        RunEnding, match=r"Run 41 is still ending after 600 s.* http://databricks/run/41"
    ) as ending:
        start_operator().execute_complete(context(), late, 41)
    assert not isinstance(ending.value, AirflowFailException), "a later try may find it over"

    databricks.active_run.return_value = None
    over = {"status": "success", "message": "", "value": state("TERMINATED", "CANCELED")}
    started = {"run_id": 42, "job_id": 7, "started": True}
    assert start_operator().execute_complete(context(), over, 41) == started


def test_killing_the_start_cancels_the_run(databricks: Any) -> None:
    operator = start_operator()
    operator.on_kill()
    databricks.cancel_run.assert_not_called()
    operator.execute(context())
    operator.on_kill()
    databricks.cancel_run.assert_called_once_with(42)


def stop_operator(bucket: str, run_id: Any = 42, stop: Any = "True") -> DatabricksStopStreamOperator:
    return DatabricksStopStreamOperator(
        task_id="stop",
        run_id=run_id,
        stop=stop,
        bucket=bucket,
        stop_prefix="stop",
        grace_seconds=30,
        poll_interval=1,
    )


@pytest.mark.parametrize("stop", ["False", "None", False])
def test_a_run_that_is_not_to_be_stopped_goes_on(databricks: Any, s3: Any, bucket: str, stop: Any) -> None:
    assert stop_operator(bucket, stop=stop).execute({}) is None
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def state(life_cycle: str, result: str = "", message: str = "") -> dict[str, str]:
    return {"life_cycle_state": life_cycle, "result_state": result, "state_message": message}


def test_stop_asks_and_waits(databricks: Any, s3: Any, bucket: str) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        stop_operator(bucket, "42").execute({})
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatabricksRunOverTrigger)
    assert (trigger.run_id, trigger.poll_interval) == (42, 1)
    assert deferred.value.method_name == "execute_complete"
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Key"] == "stop/42"

    ended = state("TERMINATED", "SUCCESS")
    event = {"status": "success", "message": "", "value": ended}
    assert stop_operator(bucket).execute_complete({}, event) == ended
    databricks.cancel_run.assert_not_called()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_run_that_does_not_stop_is_cancelled_and_waited_for(databricks: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="stop/42", Body=b"stop")
    event = {"status": "timeout", "message": "", "value": state("RUNNING")}
    with pytest.raises(TaskDeferred) as deferred:
        stop_operator(bucket).execute_complete({}, event)
    assert deferred.value.method_name == "execute_cancelled"
    databricks.cancel_run.assert_called_once_with(42)

    late = {"status": "timeout", "message": "", "value": state("TERMINATING")}
    with pytest.raises(RunEnding, match="Run 42 is still ending after 600 s") as ending:
        stop_operator(bucket).execute_cancelled({}, late)
    assert not isinstance(ending.value, AirflowFailException), "a later try may find it over"

    ended = state("TERMINATED", "CANCELED")
    over = {"status": "success", "message": "", "value": ended}
    assert stop_operator(bucket).execute_cancelled({}, over) == ended
    databricks.cancel_run.assert_called_once_with(42)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    "run",
    [
        lives("PENDING"),
        lives("QUEUED"),
        lives("RUNNING", tasks=[lives("PENDING")]),  # its cluster starts
        lives("RUNNING", tasks=[lives("WAITING_FOR_RETRY")]),
        lives("RUNNING", tasks=[lives("INTERNAL_ERROR"), lives("PENDING")]),  # an earlier attempt
        lives("PENDING", tasks=[lives("BLOCKED"), lives("QUEUED")]),
    ],
)
def test_a_run_of_which_nothing_is_executed_is_cancelled_at_once(
    databricks: Any, s3: Any, bucket: str, run: dict[str, Any]
) -> None:
    databricks.get_run.return_value = run
    with pytest.raises(TaskDeferred) as deferred:
        stop_operator(bucket).execute({})
    databricks.cancel_run.assert_called_once_with(42)
    assert deferred.value.method_name == "execute_cancelled"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


@pytest.mark.parametrize(
    "run", [lives("TERMINATING"), lives("TERMINATED"), lives("INTERNAL_ERROR", tasks=[lives("TERMINATED")])]
)
def test_a_run_that_ends_anyway_is_neither_asked_nor_cancelled(
    databricks: Any, s3: Any, bucket: str, run: dict[str, Any]
) -> None:
    databricks.get_run.return_value = run
    with pytest.raises(TaskDeferred) as deferred:
        stop_operator(bucket).execute({})
    databricks.cancel_run.assert_not_called()
    assert deferred.value.method_name == "execute_cancelled"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_run_that_had_failed_is_told_with_its_page(databricks: Any, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="stop/42", Body=b"stop")
    event = {"status": "success", "message": "", "value": state("TERMINATED", "FAILED", "boom")}
    with pytest.raises(WaitFailed, match="run 42 had ended FAILED: boom See http://databricks/run/42"):
        stop_operator(bucket).execute_complete({}, event)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_without_a_run_there_is_nothing_to_stop(databricks: Any, s3: Any, bucket: str) -> None:
    assert stop_operator(bucket, None).execute({}) is None
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
