"""However a run of the streams ends: afterwards no stream job runs that nobody asked to keep."""

from __future__ import annotations

import contextlib
from typing import Any

import psutil
import pytest
import requests

from local.stack.airflow_api import FINISHED
from local.stack.supervisor import await_that

pytestmark = pytest.mark.timeout(1800)

DAG = "/dags/pinterest_kinesis_streams"
LONG = {"posts": 100, "rate": 5}
"""Twenty seconds in `emulate`."""
SHORT = {"posts": 1}
"""`emulate` ends while the job's cluster still starts, so that `committed` has to wait."""
SECONDS = 1_500
"""A task that dies with its scheduler is missed after five minutes, and tried again up to four later."""


class StreamRuns:
    """Runs of the DAG, and what Databricks knows of the job."""

    def __init__(self, airflow: Any, env: dict[str, str]) -> None:
        self.airflow, self.env = airflow, env

    def job_is_running(self) -> bool:
        query = {"active_only": "true", "limit": 25}
        answer = requests.get(
            f"{self.env['DATABRICKS_HOST']}/api/2.2/jobs/runs/list",
            params=query,
            headers={"Authorization": f"Bearer {self.env['DATABRICKS_TOKEN']}"},
            timeout=60,
        )
        answer.raise_for_status()
        return any("kinesis_streams" in run["run_name"] for run in answer.json().get("runs", []))

    def start(self, task_id: str) -> str:
        """Trigger a run; return its id once the task is at work, or waits."""
        run_id: str = self.airflow.trigger(
            "pinterest_kinesis_streams", LONG if task_id == "emulate" else SHORT
        )
        wanted = {"emulate": "running", "committed": "deferred"}[task_id]
        await_that(lambda: self.state(run_id, task_id) == wanted, SECONDS, f"{task_id} is not {wanted}")
        assert self.job_is_running()
        return run_id

    def state(self, run_id: str, task_id: str) -> str | None:
        states = {task["task_id"]: task["state"] for task in self.airflow.tasks(DAG[6:], run_id)}
        state: str | None = states[task_id]
        return state

    def ended(self, run_id: str) -> str:
        def state() -> str:
            return str(self.airflow.call("GET", f"{DAG}/dagRuns/{run_id}")["state"])

        await_that(lambda: state() in FINISHED, SECONDS, f"{run_id} does not end")
        return state()

    def mark(self, run_id: str, state: str) -> None:
        self.airflow.call("PATCH", f"{DAG}/dagRuns/{run_id}", json={"state": state})

    def clear(self, run_id: str, task_id: str) -> None:
        body = {
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "dry_run": False,
            "only_failed": False,
            "include_downstream": True,
        }
        self.airflow.call("POST", f"{DAG}/clearTaskInstances", json=body)


@pytest.fixture
def runs(airflow: Any, env: dict[str, str]) -> StreamRuns:
    return StreamRuns(airflow, env)


@pytest.mark.parametrize("task_id", ["emulate", "committed"])
@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_run_that_is_marked_stops_its_job(runs: StreamRuns, task_id: str, state: str) -> None:
    run_id = runs.start(task_id)
    runs.mark(run_id, state)
    runs.ended(run_id)
    assert runs.state(run_id, "stop_job") == "success"
    assert not runs.job_is_running()


@pytest.mark.parametrize("task_id", ["emulate", "committed"])
def test_a_run_that_is_cleared_goes_on_with_one_job_and_stops_it(runs: StreamRuns, task_id: str) -> None:
    run_id = runs.start(task_id)
    runs.clear(run_id, task_id)
    assert runs.ended(run_id) == "success"
    assert not runs.job_is_running()


@pytest.mark.parametrize("task_id", ["emulate", "committed"])
def test_a_killed_scheduler_ends_nothing(runs: StreamRuns, processes: Any, task_id: str) -> None:
    run_id = runs.start(task_id)
    for process, command in processes(lambda each: (each, " ".join(each.cmdline()))):
        if "airflow scheduler" in command:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    assert runs.ended(run_id) == "success"
    assert not runs.job_is_running()


def test_a_job_that_was_left_behind_is_stopped_by_the_next_run(runs: StreamRuns, airflow: Any) -> None:
    """A person marks the teardown, too: nobody is left to stop the job."""
    run_id = runs.start("emulate")
    airflow.call("PATCH", f"{DAG}/dagRuns/{run_id}/taskInstances/stop_job", json={"new_state": "success"})
    runs.mark(run_id, "failed")
    runs.ended(run_id)
    assert runs.job_is_running()
    following = airflow.trigger("pinterest_kinesis_streams", {"posts": 0})
    assert runs.ended(following) == "success"
    assert airflow.xcom("pinterest_kinesis_streams", following, "start_job", "started") is True
    assert not runs.job_is_running()
