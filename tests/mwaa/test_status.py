"""What `mwaa status` says of Airflow: what it asks is held against AWS's model, what it reads against Airflow's."""

from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from mwaa import status
from mwaa.settings import Settings

INGESTION, BATCH, STREAMS = "pinterest_msk_ingestion", "pinterest_daily_batch", "pinterest_kinesis_streams"
NEWEST = {"limit": 1, "order_by": "-run_after"}


def dag(dag_id: str, **changes: Any) -> dict[str, Any]:
    return {"dag_id": dag_id, "is_paused": False, "has_import_errors": False, **changes}


def run(state: str, end_date: str | None = "2026-11-29T00:21:07Z") -> dict[str, Any]:
    return {"state": state, "end_date": end_date, "run_after": "2026-11-29T00:00:00Z"}


class Airflow:
    """MWAA, with an Airflow that has these DAGs, runs and import errors."""

    def __init__(
        self, dags: list[dict[str, Any]], runs: dict[str, Any], errors: tuple[Any, ...] = ()
    ) -> None:
        self.client = boto3.client("mwaa", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        self.stub = Stubber(self.client)
        self.is_available()
        self.answers("/dags", {"limit": 100}, {"dags": dags})
        for dag_id in sorted(runs):
            self.answers(f"/dags/{dag_id}/dagRuns", NEWEST, {"dag_runs": runs[dag_id]})
        self.answers("/importErrors", {"limit": 100}, {"import_errors": list(errors)})

    def is_available(self, state: str = "AVAILABLE") -> None:
        self.stub.add_response("get_environment", {"Environment": {"Status": state}}, {"Name": "nn"})

    def answers(self, path: str, query: dict[str, Any], reply: dict[str, Any]) -> None:
        asked = {"Name": "nn", "Path": path, "Method": "GET", "QueryParameters": query}
        self.stub.add_response("invoke_rest_api", {"RestApiStatusCode": 200, "RestApiResponse": reply}, asked)


def lines(airflow: Airflow) -> list[tuple[str, bool, str]]:
    deployment: Any = SimpleNamespace(settings=Settings(name="nn"))
    with airflow.stub:
        found = [
            (line.thing, line.good, line.state) for line in status._dags(deployment, lambda _: airflow.client)
        ]
        airflow.stub.assert_no_pending_responses()
    return found


def test_each_dag_shows_whether_it_is_on_and_how_its_last_run_went() -> None:
    runs = {INGESTION: [], BATCH: [run("success")], STREAMS: [run("running", None)]}
    airflow = Airflow([dag(INGESTION, is_paused=True), dag(BATCH), dag(STREAMS), dag("another")], runs)
    assert lines(airflow) == [
        (f"DAG {BATCH}", True, "active; last run success, 2026-11-29T00:21:07Z"),
        (f"DAG {STREAMS}", True, "active; last run running, 2026-11-29T00:00:00Z"),
        (f"DAG {INGESTION}", False, "paused: switch it on in Airflow, or it never runs; no run yet"),
    ]


def test_what_cannot_be_parsed_and_what_failed_is_not_all_right() -> None:
    runs = {BATCH: [run("failed")], STREAMS: [run("success")]}
    error = {
        "filename": "/usr/local/airflow/dags/pinterest_msk_ingestion.py",
        "stack_trace": "Traceback …\n  File …\nSettingError: [pinterest] bukket: no such option\n",
    }
    airflow = Airflow([dag(BATCH), dag(STREAMS, has_import_errors=True)], runs, (error,))
    assert lines(airflow) == [
        (f"DAG {BATCH}", False, "active; last run failed, 2026-11-29T00:21:07Z"),
        (
            f"DAG {STREAMS}",
            False,
            "active; last run success, 2026-11-29T00:21:07Z; its file cannot be parsed any more",
        ),
        (f"DAG {INGESTION}", False, "Airflow does not know it"),
        (
            "file pinterest_msk_ingestion.py",
            False,
            "cannot be parsed: SettingError: [pinterest] bukket: no such option",
        ),
    ]


@pytest.mark.parametrize(
    ("code", "members", "says"),
    [
        ("AccessDeniedException", {}, "AccessDeniedException"),
        (
            "RestApiClientException",
            {"RestApiStatusCode": 403, "RestApiResponse": {"detail": "Forbidden"}},
            "Forbidden",
        ),
    ],
)
def test_an_airflow_that_does_not_answer_is_one_line(code: str, members: dict[str, Any], says: str) -> None:
    airflow = Airflow([], {})
    airflow.stub._queue.clear()
    airflow.is_available()
    airflow.stub.add_client_error("invoke_rest_api", code, modeled_fields=members)
    ((thing, good, state),) = lines(airflow)
    assert (thing, good) == ("DAGs", False)
    assert says in state
    assert state.endswith("That takes airflow:InvokeRestApi on role/nn/Viewer")


def test_an_environment_that_is_not_there_yet_is_not_asked() -> None:
    airflow = Airflow([], {})
    airflow.stub._queue.clear()
    airflow.is_available("CREATING")
    assert lines(airflow) == []


def test_airflow_has_the_fields_that_are_read() -> None:
    from airflow.api_fastapi.core_api.datamodels.dag_run import DAGRunCollectionResponse, DAGRunResponse
    from airflow.api_fastapi.core_api.datamodels.dags import DAGCollectionResponse, DAGResponse
    from airflow.api_fastapi.core_api.datamodels.import_error import (
        ImportErrorCollectionResponse,
        ImportErrorResponse,
    )

    for model, names in (
        (DAGCollectionResponse, {"dags"}),
        (DAGResponse, {"dag_id", "is_paused", "has_import_errors"}),
        (DAGRunCollectionResponse, {"dag_runs"}),
        (DAGRunResponse, {"state", "end_date", "run_after"}),
        (ImportErrorCollectionResponse, {"import_errors"}),
        (ImportErrorResponse, {"filename", "stack_trace"}),
    ):
        schema = model.model_json_schema(mode="serialization", by_alias=True)
        assert names <= set(schema["properties"]), model


ADDRESS = {"Endpoint": "ops@example.org", "Protocol": "email", "SubscriptionArn": "PendingConfirmation"}
QUEUE = {"Endpoint": "arn:q", "Protocol": "sqs", "SubscriptionArn": "arn:aws:sns:us-east-1:1:nn-alarms:1"}


@pytest.mark.parametrize(
    ("pages", "good", "state"),
    [
        ([[]], False, "nobody: set AlarmEmail, or subscribe to the topic"),
        ([[ADDRESS]], False, "nobody: ops@example.org has not confirmed"),
        ([[ADDRESS], [QUEUE]], True, "1 subscribed"),
    ],
)
def test_alarms_that_reach_nobody_are_not_all_right(pages: list[Any], good: bool, state: str) -> None:
    client = boto3.client("sns", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    topic = "arn:aws:sns:us-east-1:1:nn-alarms"
    with Stubber(client) as stub:
        for number, page in enumerate(pages):
            more = {"NextToken": "more"} if number < len(pages) - 1 else {}
            asked = {"TopicArn": topic, **({"NextToken": "more"} if number else {})}
            stub.add_response("list_subscriptions_by_topic", {"Subscriptions": page, **more}, asked)
        line = status._subscribers(client, topic)
    assert (line.good, line.state) == (good, state)
