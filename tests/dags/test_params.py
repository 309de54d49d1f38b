"""The parameters of the DAGs as the API, the trigger form and the tasks read them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import jsonschema
import pytest
from airflow.sdk.definitions.param import process_params

from include.emulation.load import load
from pinterest_pipeline.gateway import StreamAck, TopicAck
from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
from pinterest_pipeline.params import whole_numbers

DAG_IDS = ("pinterest_daily_batch", "pinterest_kinesis_streams", "pinterest_msk_ingestion")
each_dag = pytest.mark.parametrize("dag_id", DAG_IDS)


def schemas(dag: Any, *types: str) -> dict[str, dict[str, Any]]:
    """Name -> schema of the parameters that may be of one of these types; without types, of all."""
    found = {name: dag.params.get_param(name).schema for name in dag.params}
    return {
        name: schema for name, schema in found.items() if not types or {*types} & {*as_list(schema["type"])}
    }


def as_list(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


@each_dag
def test_the_form_takes_no_default_for_a_missing_value(dag_bag: Any, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    missing = {name for name, value in dag.params.dump().items() if value in {None, ""}}
    assert [name for name in missing if "null" not in as_list(schemas(dag)[name]["type"])] == []


@each_dag
def test_the_form_does_not_replace_a_number_by_a_bound(dag_bag: Any, dag_id: str) -> None:
    numbers = schemas(dag_bag.dags[dag_id], "integer", "number")
    assert [name for name, schema in numbers.items() if {"minimum", "maximum"} & {*schema}] == []


@each_dag
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_is_refused(dag_bag: Any, dag_id: str, value: float) -> None:
    numbers = schemas(dag_bag.dags[dag_id], "integer", "number")
    assert numbers
    assert [name for name, schema in numbers.items() if is_valid(value, schema)] == []


@pytest.mark.parametrize("dag_id", DAG_IDS[1:])
def test_a_seed_that_the_interface_would_round_is_refused(dag_bag: Any, dag_id: str) -> None:
    seed = schemas(dag_bag.dags[dag_id])["seed"]
    assert [value for value in (2**53, -(2**53), 10**30) if is_valid(value, seed)] == []
    assert is_valid(-7, seed)


def told(dag: Any, text: str) -> dict[str, Any]:
    """The parameters as a task has them after a trigger with this configuration."""
    own = SimpleNamespace(params=deepcopy(dag.params))  # reading them writes to them
    without = cast(Any, SimpleNamespace(params=None))
    return process_params(cast(Any, own), without, json.loads(text), suppress_exception=False)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.values() for text in texts(item))
    elif isinstance(value, list | tuple):
        yield from (text for item in value for text in texts(item))


@each_dag
def test_a_template_has_a_whole_number_as_one_however_json_writes_it(dag_bag: Any, dag_id: str) -> None:
    dag = dag_bag.dags[dag_id]
    integers = schemas(dag, "integer")
    for task in dag.tasks:
        as_int, as_float = ({**dag.params.dump(), **dict.fromkeys(integers, value)} for value in (20, 20.0))
        fields = texts([getattr(task, field) for field in task.template_fields])
        for text in (text for text in fields if any(f"params.{name}" in text for name in integers)):
            expected = task.render_template(text, {"params": as_int})
            assert task.render_template(text, {"params": as_float}) == expected, (task.task_id, text)


@pytest.mark.parametrize(
    ("shards", "create", "scale"), [(None, "1", ""), (1, "1", "1"), (20.0, "20", "20"), (1e2, "100", "100")]
)
def test_the_streams_are_told_how_many_shards(dag_bag: Any, shards: Any, create: str, scale: str) -> None:
    tasks = [
        dag_bag.dags["pinterest_kinesis_streams"].get_task(name)
        for name in ("create_streams", "scale_streams")
    ]
    rendered = [task.render_template(task.shard_count, {"params": {"shards": shards}}) for task in tasks]
    assert rendered == [create, scale]


class Api:
    """Acknowledges whatever it is sent."""

    def produce(self, topic: str, records: Any) -> list[TopicAck]:
        return [TopicAck(partition=0, offset=number) for number, _ in enumerate(records)]

    def put_records(self, stream: str, records: Any) -> list[StreamAck]:
        return [StreamAck("shardId-000000000000", str(number)) for number, _ in enumerate(records)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("source") / "source.db"
    load(f"sqlite:///{path}")
    return path


@pytest.mark.parametrize("dag_id", DAG_IDS[1:])
@pytest.mark.parametrize("text", ['{"posts": 20.0, "seed": 1e2}', '{"posts": 2e1, "seed": 100}'])
def test_posts_are_drawn_however_json_writes_their_number(
    dag_bag: Any, dag_id: str, text: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_PINTEREST_SOURCE", json.dumps({"conn_type": "sqlite", "host": str(source)})
    )
    monkeypatch.setattr(ApiGatewayHook, "get_conn", lambda self: Api())
    dag = dag_bag.dags[dag_id]
    emulate = dag.get_task("emulate").python_callable
    context = {"params": told(dag, text), "ti": mock.Mock()}
    with mock.patch.dict(emulate.__globals__, {"get_current_context": lambda: context}):
        report = emulate()
    assert json.dumps([report["posts"], report["seed"]]) == "[20, 100]"
    assert {table: counts["drawn"] for table, counts in report["tables"].items()} == {
        "pin": 20,
        "geo": 20,
        "user": 20,
    }


def test_only_whole_numbers_become_int() -> None:
    given = {"a": 20.0, "b": 0.5, "c": None, "d": "20.0", "e": True, "f": -3.0, "g": 7}
    assert json.dumps(whole_numbers(given)) == json.dumps({
        "a": 20, "b": 0.5, "c": None, "d": "20.0", "e": True, "f": -3, "g": 7,
    })  # fmt: skip
