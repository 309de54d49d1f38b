"""Runs in an Airflow of its own: asks its API for a backfill and for runs, and lets the scheduler start them.

The last line of the output is a JSON object with what came of it.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.api_fastapi.app import create_app
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models import DagModel, DagRun
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select
from starlette.testclient import TestClient

DAG = "pinterest_daily_batch"
SAID: dict[str, Any] = {}

initdb()
with create_session() as session:
    session.add(DagBundleModel(name="here"))
sync_bag_to_db(DagBag(sys.argv[1]), "here", None)
api = TestClient(create_app(apps="core"))
token = api.get("/auth/token").json()["access_token"]
api.headers["Authorization"] = f"Bearer {token}"

dates = {"from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-07T00:00:00Z"}
refused = api.post("/api/v2/backfills", json={"dag_id": DAG, **dates})
SAID["backfill"] = (refused.status_code, refused.json()["detail"])
SAID["dry_run"] = api.post("/api/v2/backfills/dry_run", json={"dag_id": DAG, **dates}).status_code


def trigger(run_id: str) -> int:
    # in the past, as SQLite's clock, which the scheduler asks, counts whole seconds
    run = {"dag_run_id": run_id, "logical_date": None, "run_after": "2026-01-01T00:00:00Z"}
    return api.post(f"/api/v2/dags/{DAG}/dagRuns", json=run).status_code


SAID["triggered"] = [trigger("by-hand-1"), trigger("by-hand-2")]
SAID["switched_on"] = api.patch(f"/api/v2/dags/{DAG}", json={"is_paused": False}).status_code


def scheduled(*, due: bool) -> dict[str, str]:
    """Schedule once; give the state of each run."""
    runner = SchedulerJobRunner(Job())
    with create_session() as session:
        if due:  # midnight has passed
            model = session.get_one(DagModel, DAG)
            midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            model.next_dagrun = midnight
            model.next_dagrun_create_after = midnight - timedelta(minutes=1)
            session.flush()
            runner._create_dagruns_for_dags(_Guard(), session)  # type: ignore[arg-type]
        runner._start_queued_dagruns(session)
        session.flush()
        runs = session.execute(select(DagRun.run_type, DagRun.run_id, DagRun.state).order_by(DagRun.id)).all()
    return {run_id if kind == "manual" else str(kind): str(state) for kind, run_id, state in runs}


class _Guard:
    def commit(self) -> None:
        pass


def end_running() -> None:
    with create_session() as session:
        for run in session.scalars(select(DagRun).where(DagRun.state == "running")):
            run.state = "success"


SAID["at_switching_on"] = scheduled(due=False)
SAID["at_midnight"] = scheduled(due=True)
end_running()
SAID["then"] = scheduled(due=False)
end_running()
SAID["last"] = scheduled(due=False)
print(json.dumps(SAID))
