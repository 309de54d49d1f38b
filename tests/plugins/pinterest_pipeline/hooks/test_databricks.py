from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest

from pinterest_pipeline.hooks.databricks import DatabricksStreamJobHook

JOB = {"name": "p-kinesis_streams", "tasks": []}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the hook asks of the Jobs API, which answers from ``answers``."""
    connection = {"conn_type": "databricks", "host": "https://workspace", "password": "token"}
    monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(connection))
    with mock.patch.object(DatabricksStreamJobHook, "_do_api_call") as call:
        yield call


def test_a_job_is_created_once_and_then_brought_to_its_settings(calls: Any) -> None:
    calls.side_effect = [{"jobs": [], "has_more": False}, {"job_id": 7}]
    assert DatabricksStreamJobHook().put_job(JOB) == 7
    assert calls.call_args.args == (("POST", "2.2/jobs/create"), JOB)

    found = {"job_id": 7, "settings": {"name": JOB["name"]}}
    calls.side_effect = [{"jobs": [found], "has_more": False}, {}]
    assert DatabricksStreamJobHook().put_job(JOB) == 7
    assert calls.call_args.args == (("POST", "2.2/jobs/reset"), {"job_id": "7", "new_settings": JOB})


def run_in(run_id: int, life_cycle: str) -> dict[str, Any]:
    return {"run_id": run_id, "state": {"life_cycle_state": life_cycle}}


@pytest.mark.parametrize(
    ("answer", "run"),
    [
        ({}, None),
        ({"runs": []}, None),
        ({"runs": [{"run_id": 41}]}, {"run_id": 41}),
        ({"runs": [run_in(41, "QUEUED"), run_in(40, "RUNNING")]}, run_in(41, "QUEUED")),
        ({"runs": [run_in(41, "TERMINATING"), run_in(40, "RUNNING")]}, run_in(40, "RUNNING")),
        ({"runs": [run_in(41, "TERMINATING")]}, run_in(41, "TERMINATING")),
        ({"runs": [run_in(41, "TERMINATED"), run_in(40, "INTERNAL_ERROR")]}, None),
    ],
)
def test_the_run_that_goes_on(calls: Any, answer: dict[str, Any], run: dict[str, Any] | None) -> None:
    calls.return_value = answer
    assert DatabricksStreamJobHook().active_run(7) == run
    query = {"job_id": 7, "active_only": True, "limit": 25}
    calls.assert_called_once_with(("GET", "2.2/jobs/runs/list"), query)
