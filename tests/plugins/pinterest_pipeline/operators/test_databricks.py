from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
import time_machine
from airflow.providers.databricks.operators.databricks import DatabricksNotebookOperator
from airflow.sdk import DAG, RetryAction
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from pinterest_pipeline.exceptions import RunEnding, WaitFailed
from pinterest_pipeline.hooks.databricks import DatabricksStreamJobHook
from pinterest_pipeline.operators.databricks import (
    DatabricksNotebookRunOperator,
    DatabricksServerlessNotebookOperator,
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)
from pinterest_pipeline.retries import NotebookRetryPolicy
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


def notebook_operator(
    kind: type[DatabricksNotebookRunOperator] = DatabricksServerlessNotebookOperator, **arguments: Any
) -> DatabricksNotebookRunOperator:
    with DAG("d", schedule=None):
        return kind(
            task_id="t",
            databricks_task_key="p-queries",
            notebook_path="/Shared/p/queries",
            source="WORKSPACE",
            notebook_params={"prefix": "p"},
            **arguments,
        )


def notebook(**arguments: Any) -> dict[str, Any]:
    return notebook_operator(**arguments)._get_run_json()


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


class Store(dict[str, Any]):
    """A task's state store: it outlives tries and clears."""

    set = dict.__setitem__

    def delete(self, key: str) -> None:
        self.pop(key, None)


class Workspace:
    """A service that starts one run for each idempotency token, as the Jobs API promises."""

    def __init__(self, hook: Any) -> None:
        self.tokens: list[str] = []
        hook.submit_run.side_effect = self._submit

    def _submit(self, run: dict[str, Any]) -> int:
        if run["idempotency_token"] not in self.tokens:
            self.tokens.append(run["idempotency_token"])
        return 100 + self.tokens.index(run["idempotency_token"])


@pytest.fixture
def workspace(databricks: Any) -> Workspace:
    return Workspace(databricks)


def run_notebook(store: Store, *, max_tries: int = 2, **arguments: Any) -> TaskDeferred:
    """Begin a try of a notebook's task; ``max_tries`` grows when a person clears the task."""
    operator = notebook_operator(
        DatabricksNotebookRunOperator, existing_cluster_id="warm", retries=2, **arguments
    )
    ti = mock.MagicMock(max_tries=max_tries, task=operator)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute({"ti": ti, "task_state_store": store})
    ti.xcom_push.assert_called_once_with(
        key="run_page_url", value=f"http://databricks/run/{deferred.value.trigger.run_id}"
    )
    return deferred.value


def end_notebook(store: Store, run_id: int, ended: dict[str, str], max_tries: int = 2) -> None:
    operator = notebook_operator(DatabricksNotebookRunOperator, existing_cluster_id="warm", retries=2)
    ti = mock.MagicMock(max_tries=max_tries, task=operator)
    event = {"status": "success", "message": "", "value": {"run_id": run_id, **ended}}
    operator.execute_complete({"ti": ti, "task_state_store": store}, event)


def test_a_notebook_is_waited_for_in_the_triggerer_which_cancels_it_when_it_is_killed(
    workspace: Workspace,
) -> None:
    with time_machine.travel(1_900_000_000, tick=False):
        deferred = run_notebook(
            Store(),
            execution_timeout=timedelta(hours=4),
            polling_period_seconds=3,
            databricks_conn_id="other",
        )
    assert deferred.trigger.serialize()[1] == {
        "run_id": 100,
        "databricks_conn_id": "other",
        "cancel_on_kill": True,
        "poll_interval": 3,
        "end_time": 1_900_000_000 + 4 * 3600 + 600,
    }
    assert (deferred.method_name, deferred.kwargs) == ("execute_complete", None)


def test_without_a_timeout_a_notebook_is_waited_for_as_long_as_it_runs(workspace: Workspace) -> None:
    with time_machine.travel(1_900_000_000, tick=False):
        deferred = run_notebook(Store())
    assert deferred.trigger.end_time - 1_900_000_000 > 365 * 24 * 3600


def test_a_retry_waits_for_the_run_that_the_try_before_has_begun(workspace: Workspace) -> None:
    store = Store()
    assert run_notebook(store).trigger.run_id == 100
    assert run_notebook(store).trigger.run_id == 100, "the try before has lost sight of it"


def test_a_run_that_nobody_heard_of_is_found_by_its_token(databricks: Any, workspace: Workspace) -> None:
    store = Store()
    lost = ConnectionError("no answer")
    submit = workspace._submit

    def begin_and_lose(run: dict[str, Any]) -> int:
        submit(run)
        databricks.submit_run.side_effect = submit
        raise lost

    databricks.submit_run.side_effect = begin_and_lose
    operator = notebook_operator(DatabricksNotebookRunOperator, existing_cluster_id="warm", retries=2)
    with pytest.raises(ConnectionError):
        operator.execute({"ti": mock.MagicMock(max_tries=2, task=operator), "task_state_store": store})
    assert run_notebook(store).trigger.run_id == 100
    assert len(workspace.tokens) == 1


def test_a_run_whose_failure_was_seen_is_followed_by_a_new_one(databricks: Any, workspace: Workspace) -> None:
    store = Store()
    run_notebook(store)
    failed = {"task_key": "p-queries", "run_id": 5, "state": {"result_state": "FAILED"}}
    databricks.get_run.return_value = {"tasks": [failed]}
    databricks.get_run_output.return_value = {"error": "QualityError: no"}
    with pytest.raises(AirflowException, match=r"Final state FAILED\. Reason: why\. .*QualityError: no"):
        end_notebook(store, 100, state("TERMINATED", "FAILED", "why"))
    databricks.get_run.assert_called_once_with(100)
    assert run_notebook(store).trigger.run_id == 101


@pytest.mark.parametrize(
    ("run", "output_of"),
    [
        ({"tasks": [{"task_key": "p-queries", "run_id": 5, "state": {"result_state": "FAILED"}}]}, 5),
        ({"tasks": []}, 100),
        ({}, 100),
    ],
)
def test_a_verdict_reaches_the_retry_policy_whether_or_not_the_run_lists_its_task(
    databricks: Any, workspace: Workspace, run: dict[str, Any], output_of: int
) -> None:
    store = Store()
    run_notebook(store)
    databricks.get_run.return_value = run
    databricks.get_run_output.side_effect = {output_of: {"error": "QualityError: freshness"}}.__getitem__
    with pytest.raises(AirflowException, match="QualityError: freshness") as raised:
        end_notebook(store, 100, state("TERMINATED", "FAILED", "Workload failed, see run output for details"))
    decision = NotebookRetryPolicy().evaluate(raised.value, 1, 2)
    assert decision.action is RetryAction.FAIL


def test_a_run_that_failed_without_a_failed_task_tells_its_own_reason(
    databricks: Any, workspace: Workspace
) -> None:
    """Databricks has no output of a run of several tasks, and answers such a question with 400."""
    store = Store()
    run_notebook(store)
    databricks.get_run.return_value = {
        "tasks": [{"task_key": "t", "run_id": 5, "state": {"result_state": "TIMEDOUT"}}]
    }
    with pytest.raises(AirflowException, match=r"Reason: too slow\. Errors: \[\]"):
        end_notebook(store, 100, state("TERMINATED", "FAILED", "too slow"))
    databricks.get_run_output.assert_not_called()


def test_a_person_who_clears_the_task_gets_a_new_run(workspace: Workspace) -> None:
    store = Store()
    run_notebook(store)
    assert run_notebook(store, max_tries=3).trigger.run_id == 101
    end_notebook(store, 101, state("TERMINATED", "SUCCESS"), max_tries=3)
    assert run_notebook(store, max_tries=4).trigger.run_id == 102


def test_a_run_that_databricks_does_not_end_in_time_is_cancelled(databricks: Any) -> None:
    operator = notebook_operator(DatabricksNotebookRunOperator, existing_cluster_id="warm")
    late = {"status": "timeout", "message": "", "value": {"run_id": 100, **state("RUNNING")}}
    with pytest.raises(RunEnding, match="Run 100 is still ending"):
        operator.execute_complete(context(), late)
    databricks.cancel_run.assert_called_once_with(100)


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


HOUR_AGO = 1_900_000_000_000 - 3_600_000


def limited(databricks: Any, active: dict[str, Any] | None, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """Start with a time limit; return what came of it, and the settings that the job was given."""
    databricks.find_job_id_by_name.return_value = 7
    databricks.active_run.return_value = active
    begun = context()
    begun["ti"].dag_id = "streams"
    begun["ti"].get_dagrun_state.side_effect = arguments.pop("state", ["running"])
    operator = DatabricksStartStreamOperator(task_id="start", job=JOB, run_key="manual-1", **arguments)
    with time_machine.travel(1_900_000_000, tick=False):
        outcome = operator.execute(begun)
    (put,) = databricks.put_job.call_args_list
    return outcome["started"], put.args[0]


@pytest.mark.parametrize("limit", ["86400", "0"])
def test_a_run_is_started_with_its_time_limit(databricks: Any, limit: str) -> None:
    assert limited(databricks, None, time_limit=limit) == (True, {**JOB, "timeout_seconds": int(limit)})


def test_the_limit_of_an_own_run_begins_anew(databricks: Any) -> None:
    databricks.time_limit.return_value = 5
    active = {**started_by("manual-1"), "start_time": HOUR_AGO}
    assert limited(databricks, active, time_limit="86400") == (True, {**JOB, "timeout_seconds": 90_000})


@pytest.mark.parametrize("over", ["success", "failed"])
def test_a_run_that_was_left_behind_is_adopted(databricks: Any, over: str) -> None:
    databricks.time_limit.return_value = 172_800
    active = {**started_by("manual__2026-01-01T00=3A00=3A00=2B00=3A00"), "start_time": HOUR_AGO}
    adopted = limited(databricks, active, time_limit="86400", state=[over])
    assert adopted == (True, {**JOB, "timeout_seconds": 90_000})
    databricks.run_now.assert_not_called()


@pytest.mark.parametrize(
    ("limit", "starter", "states"),
    [
        (172_800, "manual-0", ["running"]),
        (172_800, "manual-0", ["queued"]),
        (172_800, "manual-0", [RuntimeError("not found")]),  # another Airflow's
        (172_800, "x==" + "0" * 64, []),  # a key that does not tell its run
        (172_800, "", []),  # started on its page
        (0, "manual-0", []),  # kept on purpose
    ],
)
def test_what_others_stop_or_keep_is_left_to_them(
    databricks: Any, limit: int, starter: str, states: list[Any]
) -> None:
    databricks.time_limit.return_value = limit
    active = {**started_by(starter), "start_time": HOUR_AGO}
    left = limited(databricks, active, time_limit="86400", state=states)
    assert left == (False, {**JOB, "timeout_seconds": limit})


@pytest.mark.parametrize("starter", ["manual-0", "manual-1"])
def test_a_run_that_is_to_be_kept_has_no_limit_from_now_on(databricks: Any, starter: str) -> None:
    databricks.time_limit.return_value = 172_800
    active = {**started_by(starter), "start_time": HOUR_AGO}
    kept = limited(databricks, active, time_limit="0")
    assert kept == (starter == "manual-1", {**JOB, "timeout_seconds": 0})


def test_a_run_that_is_ending_is_waited_for_and_not_adopted(databricks: Any) -> None:
    databricks.active_run.return_value = {**started_by("manual-1"), **lives("TERMINATING")}
    with pytest.raises(TaskDeferred) as deferred:
        start_operator().execute(context())
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatabricksRunOverTrigger)
    assert trigger.run_id == 41
    assert (deferred.value.method_name, deferred.value.kwargs) == ("execute_complete", None)
    databricks.run_now.assert_not_called()

    late = {"status": "timeout", "message": "", "value": {"run_id": 41, **state("TERMINATING")}}
    with pytest.raises(
        RunEnding, match=r"Run 41 is still ending after 600 s.* http://databricks/run/41"
    ) as ending:
        start_operator().execute_complete(context(), late)
    assert not isinstance(ending.value, AirflowFailException), "a later try may find it over"

    databricks.active_run.return_value = None
    over = {"status": "success", "message": "", "value": state("TERMINATED", "CANCELED")}
    started = {"run_id": 42, "job_id": 7, "started": True}
    assert start_operator().execute_complete(context(), over) == started


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
