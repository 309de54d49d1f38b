"""Databricks jobs that run for as long as they are wanted."""

from __future__ import annotations

from typing import Any

from airflow.providers.databricks.hooks.databricks import DatabricksHook

LIST_RUNS_ENDPOINT = ("GET", "2.2/jobs/runs/list")


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
        """Return the job's newest run that is not over, or None."""
        query = {"job_id": job_id, "active_only": True, "limit": 1}
        runs: list[dict[str, Any]] = self._do_api_call(LIST_RUNS_ENDPOINT, query).get("runs", [])
        return runs[0] if runs else None
