"""Every limit of a DAG agrees with every other: added up, as Airflow counts them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowFailException

from pinterest_pipeline.emulating import EMULATE_TIMEOUT
from pinterest_pipeline.operators.databricks import (
    ENDING_SECONDS,
    DatabricksNotebookRunOperator,
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)
from pinterest_pipeline.operators.kinesis import KinesisDeleteStreamOperator, KinesisScaleStreamOperator
from pinterest_pipeline.retries import RETRIES
from pinterest_pipeline.sensors.base import PollingSensor
from pinterest_pipeline.triggers.base import PATIENCE_SECONDS

DAG_IDS = ("pinterest_daily_batch", "pinterest_kinesis_streams", "pinterest_msk_ingestion")
DOUBLINGS = 7
"""Steps from 1 shard to 100, or back."""
MOST_DELAYS = timedelta(minutes=4 + 16 + 30)


def waits(task: Any) -> list[float]:
    """Return the longest waits of a try in the triggerer, one after the other, in seconds."""
    if isinstance(task, PollingSensor | KinesisDeleteStreamOperator):
        return [task.timeout]
    if isinstance(task, DatabricksNotebookRunOperator):
        return [task.execution_timeout.total_seconds() + ENDING_SECONDS]
    if isinstance(task, DatabricksStartStreamOperator):
        return [task.ending_seconds]
    if isinstance(task, DatabricksStopStreamOperator):
        return [task.grace_seconds, task.ending_seconds]
    if isinstance(task, KinesisScaleStreamOperator):
        return [task.timeout] * DOUBLINGS
    return []


def longest_of(task: Any) -> timedelta:
    """Return how long a task may take: its time in a worker is limited before, between and after its waits."""
    in_trigger = [seconds + PATIENCE_SECONDS for seconds in waits(task)]
    one_try = (len(in_trigger) + 1) * task.execution_timeout + timedelta(seconds=sum(in_trigger))
    tries: timedelta = (task.retries + 1) * one_try + MOST_DELAYS
    return tries


def longest_from(task: Any, last: str = "") -> timedelta:
    """Return how long the longest path may take that begins with a task; it may end with the one named ``last``."""
    following = [] if task.task_id == last else task.downstream_list
    if last:
        following = [each for each in following if last in {each.task_id, *each.get_flat_relative_ids()}]
    return longest_of(task) + max((longest_from(each, last) for each in following), default=timedelta())


def test_the_delays_between_tries_are_those_that_are_added_up() -> None:
    first, factor, most = (
        RETRIES[name] for name in ("retry_delay", "retry_exponential_backoff", "max_retry_delay")
    )
    # Airflow's own formula: up to twice the exponential delay
    delays = [min(most, 2 * first * factor**retry) for retry in range(RETRIES["retries"])]
    assert sum(delays, timedelta()) == MOST_DELAYS


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_the_longest_path_ends_before_the_run_times_out(dag_bag: Any, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    longest = max(longest_from(task) for task in dag.roots)
    assert dag.dagrun_timeout is None or longest < dag.dagrun_timeout
    assert all(task.max_retry_delay == RETRIES["max_retry_delay"] for task in dag.tasks)


def test_a_run_that_reaches_a_timeout_would_skip_its_teardown(dag_bag: Any) -> None:
    teardowns = {
        dag_id: [task.task_id for task in dag.tasks if task.is_teardown]
        for dag_id, dag in dag_bag.dags.items()
        if dag.dagrun_timeout is not None
    }
    assert not any(teardowns.values()), "the scheduler skips every unfinished task, teardowns too"


@pytest.mark.parametrize(("job", "limited"), [("drain", True), ("stop", True), ("keep", False)])
def test_databricks_ends_a_stream_job_that_nobody_stops(dag_bag: Any, job: str, limited: bool) -> None:
    start = dag_bag.dags["pinterest_kinesis_streams"].get_task("start_job")
    limit = int(start.render_template(start.time_limit, {"params": {"job": job}}))
    assert limit == (48 * 3600 if limited else 0)
    if limited:
        assert longest_from(start, "stop_job").total_seconds() < limit, (
            "it would end the job of a run that goes on"
        )


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_only_emulate_takes_a_worker_for_long(dag_bag: Any, dag_id: str) -> None:
    """A run at a time, and one such task in each of two DAGs: two slots at most."""
    dag = dag_bag.dags[dag_id]
    assert dag.max_active_runs == 1
    long = {
        task.task_id
        for task in dag.tasks
        if task.execution_timeout > timedelta(minutes=30)
        and not isinstance(task, DatabricksNotebookRunOperator)  # the limit of its Databricks run
    }
    assert long == {"emulate"} & set(dag.task_ids)


@pytest.mark.parametrize(
    ("dag_id", "first"),
    [("pinterest_msk_ingestion", "check_parameters"), ("pinterest_kinesis_streams", "progress_before")],
)
def test_a_run_that_cannot_end_in_time_is_refused_at_its_start(dag_bag: Any, dag_id: str, first: str) -> None:
    dag = dag_bag.dags[dag_id]
    assert [task.task_id for task in dag.roots] == [first]
    assert dag.get_task("emulate").execution_timeout == EMULATE_TIMEOUT
    check = dag.get_task(first).python_callable
    params = {**dag.params.dump(), "posts": 100_000, "rate": 5}
    context = {"params": params, "ti": mock.Mock()}
    with (
        mock.patch.dict(check.__globals__, {"get_current_context": lambda: context}),
        pytest.raises(
            AirflowFailException, match="100000 posts at 5 a second take 5 h 34, more than the 3 h 50"
        ),
    ):
        check()
    assert [call.kwargs["key"] for call in context["ti"].xcom_push.mock_calls] == ["refused"]  # pages nobody


def test_killing_the_wait_leaves_the_job_to_the_teardown(dag_bag: Any) -> None:
    """Else a task that is cleared while it waits finds the job it has started, which is cancelled a second later."""
    assert dag_bag.dags["pinterest_kinesis_streams"].get_task("committed").cancel_on_kill is False
