"""The task that emulates posts, in both DAGs: what it tells when it is ended in the middle, and what is tried again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowTaskTimeout

from include.emulation.database import SourceError
from include.emulation.load import load
from pinterest_pipeline.exceptions import RecordsFailed
from pinterest_pipeline.gateway import Failure, StreamAck, TopicAck
from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
from pinterest_pipeline.retries import FinalErrorRetryPolicy

DAGS = ("pinterest_msk_ingestion", "pinterest_kinesis_streams")
PARAMS = {"posts": 700, "seed": 100, "order": "sequential", "rate": None}


class Client:
    """An API that acknowledges everything, unless told otherwise."""

    def __init__(self, before: Callable[[int], Any]) -> None:
        self._before = before
        self._calls = 0

    def _answer(self, records: Sequence[Any], acknowledgement: Callable[[int], Any]) -> list[Any]:
        self._calls += 1
        failure = self._before(self._calls)
        return [failure or acknowledgement(place) for place in range(len(records))]

    def produce(self, topic: str, records: Sequence[Any]) -> list[Any]:
        return self._answer(records, lambda place: TopicAck(0, place))

    def put_records(self, stream: str, records: Sequence[Any]) -> list[Any]:
        return self._answer(records, lambda place: StreamAck("shard-0", str(place + 1)))


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posts")
    fields = {"category": "art", "country": "X", "age": 30}
    for table in ("pin", "geo", "user"):
        lines = [json.dumps({"index": number, "ind": number, **fields}) for number in range(700)]
        (folder / f"{table}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def database(posts: Path, tmp_path: Path) -> Path:
    load(f"sqlite:///{tmp_path}/source.db", posts)
    return tmp_path / "source.db"


def edit(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


class Store(dict[str, Any]):
    """A task's state store, which outlives tries; JSON, as Airflow's."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


def emulate(
    task: Any,
    database: Path,
    before: Callable[[int], Any],
    store: Store | None = None,
    max_tries: int = 3,
    **params: Any,
) -> tuple[Any, Any]:
    """Run a try of the task; return what it raised or returned, and the XComs it has pushed."""
    ti = mock.Mock(spec_set=["xcom_push", "max_tries", "task"], max_tries=max_tries, task=task)
    context = {"params": {**PARAMS, **params}, "ti": ti}
    if store is not None:
        context["task_state_store"] = store
    source = Connection(conn_id="pinterest_source", conn_type="sqlite", host=str(database))
    with (
        mock.patch.dict(task.python_callable.__globals__, {"get_current_context": lambda: context}),
        mock.patch("airflow.sdk.BaseHook.get_connection", return_value=source),
        mock.patch.object(ApiGatewayHook, "get_conn", return_value=Client(before)),
    ):
        try:
            outcome = task.python_callable()
        except BaseException as error:
            outcome = error
    return outcome, [call.kwargs for call in ti.xcom_push.call_args_list]


@pytest.fixture(params=DAGS)
def task(request: pytest.FixtureRequest, dag_bag: Any) -> Any:
    return dag_bag.dags[request.param].get_task("emulate")


def test_a_bad_value_in_the_middle_is_final_and_what_was_sent_is_told(task: Any, database: Path) -> None:
    def spoil(call: int) -> None:
        if call == 3:
            edit(database, "UPDATE pinterest_data SET description = x'00' WHERE \"index\" = 650")

    error, pushed = emulate(task, database, spoil)
    assert isinstance(error, SourceError)
    assert "pinterest_data.description of post 650 holds b'" in str(error)
    assert [xcom["key"] for xcom in pushed] == ["report"]
    told = pushed[0]["value"]
    assert {table: (t["sent"], t["acknowledged"]) for table, t in told["tables"].items()} == {
        "pin": (500, 500),
        "geo": (500, 500),
        "user": (500, 500),
    }
    assert [sorted(places) for places in told["positions"].values()] in ([["0"]] * 3, [["shard-0"]] * 3)
    json.dumps(told)
    assert task.retry_policy.evaluate(error, 1, 3).action.value == "fail"


def test_an_unsuitable_column_is_final_before_anything_is_sent(task: Any, database: Path) -> None:
    edit(database, "UPDATE user_data SET age = 'thirty' WHERE ind = 650")
    error, pushed = emulate(task, database, lambda call: pytest.fail("something was sent"))
    assert isinstance(error, SourceError)
    assert "user_data.age holds 1 text value(s), and a whole number is needed." in str(error)
    assert pushed == []
    assert task.retry_policy.evaluate(error, 1, 3).action.value == "fail"


def test_a_timeout_tells_what_was_sent_and_is_tried_again(task: Any, database: Path) -> None:
    def end(call: int) -> None:
        if call == 5:
            raise AirflowTaskTimeout("Timeout")

    error, pushed = emulate(task, database, end)
    assert isinstance(error, AirflowTaskTimeout)
    tables = pushed[0]["value"]["tables"]
    assert {table: (t["acknowledged"], t["failed"]) for table, t in tables.items()} == {
        "pin": (700, 0),
        "geo": (500, 200),
        "user": (500, 0),
    }
    assert task.retry_policy.evaluate(error, 1, 3).action.value == "default"


@pytest.mark.parametrize(
    ("failure", "action"),
    [
        (Failure(404, "http_404", "no topic"), "fail"),
        (Failure(None, "no_answer", "silence", retriable=True), "default"),
    ],
)
def test_records_that_were_refused_for_good_are_final(
    task: Any, database: Path, failure: Failure, action: str
) -> None:
    error, pushed = emulate(task, database, lambda call: failure)
    assert isinstance(error, RecordsFailed)
    assert pushed[0]["value"]["tables"]["user"]["failed"] == 700
    assert task.retry_policy.evaluate(error, 1, 3).action.value == action


def test_a_run_that_ends_well_tells_its_report_once(task: Any, database: Path) -> None:
    report, pushed = emulate(task, database, lambda call: None)
    assert pushed == [{"key": "report", "value": report}]
    assert report["tables"]["pin"] == {
        "drawn": 700,
        "missing": 0,
        "sent": 700,
        "acknowledged": 700,
        "failed": 0,
    }


def test_the_policy_is_the_tasks_own(task: Any) -> None:
    assert isinstance(task.retry_policy, FinalErrorRetryPolicy)


SILENCE = Failure(None, "no_answer", "silence", retriable=True)


def sent_by(task: Any, database: Path, store: Store, fails_from: int | None, **more: Any) -> tuple[Any, int]:
    """Run a try whose calls fail from one on; return its outcome, and how many calls there were."""
    calls = 0

    def count(call: int) -> Any:
        nonlocal calls
        calls = call
        return SILENCE if fails_from is not None and call >= fails_from else None

    return emulate(task, database, count, store, **more)[0], calls


@pytest.mark.parametrize("order", ["classic", "sequential"])
def test_a_retry_goes_on_where_something_failed_first(task: Any, database: Path, order: str) -> None:
    whole, _ = sent_by(task, database, Store(), None, order=order)
    store = Store()
    error, calls = sent_by(task, database, store, 5, order=order)  # the second batch of 200, its second table
    assert isinstance(error, RecordsFailed)
    assert error.retriable
    report, again = sent_by(task, database, store, None, order=order)
    assert (calls, again) == (6, 3), "the first 500 posts are not sent again"
    assert report["tables"] == whole["tables"]
    assert report["failures"] == []
    assert [sorted(places) for places in report["positions"].values()] in ([["0"]] * 3, [["shard-0"]] * 3)
    assert list(report["positions"]) == list(whole["positions"])


def test_a_retry_after_a_timeout_goes_on(task: Any, database: Path) -> None:
    store = Store()

    def end(call: int) -> None:
        if call == 5:
            raise AirflowTaskTimeout("Timeout")

    assert isinstance(emulate(task, database, end, store)[0], AirflowTaskTimeout)
    report, calls = sent_by(task, database, store, None)
    assert calls == 3
    assert report["tables"]["pin"]["acknowledged"] == 700


def test_a_person_who_clears_the_task_has_everything_sent_again(task: Any, database: Path) -> None:
    store = Store()
    sent_by(task, database, store, 5)
    assert sent_by(task, database, store, None, max_tries=4)[1] == 6
    assert sent_by(task, database, store, None, max_tries=5)[1] == 6, "after a success, too"
