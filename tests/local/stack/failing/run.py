"""Run each task of the DAG beside this file as Airflow's executor does, and leave their logs: python run.py FOLDER.

Airflow's own supervisor and task runner do everything; only the API server that they report to stands in a function.
"""

from __future__ import annotations

import os
import sys
import traceback
import uuid
from pathlib import Path

HERE = Path(__file__).parent
AT = "2026-01-01T00:00:00Z"
RUN = {
    "dag_run": {
        "dag_id": "failing",
        "run_id": "r",
        "logical_date": AT,
        "data_interval_start": AT,
        "data_interval_end": AT,
        "start_date": AT,
        "end_date": None,
        "run_type": "manual",
        "run_after": AT,
        "state": "running",
        "partition_key": None,
        "consumed_asset_events": [],
    },
    "max_tries": 0,
    "should_retry": False,
}


def settings(folder: str) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": folder,
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": folder,
        # The supervisor sees a moment after a task has ended that it has.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
    }


def resumed() -> dict[str, object]:
    """What the triggerer hands to a task whose trigger has raised."""
    try:
        try:
            raise ConnectionResetError("the connection was lost")
        except OSError as error:
            raise RuntimeError("the run 42 cannot be asked") from error
    except RuntimeError as error:
        lines = traceback.format_exception(error)
    return {"next_method": "__fail__", "next_kwargs": {"error": "Trigger failure", "traceback": lines}}


def main(folder: str) -> None:
    os.environ.update(settings(folder))
    import httpx
    from airflow.dag_processing.dagbag import DagBag
    from airflow.executors.workloads import BundleInfo, TaskInstance
    from airflow.sdk.api.client import Client
    from airflow.sdk.execution_time.supervisor import supervise_task

    for task_id in DagBag(HERE).dags["failing"].task_ids:
        answer = {**RUN, **(resumed() if task_id == "deferred" else {})}

        def api(request: httpx.Request, answer: dict[str, object] = answer) -> httpx.Response:
            return httpx.Response(200, json=answer if request.url.path.endswith("/run") else {"ok": True})

        supervise_task(
            ti=TaskInstance(
                id=uuid.uuid4(),
                dag_version_id=uuid.uuid4(),
                task_id=task_id,
                dag_id="failing",
                run_id="r",
                try_number=1,
                map_index=-1,
                pool_slots=1,
                queue="default",
                priority_weight=1,
            ),
            bundle_info=BundleInfo(name="dags-folder", version=None),
            dag_rel_path="failing.py",
            token="",
            client=Client(base_url="http://api", token="", transport=httpx.MockTransport(api)),
            log_path=f"{task_id}.log",
        )


if __name__ == "__main__":
    main(sys.argv[1])
