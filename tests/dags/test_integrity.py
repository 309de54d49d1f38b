"""What must hold for every DAG, and how each one is wired."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
import time_machine
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from pinterest_pipeline.operators.databricks import (
    DatabricksNotebookRunOperator,
    DatabricksServerlessNotebookOperator,
)
from pinterest_pipeline.operators.kinesis import _status_trigger
from pinterest_pipeline.retries import FinalErrorRetryPolicy, NotebookRetryPolicy
from pinterest_pipeline.tags import TIERS, Tag

Parse = Callable[..., Any]

EDGES: dict[str, dict[str, set[str]]] = {
    "pinterest_msk_ingestion": {
        "check_parameters": {"create_topics"},
        "create_topics": {"connector_running"},
        "connector_running": {"emulate"},
        "emulate": {"landed", "reconcile"},
        "landed": {"reconcile"},
        "reconcile": set(),
    },
    "pinterest_daily_batch": {
        "configure": {"clean_pin", "clean_geo", "clean_user"},
        "clean_pin": {"queries"},
        "clean_geo": {"queries"},
        "clean_user": {"queries"},
        "queries": {"publish"},
        "publish": {"maintenance_due"},
        "maintenance_due": {"maintain"},
        "maintain": set(),
    },
    "pinterest_kinesis_streams": {
        "progress_before": {"create_streams", "reconcile"},
        "create_streams": {"streams_active"},
        "streams_active": {"scale_streams"},
        "scale_streams": {"start_job"},
        "start_job": {"emulate", "committed", "stop_job"},
        "emulate": {"committed", "reconcile"},
        "committed": {"stop_job", "check_streams"},
        "stop_job": {"check_streams"},
        "check_streams": {"reconcile"},
        "reconcile": {"delete_wanted"},
        "delete_wanted": {"delete_streams"},
        "delete_streams": set(),
    },
}
OUTLETS = {
    ("pinterest_msk_ingestion", "reconcile"): "s3://tests-bucket/topics",
    ("pinterest_daily_batch", "publish"): "s3://tests-bucket/answers/latest.json",
    ("pinterest_kinesis_streams", "reconcile"): "s3://tests-bucket/streams/pinterest/pinterest/progress.json",
}
DAG_IDS = sorted(EDGES)


def test_exactly_these_dags(dag_bag: Any) -> None:
    assert dag_bag.import_errors == {}
    assert sorted(dag_bag.dags) == DAG_IDS


def test_nothing_warns(dag_bag: Any) -> None:
    assert dag_bag.captured_warnings == {}


@pytest.mark.parametrize("dag_id", DAG_IDS)
class TestEachDag:
    def test_it_is_named_as_its_file(self, dag_bag: Any, dag_id: str) -> None:
        assert Path(dag_bag.dags[dag_id].fileloc).name == f"{dag_id}.py"

    def test_it_is_wired_so(self, dag_bag: Any, dag_id: str) -> None:
        tasks = dag_bag.dags[dag_id].task_dict
        assert {name: task.downstream_task_ids for name, task in tasks.items()} == EDGES[dag_id]

    def test_tags(self, dag_bag: Any, dag_id: str) -> None:
        tags = set(dag_bag.dags[dag_id].tags)
        assert tags <= set(Tag)
        assert Tag.PINTEREST in tags
        assert len(tags & TIERS) == 1

    def test_doc_is_a_runbook_of_every_task(self, dag_bag: Any, dag_id: str) -> None:
        dag = dag_bag.dags[dag_id]
        assert "## When a task fails" in dag.doc_md
        assert dag.description
        for task_id in dag.task_ids:
            assert f"`{task_id}`" in dag.doc_md

    def test_it_runs_once_at_a_time(self, dag_bag: Any, dag_id: str) -> None:
        dag = dag_bag.dags[dag_id]
        assert dag.max_active_runs == 1
        assert dag.catchup is False

    def test_every_task_has_owner_retries_and_a_timeout(self, dag_bag: Any, dag_id: str) -> None:
        for task in dag_bag.dags[dag_id].tasks:
            assert task.owner == "pinterest", task.task_id
            assert task.retries == 3, task.task_id
            assert isinstance(task.retry_policy, FinalErrorRetryPolicy | NotebookRetryPolicy), task.task_id
            assert timedelta() < task.execution_timeout <= timedelta(hours=4), task.task_id

    def test_params_are_typed_and_described(self, dag_bag: Any, dag_id: str) -> None:
        params = dag_bag.dags[dag_id].params
        for name in params:
            schema = params.get_param(name).schema
            assert schema["type"] and schema["title"] and schema["description_md"], name

    def test_it_survives_serialization(self, dag_bag: Any, dag_id: str) -> None:
        data = DagSerialization.to_dict(dag_bag.dags[dag_id])
        json.dumps(data)
        again = DagSerialization.from_dict(data)
        assert again.dag_id == dag_id
        assert {name: task.downstream_task_ids for name, task in again.task_dict.items()} == EDGES[dag_id]


def test_assets(dag_bag: Any) -> None:
    found = {
        (dag_id, task.task_id): outlet.uri
        for dag_id, dag in dag_bag.dags.items()
        for task in dag.tasks
        for outlet in task.outlets
        if isinstance(outlet, Asset)
    }
    assert found == OUTLETS


def test_schedules(dag_bag: Any) -> None:
    core = {
        dag_id: DagSerialization.from_dict(DagSerialization.to_dict(dag))
        for dag_id, dag in dag_bag.dags.items()
    }
    assert {dag_id: dag.timetable.summary for dag_id, dag in core.items()} == {
        "pinterest_msk_ingestion": "None",
        "pinterest_daily_batch": "Asset or 0 0 * * *",
        "pinterest_kinesis_streams": "None",
    }


def test_the_batch_runs_when_new_records_have_landed(dag_bag: Any) -> None:
    landed = dag_bag.dags["pinterest_msk_ingestion"].get_task("reconcile").outlets
    assert list(dag_bag.dags["pinterest_daily_batch"].timetable.asset_condition.objects) == landed


@pytest.mark.parametrize("now", ["2030-03-01T00:00:01+00:00", "2030-03-01T23:59:59.999+00:00"])
def test_switching_the_batch_on_runs_nothing_before_the_next_midnight(dag_bag: Any, now: str) -> None:
    serialized = DagSerialization.to_dict(dag_bag.dags["pinterest_daily_batch"])
    with time_machine.travel(now, tick=False):
        first: Any = DagSerialization.from_dict(serialized).next_dagrun_info(last_automated_run_info=None)
    assert first.run_after == datetime(2030, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dag_id", "name", "good", "bad"),
    [
        ("pinterest_msk_ingestion", "posts", [1, 500, 1_000_000], [0, -1, 1_000_001, "500", 1.5, None]),
        ("pinterest_kinesis_streams", "posts", [0, 500, 1_000_000], [-1, 1_000_001, "0"]),
        ("pinterest_msk_ingestion", "order", ["classic", "sequential"], ["random", None]),
        ("pinterest_msk_ingestion", "rate", [None, 0.5, 100], [0, -1, "fast"]),
        ("pinterest_kinesis_streams", "rate", [None, 0.5, 100], [0, -1, "fast"]),
        ("pinterest_kinesis_streams", "shards", [None, 1, 100], [0, 101, "2"]),
        ("pinterest_kinesis_streams", "job", ["drain", "keep", "stop"], ["kill", "", None, True]),
        ("pinterest_kinesis_streams", "delete_streams", [True, False], ["true", 1, None]),
        ("pinterest_kinesis_streams", "confirm", [None, "", "pinterest"], [True, 1]),
        ("pinterest_msk_ingestion", "seed", [100, 0], [None, 1.5]),
        ("pinterest_daily_batch", "full_refresh", [True, False], ["true", 1]),
        ("pinterest_daily_batch", "retry_quarantined", [True, False], ["true", None]),
        ("pinterest_daily_batch", "maintain", [True, False], ["true", 1]),
        ("pinterest_daily_batch", "max_quarantined_percent", [0, 25, 100], [-1, 101, 0.1, "10", None]),
        ("pinterest_daily_batch", "max_age_hours", [None, 0, 1.5, 1000], [-1, "168"]),
        ("pinterest_daily_batch", "max_missing", [0, 997, 20.0], [-1, 0.5, "0", None]),
        ("pinterest_daily_batch", "accept_missing", [True, False], ["true", None]),
    ],
)
def test_params_out_of_range_are_refused(
    dag_bag: Any, dag_id: str, name: str, good: list[Any], bad: list[Any]
) -> None:
    schema = dag_bag.dags[dag_id].params.get_param(name).schema
    for value in good:
        jsonschema.validate(value, schema)
    for value in bad:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, schema)


def test_stopping_is_the_teardown_of_starting(dag_bag: Any) -> None:
    dag = dag_bag.dags["pinterest_kinesis_streams"]
    start, stop = dag.get_task("start_job"), dag.get_task("stop_job")
    assert start.is_setup
    assert stop.is_teardown
    assert stop.on_failure_fail_dagrun


NOTEBOOKS = ("configure", "clean_pin", "clean_geo", "clean_user", "queries", "maintain")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_run_each_on_its_own(dag_bag: Any, name: str) -> None:
    task = dag_bag.dags["pinterest_daily_batch"].get_task(name)
    assert type(task) is DatabricksNotebookRunOperator
    assert task.deferrable
    assert task._databricks_workflow_task_group is None, (
        "a retry in a workflow would poll the failed run again"
    )
    run = task._get_run_json()
    assert run["existing_cluster_id"] == "local-warm"
    assert run["notebook_task"]["notebook_path"] == f"/Shared/pinterest/{name}"
    parameters = run["notebook_task"]["base_parameters"]
    assert {"storage", "prefix", "catalog", "schema", "run_id"} <= set(parameters)
    assert all(isinstance(value, str) for value in parameters.values()), "widgets take text alone"


@pytest.mark.parametrize(
    ("compute", "operator", "run"),
    [
        (
            {"new_cluster": {"num_workers": 1, "data_security_mode": "SINGLE_USER"}},
            DatabricksNotebookRunOperator,
            {"new_cluster": {"num_workers": 1, "data_security_mode": "SINGLE_USER"}},
        ),
        ({"serverless": True}, DatabricksServerlessNotebookOperator, {}),
    ],
)
def test_the_compute_is_a_setting(
    compute: dict[str, Any], operator: type[Any], run: dict[str, Any], parse: Parse
) -> None:
    dags = parse(COMPUTE=json.dumps(compute)).dags
    for name in NOTEBOOKS:
        task: Any = dags["pinterest_daily_batch"].get_task(name)
        assert type(task) is operator
        found = task._get_run_json()
        assert {key: found[key] for key in ("existing_cluster_id", "new_cluster") if key in found} == run


def test_a_bad_setting_is_told_by_name(parse: Parse) -> None:
    errors = parse(COMPUTE="{}").import_errors
    assert len(errors) == len(DAG_IDS)
    for error in errors.values():
        assert "[pinterest] compute: give exactly one of" in error


def rendered(task: Any, **context: Any) -> Any:
    """Render a task's templates as Airflow does."""
    copy = task.prepare_for_execution() if hasattr(task, "prepare_for_execution") else task
    copy.render_template_fields(context)
    return copy


RUN_ID = "manual__2026-01-01T00:00:00.5+00:00"
RUN = "manual__2026-01-01T00=3A00=3A00.5=2B00=3A00"


@pytest.mark.parametrize(("given", "text"), [(True, "true"), (False, "false")])
def test_what_the_notebooks_are_told(dag_bag: Any, given: bool, text: str) -> None:
    dag = dag_bag.dags["pinterest_daily_batch"]
    params = {"full_refresh": given, "retry_quarantined": not given, "accept_missing": not given}
    clean = rendered(dag.get_task("clean_pin"), run_id=RUN_ID, params=params)
    assert clean.notebook_params == {
        "storage": "s3://tests-bucket",
        "prefix": "pinterest",
        "catalog": "",
        "schema": "pinterest",
        "run_id": RUN,
        "full_refresh": text,
        "retry_quarantined": str(not given).lower(),
        "accept_missing": str(not given).lower(),
    }


def test_the_gate_is_told_its_thresholds(dag_bag: Any) -> None:
    dag = dag_bag.dags["pinterest_daily_batch"]
    defaults = dag.params.dump()
    queries = rendered(dag.get_task("queries"), run_id=RUN_ID, params=defaults)
    told = {name: value for name, value in queries.notebook_params.items() if name.startswith("max_")}
    assert told == {
        "max_quarantined_share": "0.1",
        "max_quarantined_share_of_run": "0.5",
        "max_unparsable_share": "0.1",
        "max_unmatched_share": "0.25",
        "max_age_hours": "",
        "max_missing": "0",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"max_unmatched_percent": 100, "max_age_hours": 0},
            {"max_unmatched_share": "1.0", "max_age_hours": "0"},
        ),
        (
            {"max_unmatched_percent": 0, "max_age_hours": 1.5},
            {"max_unmatched_share": "0.0", "max_age_hours": "1.5"},
        ),
        ({"max_unmatched_percent": 7.0}, {"max_unmatched_share": "0.07", "max_age_hours": ""}),
    ],
)
def test_percentages_reach_the_gate_as_shares(
    dag_bag: Any, given: dict[str, Any], told: dict[str, str]
) -> None:
    dag = dag_bag.dags["pinterest_daily_batch"]
    queries = rendered(dag.get_task("queries"), run_id=RUN_ID, params={**dag.params.dump(), **given})
    assert told.items() <= queries.notebook_params.items()


def test_what_is_published_is_this_runs(dag_bag: Any) -> None:
    publish = rendered(dag_bag.dags["pinterest_daily_batch"].get_task("publish"), run_id=RUN_ID, params={})
    assert (publish.source_bucket_name, publish.dest_bucket_name) == ("tests-bucket", "tests-bucket")
    assert publish.source_bucket_key == f"answers/runs/{RUN}.json"
    assert publish.dest_bucket_key == "answers/latest.json"


def test_no_two_runs_share_a_name(dag_bag: Any) -> None:
    """Neither answers, nor ledger rows, nor a claim on the stream job."""
    run_ids = [
        "r:1",
        "r+1",
        "r-1",
        "r=3A1",
        "r~1",
        "r_1",
        "R:1",
        "m__1T0:0+02:00",
        "m__1T0:0-02:00",
        "x" * 250,
        "x" * 249,
    ]
    batch, streams = dag_bag.dags["pinterest_daily_batch"], dag_bag.dags["pinterest_kinesis_streams"]
    named = [
        (
            rendered(batch.get_task("publish"), run_id=run_id, params={}).source_bucket_key,
            rendered(batch.get_task("configure"), run_id=run_id, params={}).notebook_params["run_id"],
            rendered(streams.get_task("start_job"), run_id=run_id, params={}).run_key,
        )
        for run_id in run_ids
    ]
    for names in zip(*named, strict=True):
        assert len(set(names)) == len(run_ids)
    for published, told, started in named:
        assert published == f"answers/runs/{told}.json"
        assert started == told


def test_the_stream_job_is_one_that_databricks_keeps_up(dag_bag: Any) -> None:
    dag = dag_bag.dags["pinterest_kinesis_streams"]
    start = rendered(dag.get_task("start_job"), run_id=RUN_ID, params={})
    assert start.run_key == RUN
    assert start.job["name"] == "pinterest-kinesis_streams"
    assert start.job["max_concurrent_runs"] == 1
    (task,) = start.job["tasks"]
    assert (task["max_retries"], task["min_retry_interval_millis"]) == (20, 30_000)
    assert task["new_cluster"] == {"num_workers": 0, "data_security_mode": "SINGLE_USER"}
    parameters = task["notebook_task"]["base_parameters"]
    assert all(isinstance(value, str) for value in parameters.values())
    assert parameters["run_id"] == "{{job.run_id}}"
    assert parameters["service_credential"] == ""
    assert parameters["stop_path"] == "s3://tests-bucket/streams/pinterest/stop/{{job.run_id}}"
    assert dag.get_task("stop_job").stop_prefix == "streams/pinterest/stop"


@pytest.mark.parametrize(
    ("params", "started", "is_stopped"),
    [
        ({"job": "drain", "delete_streams": False}, True, "True"),
        ({"job": "drain", "delete_streams": False}, False, "False"),
        ({"job": "drain", "delete_streams": False}, None, "None"),  # start_job has failed
        ({"job": "keep", "delete_streams": False}, True, "False"),
        ({"job": "stop", "delete_streams": False}, False, "True"),
        ({"job": "keep", "delete_streams": True}, False, "True"),
    ],
)
def test_when_the_stream_job_is_stopped(
    dag_bag: Any, params: dict[str, Any], started: bool | None, is_stopped: str
) -> None:
    stop = dag_bag.dags["pinterest_kinesis_streams"].get_task("stop_job")

    class Ti:
        def xcom_pull(self, task_ids: str, key: str) -> bool | None:
            assert (task_ids, key) == ("start_job", "started")
            return started

    assert stop.render_template(stop.stop, {"params": params, "ti": Ti()}) == is_stopped


FORBIDDEN = {"MAY_DELETE_STREAMS": "false"}


def test_deleting_is_not_offered_where_it_is_not_allowed(parse: Parse) -> None:
    dag = parse(**FORBIDDEN).dags["pinterest_kinesis_streams"]
    assert "delete_streams" not in dag.params
    assert set(EDGES[dag.dag_id]) - set(dag.task_ids) == {"delete_wanted", "delete_streams"}
    stop = dag.get_task("stop_job")
    assert stop.render_template(stop.stop, {"params": {"job": "stop"}, "ti": None}) == "True"
    assert stop.render_template(stop.stop, {"params": {"job": "keep"}, "ti": None}) == "False"


def test_deleting_is_refused_before_anything_is_done_where_it_is_not_allowed(parse: Parse) -> None:
    before = parse(**FORBIDDEN).dags["pinterest_kinesis_streams"].get_task("progress_before")
    params = {"job": "drain", "delete_streams": True, "confirm": "pinterest"}  # the API takes unknown names
    context = {"params": params, "ti": mock.Mock()}
    with (
        mock.patch.dict(before.python_callable.__globals__, {"get_current_context": lambda: context}),
        pytest.raises(AirflowFailException, match=r"may_delete_streams is false\. Nothing was done"),
    ):
        before.python_callable()


@pytest.mark.parametrize(
    "params",
    [
        {"job": "stop", "delete_streams": False, "confirm": ""},
        {"job": "stop", "delete_streams": False, "confirm": None},
        {"job": "drain", "delete_streams": True, "confirm": "yes"},
    ],
)
def test_stopping_and_deleting_take_a_confirmation(dag_bag: Any, params: dict[str, Any]) -> None:
    before = dag_bag.dags["pinterest_kinesis_streams"].get_task("progress_before")
    context = {"params": params, "ti": mock.Mock()}
    with (
        mock.patch.dict(before.python_callable.__globals__, {"get_current_context": lambda: context}),
        pytest.raises(
            AirflowFailException, match=r"set confirm to 'pinterest'; it is '(yes)?'\. Nothing was done"
        ),
    ):
        before.python_callable()
    assert [call.kwargs["key"] for call in context["ti"].xcom_push.call_args_list] == [
        "refused"
    ]  # pages nobody


def test_whoever_calls_kinesis_does_so_in_the_region_of_the_settings(parse: Callable[..., Any]) -> None:
    """The notebook reads the streams there: operators that looked elsewhere would make others of the same names."""
    dag = parse(REGION="eu-central-1").dags["pinterest_kinesis_streams"]
    callers = [task for task in dag.tasks if hasattr(task, "stream_names")]
    assert {task.task_id: task.region_name for task in callers} == dict.fromkeys(
        ("create_streams", "streams_active", "scale_streams", "committed", "delete_streams"), "eu-central-1"
    )
    assert {task.task_id for task in callers if task.hook.region_name != "eu-central-1"} == set()
    committed = dag.get_task("committed")
    committed.databricks_run_id, committed.positions = 7, {}  # as they are rendered
    waiting = {task.task_id: task._trigger().region_name for task in callers if hasattr(task, "_trigger")}
    assert waiting == dict.fromkeys(("streams_active", "committed"), "eu-central-1")
    operators = [dag.get_task(name) for name in ("scale_streams", "delete_streams")]
    assert [_status_trigger(task, [], None).region_name for task in operators] == ["eu-central-1"] * 2
