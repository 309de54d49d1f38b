"""What make dag asks of Airflow, and what it says when the DAG or its parameters are not what Airflow has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.stack.airflow_api import AirflowApi
from local.stack.errors import StackError
from local.stack.settings import DEFAULT_PORTS, Stack

DAGS = [{"dag_id": f"dag_{number:03}"} for number in range(120)] + [{"dag_id": "an odd/name?"}]


@pytest.fixture
def airflow(stub: Any) -> AirflowApi:
    """The client of an API that has DAGS; each has the parameter `posts`."""
    port = urlsplit(stub.url).port
    assert port

    def answer(seen: Any) -> tuple[int, dict[str, str], bytes]:
        path, _, query = seen.path.partition("?")
        body: Any = {"access_token": "t"}
        if path == "/api/v2/dags":
            offset = int(query.rpartition("offset=")[2])
            body = {"dags": DAGS[offset : offset + 100]}
        elif path.endswith("/details"):
            body = {"params": {"posts": {}}}
        elif path.endswith("/dagRuns"):
            body = {"dag_run_id": "r"}
        return 200, {}, json.dumps(body).encode()

    stub.answer = answer
    return AirflowApi(
        Stack(Path("/nowhere"), DEFAULT_PORTS | {"airflow": port}, {"airflow_password": ""}, "x")
    )


@pytest.mark.parametrize(
    "dag_id",
    [
        "pinterest_daily_batch?x=1#",
        "../../connections",
        "dag_001/",
        "dag_001%2f",
        "",
        " ",
        "-h",
        "\udcff",
        "d" * 5000,
    ],
)
def test_a_name_that_no_dag_has_is_refused_before_anything_else_is_asked(
    airflow: AirflowApi, stub: Any, dag_id: str
) -> None:
    with pytest.raises(StackError, match=r"^There is no DAG .*\. These are there: an odd/name\?, dag_000, "):
        airflow.trigger(dag_id, {})
    assert {seen.path.partition("?")[0] for seen in stub.seen} == {"/auth/token", "/api/v2/dags"}


def test_a_name_is_part_of_an_address_whatever_it_holds(airflow: AirflowApi, stub: Any) -> None:
    assert airflow.trigger("an odd/name?", {"posts": 1}) == "r"
    assert [(seen.method, seen.path) for seen in stub.seen[-3:]] == [
        ("GET", "/api/v2/dags/an%20odd%2Fname%3F/details"),
        ("PATCH", "/api/v2/dags/an%20odd%2Fname%3F"),
        ("POST", "/api/v2/dags/an%20odd%2Fname%3F/dagRuns"),
    ]


def test_a_parameter_that_the_dag_has_not_is_named_and_commands_no_terminal(airflow: AirflowApi) -> None:
    with pytest.raises(StackError) as refused:
        airflow.trigger("dag_001", {"pos\x1b[2Jts": 1, "posts": 2})
    assert str(refused.value) == r"dag_001 has no parameter pos\x1b[2Jts; it has posts."


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail": "no \\u001b[2J\\nway"}', r"no \x1b[2J\nway"),
        (b'{"detail": [{"loc": ["body", 1], "msg": "wrong"}, "odd"]}', "body.1: wrong; odd"),
        (b'["a list"]', '["a list"]'),
        (b"no JSON", "no JSON"),
        (b"x" * 2000, "x" * 499 + "…"),
    ],
)
def test_a_refusal_is_told_in_one_line(airflow: AirflowApi, stub: Any, body: bytes, reason: str) -> None:
    usual = stub.answer
    stub.answer = lambda seen: usual(seen) if "/auth/" in seen.path else (400, {}, body)
    with pytest.raises(StackError) as refused:
        airflow.dag_ids()
    assert str(refused.value) == f"Airflow refused (400): {reason}"
