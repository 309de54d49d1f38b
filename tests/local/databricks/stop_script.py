"""Runs in Airflow's environment: the stream job's operators against a workspace and a bucket, as the DAG uses them.

Arguments: three notebooks (one stops when asked, one never does, one does not even end when it is cancelled, until the
object ``release`` is there), the id of the warm cluster, and the bucket. The last line of the output is a JSON object
with what came of it.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk.exceptions import TaskDeferred

from pinterest_pipeline.exceptions import RunEnding
from pinterest_pipeline.hooks.databricks import DatabricksStreamJobHook, is_over, is_waiting, life_cycle
from pinterest_pipeline.operators.databricks import (
    DatabricksNotebookRunOperator,
    DatabricksStartStreamOperator,
    DatabricksStopStreamOperator,
)

STOPS, STUBBORN, UNDYING, CLUSTER, BUCKET = sys.argv[1:]
SAID: dict[str, Any] = {}
WARM = {"existing_cluster_id": CLUSTER}
OWN = {"new_cluster": {"spark_version": "18.x-scala2.13", "num_workers": 0}}
HOOK: Any = DatabricksStreamJobHook()
S3 = S3Hook()


def start(name: str, notebook: str, compute: dict[str, Any], key: str = "", limit: Any = None) -> Any:
    parameters = {"stop_path": f"s3://{BUCKET}/stop/{{{{job.run_id}}}}"}
    task = {
        "task_key": "stream",
        "notebook_task": {"notebook_path": notebook, "base_parameters": parameters},
        **compute,
    }
    job = {"name": name, "max_concurrent_runs": 1, "tasks": [task]}
    return DatabricksStartStreamOperator(
        task_id="start", job=job, run_key=key or name, time_limit=limit, poll_interval=0.1
    )


def stop(run_id: int, seconds: float = 120) -> Any:
    return DatabricksStopStreamOperator(
        task_id="stop",
        run_id=run_id,
        bucket=BUCKET,
        stop_prefix="stop",
        grace_seconds=seconds,
        ending_seconds=seconds,
        poll_interval=0.1,
    )


async def event_of(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload


def resumed(operator: Any, deferred: TaskDeferred) -> Any:
    """Go on as Airflow does, through all deferrals; give what the task returns."""
    while True:
        event = asyncio.run(event_of(deferred.trigger))
        try:
            return getattr(operator, deferred.method_name)(context(), event, **(deferred.kwargs or {}))
        except TaskDeferred as again:
            deferred = again


def deferral(operator: Any) -> TaskDeferred:
    try:
        returned = operator.execute(context())
    except TaskDeferred as deferred:
        return deferred
    raise AssertionError(f"not deferred: {returned}")


def context(starter_is: str = "running") -> Any:
    ti = mock.MagicMock(stats_tags={}, max_tries=2, dag_id="streams")
    ti.task.retries = 2
    ti.get_dagrun_state.return_value = starter_is
    return {"ti": ti, "task_state_store": STORE}


class Store(dict[str, Any]):
    """A task's state store."""

    set = dict.__setitem__

    def delete(self, key: str) -> None:
        del self[key]


STORE = Store()


def executing(run_id: int) -> None:
    """Wait until a run's notebook is executed."""
    until(lambda: not is_waiting(HOOK.get_run(run_id)))


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        asyncio.run(asyncio.sleep(0.1))


# one that stops when it is asked
begun = start("stops", STOPS, WARM).execute(context())
executing(begun["run_id"])
operator = stop(begun["run_id"])
deferred = deferral(operator)
SAID["asked"] = S3.list_keys(BUCKET, prefix="stop/") == [f"stop/{begun['run_id']}"]
SAID["stopped"] = resumed(operator, deferred)

# one that never does is cancelled, and is over when the task ends: the next one begins at once
begun = start("stubborn", STUBBORN, WARM).execute(context())
executing(begun["run_id"])
operator = stop(begun["run_id"], 1)
operator.ending_seconds = 120
SAID["cancelled"] = resumed(operator, deferral(operator))
SAID["over"] = life_cycle(HOOK.get_run(begun["run_id"]))
after = start("stubborn", STUBBORN, WARM).execute(context())
SAID["next"] = (after["started"], after["run_id"] != begun["run_id"])
HOOK.cancel_run(after["run_id"])

# one whose cluster still starts is not asked
begun = start("cold", STUBBORN, OWN).execute(context())
operator = stop(begun["run_id"])
deferred = deferral(operator)
SAID["not_asked"] = S3.list_keys(BUCKET, prefix="stop/")
SAID["cold"] = resumed(operator, deferred)

# one that is ending is neither adopted nor taken for over
begun = start("undying", UNDYING, WARM).execute(context())
until(lambda: S3.check_for_key("lingers", BUCKET))  # a notebook that is executed may not have come so far
HOOK.cancel_run(begun["run_id"])
SAID["ending"] = life_cycle(HOOK.get_run(begun["run_id"]))
starting, stopping = start("undying", UNDYING, WARM), stop(begun["run_id"])
hasty = [start("undying", UNDYING, WARM), stop(begun["run_id"])]
SAID["refused"] = []
for operator in hasty:
    operator.ending_seconds = 0
    try:
        resumed(operator, deferral(operator))
    except RunEnding as error:
        SAID["refused"].append(
            str(error).partition(";")[0] == f"Run {begun['run_id']} is still ending after 0 s"
        )
waits = [deferral(operator) for operator in (starting, stopping)]
S3.load_string("now", "release", BUCKET)
SAID["ended"] = resumed(stopping, waits[1])["life_cycle_state"]
after = resumed(starting, waits[0])
SAID["started"] = (after["started"], after["run_id"] != begun["run_id"])
SAID["left"] = S3.list_keys(BUCKET, prefix="stop/")

# one that was left behind is adopted, unless it was kept; in the end Databricks stops it by itself
begun = start("left behind", STUBBORN, WARM, "r1", 3600).execute(context())
executing(begun["run_id"])
SAID["adopted"] = [
    start("left behind", STUBBORN, WARM, key, limit).execute(context(state))["started"]
    for key, limit, state in (
        ("r2", "3600", "running"),
        ("r2", "3600", "failed"),
        ("r3", "0", "success"),  # and keeps it
        ("r4", "3600", "success"),
    )
]
SAID["kept"] = HOOK.time_limit(begun["job_id"])
start("left behind", STUBBORN, WARM, "r1", "1").execute(context())  # a second from now on
until(lambda: is_over(HOOK.get_run(begun["run_id"])))
SAID["timed_out"] = HOOK.get_run(begun["run_id"])["state"]["result_state"]

# a notebook that is waited for again is the same run, and one that has ended is followed by another
notebook: Any = DatabricksNotebookRunOperator(
    task_id="notebook",
    notebook_path=STOPS,
    source="WORKSPACE",
    existing_cluster_id=CLUSTER,
    notebook_params={"stop_path": f"s3://{BUCKET}/go"},
    polling_period_seconds=1,
)
waits = [deferral(notebook), deferral(notebook)]
S3.load_string("now", "go", BUCKET)
resumed(notebook, waits[1])
waits.append(deferral(notebook))
first, again, after = (wait.trigger.run_id for wait in waits)
SAID["found_again"] = (first == again, first != after)
resumed(notebook, waits[2])
print(json.dumps(SAID))
