from __future__ import annotations

import json
from typing import Any
from unittest import mock

import pytest
import requests
from airflow.sdk.exceptions import AirflowException

from pinterest_pipeline.hooks.databricks import PATIENT, DatabricksStreamJobHook

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


def test_the_time_limit_of_a_job(calls: Any) -> None:
    calls.side_effect = [{"settings": {"timeout_seconds": 60}}, {"settings": {}}]
    assert [DatabricksStreamJobHook().time_limit(7) for _ in range(2)] == [60, 0]
    assert calls.call_args.args == (("GET", "2.2/jobs/get"), {"job_id": 7})


def test_a_start_is_asked_for_once_however_often_it_is_sent(calls: Any) -> None:
    calls.return_value = {"run_id": 42}
    assert [DatabricksStreamJobHook().run_now({"job_id": 7}) for _ in range(2)] == [42, 42]
    (first,), (second,) = ([call.args[1]] for call in calls.call_args_list)
    assert first["job_id"] == second["job_id"] == 7
    assert len(first["idempotency_token"]) == 32
    assert first["idempotency_token"] != second["idempotency_token"], "each is a run of its own"


def test_a_patient_hook_rides_out_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "databricks", "host": "https://workspace", "password": "token"}
    monkeypatch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(connection))
    pauses: list[float] = []
    hook = DatabricksStreamJobHook(**PATIENT)
    hook.retry_args["sleep"] = pauses.append
    silent = mock.patch("requests.get", side_effect=requests.exceptions.ConnectionError("refused"))
    with silent as asked, pytest.raises(AirflowException, match="failed 25 times"):
        hook.get_run(42)
    assert asked.call_count == 25
    assert sum(pauses) == 601
    assert max(pauses) == 30, "seconds until it is seen that the service is back"


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
