"""Who is told when a DAG run fails, and what they are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk.configuration import conf

from pinterest_pipeline.exceptions import ParametersRefused
from pinterest_pipeline.tags import TIERS

if TYPE_CHECKING:
    from pinterest_pipeline.config import Settings

log = logging.getLogger(__name__)

REFUSED = "refused"
"""XCom of a task that has refused a run's parameters."""
RUN_PAGE = "run_page_url"
"""XCom of a task that has started a Databricks run, as the provider names it."""
STREAM_JOB_TASK = "start_job"
"""The stream job's run is what the tasks after this one are about."""

Context = Mapping[str, Any]


def failed_run(settings: Settings) -> list[Callable[[Context], None]]:
    """
    Return what a DAG's ``on_failure_callback`` calls: what tells the alarm topic, or nothing where none is set.

    :param settings: ``alarm_topic_arn`` counts.
    """
    return [partial(_tell, settings.alarm_topic_arn)] if settings.alarm_topic_arn else []


@contextmanager
def quiet_refusals(context: Context) -> Iterator[None]:
    """
    Note that a task refuses the run's parameters: the run fails without an alarm, as whoever gave them looks on.

    :param context: the task's context.
    """
    try:
        yield
    except ParametersRefused as refused:
        context["ti"].xcom_push(key=REFUSED, value=str(refused))
        raise


def _tell(topic_arn: str, context: Context) -> None:
    # Airflow knows of no task where the run has none to blame, and then has `dag`, `run_id` and `reason` only.
    if _xcom(context, REFUSED):
        log.info("Nobody is told: the run's parameters were refused.")
        return
    from airflow.providers.amazon.aws.hooks.sns import SnsHook

    dag = context["dag"]
    tier = min((str(tag) for tag in TIERS & set(dag.tags)), default="no tier").replace("-", " ")
    hook: Any = SnsHook(region_name=topic_arn.split(":")[3])  # type: ignore[no-untyped-call]
    hook.publish_to_target(
        target_arn=topic_arn,
        subject=f"Airflow {tier}: {dag.dag_id} failed",
        message="\n".join(_lines(context)),
    )


def _lines(context: Context) -> Iterator[str]:
    dag_id, run_id, ti = context["dag"].dag_id, context["run_id"], context.get("ti")
    where = f" in its task {ti.task_id}" if ti else ""
    yield f"The run {run_id} of {dag_id} has failed{where} ({context.get('reason') or 'no reason given'})."
    yield ""
    if ti:
        yield f"Log: {ti.log_url}"
    if page := _xcom(context, RUN_PAGE) or _xcom(context, RUN_PAGE, STREAM_JOB_TASK):
        yield f"Databricks: {page}"
    dag_page = f"{conf.get('api', 'base_url', fallback='').rstrip('/')}/dags/{dag_id}"
    yield f"Run: {dag_page}/runs/{quote(run_id)}"
    yield f"What to do about each task is in the DAG's documentation: {dag_page}"


def _xcom(context: Context, key: str, task_id: str | None = None) -> Any:
    """Return an XCom of the failed task, or of another one; None if it cannot be had: the message goes out anyway."""
    ti = context.get("ti")
    if ti is None or (task_id and task_id not in context["dag"].task_ids):
        return None
    try:
        return ti.xcom_pull(task_ids=task_id or ti.task_id, key=key)
    except Exception:
        log.exception("XCom %s of %s could not be read", key, task_id or ti.task_id)
        return None
