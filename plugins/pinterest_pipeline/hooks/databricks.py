"""Databricks jobs that run for as long as they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from airflow.providers.databricks.hooks.databricks import DatabricksHook
from tenacity import stop_after_attempt, wait_exponential

PATIENT: Mapping[str, Any] = {
    "retry_limit": 25,
    "retry_args": {"stop": stop_after_attempt(25), "wait": wait_exponential(max=30)},
}
"""Arguments of a hook whose requests ride out a workspace that does not answer for ten minutes."""

GET_JOB_ENDPOINT = ("GET", "2.2/jobs/get")
LIST_RUNS_ENDPOINT = ("GET", "2.2/jobs/runs/list")
OVER = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
WAITING = frozenset({"PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY"})


def life_cycle(run: Mapping[str, Any]) -> str:
    """Return the life-cycle state of a run or of a task of it, as the Jobs API tells it."""
    return str(run.get("state", {}).get("life_cycle_state", ""))


def is_over(run: Mapping[str, Any]) -> bool:
    """Return whether a run has ended, however it has."""
    return life_cycle(run) in OVER


def is_waiting(run: Mapping[str, Any]) -> bool:
    """Return whether no task of a run is being executed: its cluster still starts, or it will be tried again."""
    tasks = [task for task in run.get("tasks") or [run] if not is_over(task)]
    return all(life_cycle(task) in WAITING for task in tasks)


def given_run_id(run: Mapping[str, Any]) -> str:
    """Return the notebook's parameter ``run_id`` that a run was started with; empty where none was given."""
    given: str = run.get("overriding_parameters", {}).get("notebook_params", {}).get("run_id", "")
    return given


def is_ending(run: Mapping[str, Any]) -> bool:
    """Return whether a run was cancelled and is not over yet."""
    return life_cycle(run) == "TERMINATING"


class DatabricksStreamJobHook(DatabricksHook):
    """
    Look after one job by its name.

    Takes the arguments of :class:`~airflow.providers.databricks.hooks.databricks.DatabricksHook`.
    """

    def put_job(self, settings: dict[str, Any]) -> int:
        """
        Create the job, or bring it to these settings; of these, a run that is active takes its time limit alone.

        :param settings: the job as the Jobs API takes it; ``name`` is what it is found by.
        :return: its id.
        """
        job_id = self.find_job_id_by_name(settings["name"])
        if job_id is None:
            return self.create_job(settings)
        self.reset_job(str(job_id), settings)
        return job_id

    def time_limit(self, job_id: int) -> int:
        """Return the seconds that a run of the job may take; 0: any number."""
        job = self._do_api_call(GET_JOB_ENDPOINT, {"job_id": job_id})
        return int(job["settings"].get("timeout_seconds") or 0)

    def run_now(self, json: dict[str, Any]) -> int:
        """Start a run; sent again because an answer was lost, the request starts no second one."""
        run_id: int = super().run_now({**json, "idempotency_token": uuid4().hex})
        return run_id

    def active_run(self, job_id: int) -> dict[str, Any] | None:
        """Return the job's newest run that goes on, else one that is ending, else None."""
        query = {"job_id": job_id, "active_only": True, "limit": 25}
        runs: list[dict[str, Any]] = self._do_api_call(LIST_RUNS_ENDPOINT, query).get("runs", [])
        active = [run for run in runs if not is_over(run)]
        return min(active, key=is_ending, default=None)
