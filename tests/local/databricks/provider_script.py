"""Runs in Airflow's environment: the Databricks operators and their trigger against a workspace.

Arguments: three notebooks (one works, one fails, one never ends) and the id of the cluster. The last line of the
output is a JSON object with what came of it.
"""

import asyncio
import json
import sys
from typing import Any

from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.operators.databricks import (
    DatabricksCreateJobsOperator,
    DatabricksNotebookOperator,
    DatabricksRunNowOperator,
    DatabricksSubmitRunOperator,
)
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk.exceptions import TaskDeferred

WORKS, FAILS, ENDLESS, CLUSTER = sys.argv[1:]
SAID: dict[str, Any] = {}


def notebook(path: str, **arguments: Any) -> Any:
    return DatabricksNotebookOperator(
        task_id=path.rpartition("/")[2],
        notebook_path=path,
        source="WORKSPACE",
        existing_cluster_id=CLUSTER,
        notebook_params={"day": "2026-01-01"},
        polling_period_seconds=1,
        do_xcom_push=False,
        **arguments,
    )


def failure(operator: Any) -> str:
    try:
        operator.execute({})
    except Exception as error:
        return str(error)
    return "none"


notebook(WORKS).execute({})
SAID["notebook"] = "done"
SAID["notebook_failure"] = failure(notebook(FAILS))

task = {
    "task_key": "main",
    "existing_cluster_id": CLUSTER,
    "notebook_task": {"notebook_path": WORKS, "base_parameters": {"day": "never"}},
}
hook: Any = DatabricksHook()
job_id = DatabricksCreateJobsOperator(task_id="create", name="made by Airflow", tasks=[task]).execute({})
again = DatabricksCreateJobsOperator(task_id="create", name="made by Airflow", tasks=[task]).execute({})
assert again == job_id, "a second create resets the job of that name"
run_now = DatabricksRunNowOperator(
    task_id="run_now",
    job_name="made by Airflow",
    notebook_params={"day": "2026-01-01"},
    polling_period_seconds=1,
    do_xcom_push=False,
)
run_now.execute({})
output = hook.get_run_output(hook.get_run(run_now.run_id)["tasks"][0]["run_id"])
SAID["run_now_output"] = output["notebook_output"]["result"]


async def event_of(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload


try:
    notebook(FAILS, deferrable=True).execute({})
except TaskDeferred as deferred:
    _, arguments = deferred.trigger.serialize()
    payload = asyncio.run(event_of(DatabricksExecutionTrigger(**arguments)))
    SAID["deferred"] = json.loads(payload["run_state"])
    SAID["deferred_error"] = json.dumps(payload["errors"])

submit: Any = DatabricksSubmitRunOperator(
    task_id="submit",
    tasks=[{"task_key": "main", "notebook_task": {"notebook_path": ENDLESS}, "existing_cluster_id": CLUSTER}],
    wait_for_termination=False,
    do_xcom_push=False,
)
submit.execute({})
submit.on_kill()
while not (state := hook.get_run_state(submit.run_id)).is_terminal:
    asyncio.run(asyncio.sleep(0.1))
SAID["killed"] = state.result_state

bad = DatabricksHook()
bad.databricks_conn.password = "dapi-wrong"
try:
    bad.get_run_state(1)
except Exception as error:
    SAID["wrong_token"] = str(error)
print(json.dumps(SAID))
