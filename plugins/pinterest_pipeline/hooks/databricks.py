"""Databricks jobs that run for as long as they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.databricks.hooks.databricks import DatabricksHook

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
        Create the job, or bring it to these settings; a run that is active keeps those it has.

        :param settings: the job as the Jobs API takes it; ``name`` is what it is found by.
        :return: its id.
        """
        job_id = self.find_job_id_by_name(settings["name"])
        if job_id is None:
            return self.create_job(settings)
        self.reset_job(str(job_id), settings)
        return job_id

    def active_run(self, job_id: int) -> dict[str, Any] | None:
        """Return the job's newest run that goes on, else one that is ending, else None."""
        query = {"job_id": job_id, "active_only": True, "limit": 25}
        runs: list[dict[str, Any]] = self._do_api_call(LIST_RUNS_ENDPOINT, query).get("runs", [])
        active = [run for run in runs if not is_over(run)]
        return min(active, key=is_ending, default=None)
