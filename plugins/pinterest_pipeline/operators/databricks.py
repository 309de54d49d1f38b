"""Databricks runs, where the provider's operators are not enough."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn
from uuid import uuid4

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.databricks.hooks.databricks import DatabricksHook, RunState
from airflow.providers.databricks.operators.databricks import (
    XCOM_RUN_PAGE_URL_KEY,
    DatabricksJobRunLink,
    DatabricksNotebookOperator,
)
from airflow.providers.databricks.utils.databricks import extract_failed_task_errors
from airflow.sdk import BaseOperator, Context, DagRunState

from pinterest_pipeline.exceptions import RunEnding, WaitFailed
from pinterest_pipeline.hooks.databricks import (
    PATIENT,
    DatabricksStreamJobHook,
    given_run_id,
    is_ending,
    is_over,
    is_waiting,
)
from pinterest_pipeline.templates import run_id_of
from pinterest_pipeline.tries import TryMemory
from pinterest_pipeline.triggers.databricks import DatabricksRunOverTrigger

UNLIMITED_SECONDS = 365 * 24 * 3600
GRACE_SECONDS = 600
ENDING_SECONDS = 600
"""Databricks takes minutes to end a run whose cluster it has to give back."""


class DatabricksNotebookRunOperator(DatabricksNotebookOperator):
    """
    Run a notebook once, however often the wait for it is begun anew.

    A retry waits on for the run that the try before has begun, or takes its end if it is over. A run whose end a try
    has seen, and one from before the task was cleared, is followed by a new one. Killing the task cancels the run.

    Takes the arguments of
    :class:`~airflow.providers.databricks.operators.databricks.DatabricksNotebookOperator`, those of its polls and
    retries excepted: it waits in the triggerer, with ``polling_period_seconds``.
    """

    def _get_hook(self, caller: str) -> DatabricksHook:
        return DatabricksHook(self.databricks_conn_id, caller=caller, **PATIENT)

    def execute(self, context: Context) -> None:
        """Begin the run, or find it again, and wait in the triggerer until it is over."""
        # Kept before the request is sent: whatever happens after that, the same token gets the same run.
        token = self._token(context)
        given = token.get() or uuid4().hex
        token.set(given)
        self.databricks_run_id = self._hook.submit_run({**self._get_run_json(), "idempotency_token": given})
        page = self._hook.get_run_page_url(self.databricks_run_id)
        self.log.info("Run %s: %s", self.databricks_run_id, page)
        context["ti"].xcom_push(key=XCOM_RUN_PAGE_URL_KEY, value=page)
        seconds = self._get_task_timeout_seconds() or UNLIMITED_SECONDS
        self.defer(
            trigger=DatabricksRunOverTrigger(
                run_id=self.databricks_run_id,
                databricks_conn_id=self.databricks_conn_id,
                cancel_on_kill=True,
                poll_interval=self.polling_period_seconds,
                end_time=time.time() + seconds + ENDING_SECONDS,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> None:  # type: ignore[override]
        """
        Tell how the run has ended.

        :raises AirflowException: it has failed; the message has the notebook's error.
        :raises RunEnding: Databricks has not ended it by its time limit.
        """
        # By the event, and not by arguments of the deferral: `airflow dags test` does not hand those on.
        value = dict(event["value"])
        run_id = value.pop("run_id")
        if event["status"] != "success":
            self._hook.cancel_run(run_id)
            raise RunEnding(run_id, ENDING_SECONDS, self._hook.get_run_page_url(run_id))
        state = RunState(**value)
        errors = self._errors(run_id, state) if state.result_state == "FAILED" else []
        self._token(context).forget()
        self._handle_terminal_run_state(state, errors)

    def _errors(self, run_id: int, state: RunState) -> list[dict[str, Any]]:
        """Return what the notebook has raised, which the retry policy decides by."""
        run = self._hook.get_run(run_id)
        if run.get("tasks"):
            return list(extract_failed_task_errors(self._hook, run, state))
        # A run of one task may be told without a list of tasks; only such a run has an output of its own.
        error = self._hook.get_run_output(run_id).get("error", state.state_message)
        return [{"task_key": self.databricks_task_key, "run_id": run_id, "error": error}]

    def _token(self, context: Context) -> TryMemory:
        return TryMemory(context, "idempotency_token")


class DatabricksServerlessNotebookOperator(DatabricksNotebookRunOperator):
    """
    Run a notebook on serverless compute, which the provider's operator cannot ask for.

    Takes the arguments of :class:`DatabricksNotebookRunOperator`, clusters excepted.
    """

    def _get_run_json(self) -> dict[str, Any]:
        # Serverless is a task without a cluster, and such a task cannot be written in the short form.
        base = self._get_task_base_json()
        return {
            "run_name": self.databricks_task_key,
            "timeout_seconds": base["timeout_seconds"],
            "tasks": [
                {
                    "task_key": self.databricks_task_key,
                    "notebook_task": base["notebook_task"],
                    # else Databricks runs a failed notebook again by itself, the quality gate's verdict too
                    "disable_auto_optimization": True,
                    "max_retries": 0,
                }
            ],
        }


class DatabricksStartStreamOperator(BaseOperator):
    """
    See to it that exactly one run of a job is going on, and do not wait for it.

    The job is created, or brought to these settings. A run that is active is left alone, whoever has started it;
    without one, a run is started. One that was cancelled is waited for in the triggerer: it takes no more records.
    Returns ``run_id``, ``job_id`` and ``started``: whether the run belongs to this `run_key`, which stays true over
    retries of the task.

    With `time_limit` Databricks itself ends a run that nobody stops. A run with such a limit, whose Airflow run is
    over, was left behind: it is adopted, and its limit begins anew.

    :param job: the job as the Jobs API takes it, with its ``name``. (templated)
    :param run_key: names whoever starts a run; the notebook's parameter ``run_id``. (templated)
    :param time_limit: seconds that the run may take from now on; 0: any number, also for a run that is active;
        None: the job's settings say it. (templated)
    :param ending_seconds: how long to wait for a run that is ending.
    :param poll_interval: seconds between two looks at it.
    :param databricks_conn_id: the Databricks connection. (templated)
    """

    template_fields: Sequence[str] = ("job", "run_key", "time_limit", "databricks_conn_id")
    operator_extra_links = (DatabricksJobRunLink(),)

    def __init__(
        self,
        *,
        job: dict[str, Any],
        run_key: str,
        time_limit: int | str | None = None,
        ending_seconds: float = ENDING_SECONDS,
        poll_interval: float = 10,
        databricks_conn_id: str = "databricks_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.run_key = run_key
        self.time_limit = time_limit
        self.ending_seconds = ending_seconds
        self.poll_interval = poll_interval
        self.databricks_conn_id = databricks_conn_id
        self._started: int | None = None

    @cached_property
    def hook(self) -> DatabricksStreamJobHook:
        """Return the Databricks hook."""
        return DatabricksStreamJobHook(
            self.databricks_conn_id, caller="DatabricksStartStreamOperator", **PATIENT
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Find the run that is going on, or start one."""
        found = self.hook.find_job_id_by_name(self.job["name"])
        active = None if found is None else self.hook.active_run(found)
        if active is not None and is_ending(active):
            self._wait_for_end(int(active["run_id"]))
        limit = 0 if found is None or self.time_limit is None else self.hook.time_limit(found)
        started = active is None or self._belongs(active, limit, context["ti"])
        job_id = self.hook.put_job({**self.job, **self._limited(active, limit if not started else None)})
        if active is None:
            parameters = {"run_id": self.run_key}
            run_id = self._started = self.hook.run_now({"job_id": job_id, "notebook_params": parameters})
        else:
            run_id = int(active["run_id"])
        page = self.hook.get_run_page_url(run_id)
        how = "Started" if active is None else "Adopted" if started else "Left alone: there already was"
        self.log.info("%s run %s of job %s: %s", how, run_id, self.job["name"], page)
        context["ti"].xcom_push(key=XCOM_RUN_PAGE_URL_KEY, value=page)
        return {"run_id": run_id, "job_id": job_id, "started": started}

    def _belongs(self, active: Mapping[str, Any], limit: int, ti: Any) -> bool:
        """Return whether this Airflow run is the one to stop a run: it has started it, or nobody else is left to."""
        starter = given_run_id(active)
        if starter == self.run_key:
            return True
        airflow_run = run_id_of(starter)
        if not limit or not airflow_run:
            return False
        try:
            state: str = ti.get_dagrun_state(dag_id=ti.dag_id, run_id=airflow_run)
        except Exception as error:  # which of several it is depends on where the task runs
            self.log.info("This Airflow does not know the run %s: %s", airflow_run, error)
            return False
        return state in {DagRunState.SUCCESS, DagRunState.FAILED}

    def _limited(self, active: Mapping[str, Any] | None, limit_of_others: int | None) -> dict[str, int]:
        """
        Return the job's time limit, which Databricks applies to an active run, too, from its start on.

        :param active: the run that is active.
        :param limit_of_others: the limit that the run has, if it is not for this Airflow run to stop.
        """
        if self.time_limit is None:
            return {}
        seconds = int(self.time_limit)
        if seconds and limit_of_others is not None:
            seconds = limit_of_others
        elif seconds and active is not None:
            seconds += int(time.time() - active["start_time"] / 1000)
        return {"timeout_seconds": seconds}

    def _wait_for_end(self, run_id: int) -> NoReturn:
        self.log.info("Run %s is still ending.", run_id)
        self.defer(
            trigger=DatabricksRunOverTrigger(
                run_id=run_id,
                databricks_conn_id=self.databricks_conn_id,
                poll_interval=self.poll_interval,
                end_time=time.time() + self.ending_seconds,
            ),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """
        Start a run now that the one before is over.

        :raises RunEnding: it is not.
        """
        if event["status"] != "success":
            ending = event["value"]["run_id"]
            raise RunEnding(ending, self.ending_seconds, self.hook.get_run_page_url(ending))
        return self.execute(context)

    def on_kill(self) -> None:
        """Cancel the run if this task has just started it."""
        if self._started is not None:
            self.hook.cancel_run(self._started)


class DatabricksStopStreamOperator(BaseOperator):
    """
    Stop a run gracefully, or else cancel it; return the state it ended in when it is over.

    The request is an object in the bucket that the notebook looks for, named after the run: ``{stop_prefix}/{run_id}``.
    It is removed when the run is over. A run of which nothing is executed yet, because its cluster still starts, is
    cancelled at once: it could not see the request.

    :param run_id: the run; without one there is nothing to stop. (templated)
    :param stop: whether to stop it at all; ``False`` leaves it running. (templated)
    :param bucket: bucket of the stop object. (templated)
    :param stop_prefix: folder of the stop object. (templated)
    :param grace_seconds: how long the run may take to stop before it is cancelled: the start of the notebook, which
        reads an index of its tables, and a micro-batch.
    :param ending_seconds: how long it may take to end after that.
    :param poll_interval: seconds between two looks at the run.
    :param databricks_conn_id: the Databricks connection. (templated)
    :param aws_conn_id: the AWS connection. (templated)
    """

    template_fields: Sequence[str] = (
        "run_id",
        "stop",
        "bucket",
        "stop_prefix",
        "databricks_conn_id",
        "aws_conn_id",
    )

    def __init__(
        self,
        *,
        run_id: Any,
        bucket: str,
        stop_prefix: str,
        stop: bool | str = True,
        grace_seconds: float = GRACE_SECONDS,
        ending_seconds: float = ENDING_SECONDS,
        poll_interval: float = 10,
        databricks_conn_id: str = "databricks_default",
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.stop = stop
        self.bucket = bucket
        self.stop_prefix = stop_prefix
        self.grace_seconds = grace_seconds
        self.ending_seconds = ending_seconds
        self.poll_interval = poll_interval
        self.databricks_conn_id = databricks_conn_id
        self.aws_conn_id = aws_conn_id

    @cached_property
    def hook(self) -> DatabricksHook:
        """Return the Databricks hook."""
        return DatabricksHook(self.databricks_conn_id, caller="DatabricksStopStreamOperator", **PATIENT)

    @cached_property
    def s3(self) -> S3Hook:
        """Return the S3 hook."""
        return S3Hook(aws_conn_id=self.aws_conn_id)

    @property
    def stop_key(self) -> str:
        """Return the key of the stop object."""
        return f"{self.stop_prefix}/{self.run_id}"

    def execute(self, context: Context) -> dict[str, str] | None:
        """Ask the run to stop, or cancel it where that is of no use, and wait in the triggerer until it is over."""
        if self.run_id is None:
            self.log.info("No run was started, so there is none to stop.")
            return None
        if str(self.stop) != "True":
            self.log.info("Run %s is left running.", self.run_id)
            return None
        run = self.hook.get_run(int(self.run_id))
        if is_ending(run) or is_over(run):
            self._wait("execute_cancelled", self.ending_seconds)
        if is_waiting(run):
            self.log.info("Nothing of run %s is executed yet: cancelled.", self.run_id)
            self._cancel()
        self.s3.load_string("stop", self.stop_key, self.bucket, replace=True)
        self.log.info("Asked run %s to stop: s3://%s/%s", self.run_id, self.bucket, self.stop_key)
        self._wait("execute_complete", self.grace_seconds)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """
        Cancel a run that did not stop.

        :raises WaitFailed: the run had failed.
        """
        if event["status"] != "success":
            self.log.warning("Run %s did not stop in %g s: cancelled.", self.run_id, self.grace_seconds)
            self._cancel()
        return self._ended(event["value"])

    def execute_cancelled(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """
        Return the state in which a cancelled run has ended.

        :raises RunEnding: it has not ended.
        :raises WaitFailed: the run had failed.
        """
        if event["status"] != "success":
            run_id = int(self.run_id)
            raise RunEnding(run_id, self.ending_seconds, self.hook.get_run_page_url(run_id))
        return self._ended(event["value"])

    def _cancel(self) -> NoReturn:
        """Cancel the run, and wait until it is over: what is committed stays committed, so this loses nothing."""
        self.hook.cancel_run(int(self.run_id))
        self._wait("execute_cancelled", self.ending_seconds)

    def _wait(self, method_name: str, seconds: float) -> NoReturn:
        self.defer(
            trigger=DatabricksRunOverTrigger(
                run_id=int(self.run_id),
                databricks_conn_id=self.databricks_conn_id,
                poll_interval=self.poll_interval,
                end_time=time.time() + seconds,
            ),
            method_name=method_name,
        )

    def _ended(self, state: dict[str, str]) -> dict[str, str]:
        self.s3.delete_objects(self.bucket, self.stop_key)
        if state["result_state"] not in {"SUCCESS", "CANCELED"}:
            how = state["result_state"] or state["life_cycle_state"]
            raise WaitFailed(
                f"The stream job's run {self.run_id} had ended {how}: {state['state_message']} "
                f"See {self.hook.get_run_page_url(int(self.run_id))}"
            )
        return state
