"""MSK Connect's client, unmodified, over Kafka Connect's REST API."""

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.aws.kafka_connect import connector_state


def connector(name: str, *states: str, **config: str) -> dict[str, Any]:
    """What Connect says of a connector: the state of the connector first, then of its tasks."""
    return {
        "info": {"name": name, "config": {"name": name, "topics.regex": "p\\..*", **config}, "tasks": []},
        "status": {
            "name": name,
            "connector": {"state": states[0], "worker_id": "127.0.0.1:8083"},
            "tasks": [
                {"id": index, "state": state, "worker_id": "127.0.0.1:8083"}
                | ({"trace": f"ConnectException: broken {index}\n\tat Sink"} if state == "FAILED" else {})
                for index, state in enumerate(states[1:])
            ],
        },
    }


def client(url: str, key: Credentials) -> Any:
    return boto3.client(
        "kafkaconnect",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="session")
def kafkaconnect(
    start_part: Callable[..., Any],
    aws_config: Callable[..., dict[str, Any]],
    stub_server: Any,
    key: Credentials,
) -> Any:
    login = {"connect_url": stub_server.url, "username": "admin", "password": "letmein"}
    return client(start_part("local.aws", aws_config(kafkaconnect=login)).url, key)


def test_connectors_are_listed_page_by_page_and_described(kafkaconnect: Any, stub: Any) -> None:
    names = ["pinterest-a", "pinterest-s3-sink", "pinterest-z", "other"]
    connectors = {name: connector(name, "RUNNING", "RUNNING") for name in names}
    connectors["pinterest-z"] = connector(
        "pinterest-z", "RUNNING", "RUNNING", "FAILED", **{"aws.secret.access.key": "s3cret"}
    )
    stub.answer = lambda _: (200, {"Content-Type": "application/json"}, json.dumps(connectors).encode())

    pages = kafkaconnect.get_paginator("list_connectors").paginate(
        connectorNamePrefix="pinterest-", PaginationConfig={"PageSize": 2}
    )
    listed = [found for page in pages for found in page["connectors"]]
    assert [found["connectorName"] for found in listed] == names[:3]
    assert [found["connectorState"] for found in listed] == ["RUNNING", "RUNNING", "FAILED"]
    assert {parse_qs(urlsplit(request.path).query)["expand"][0] for request in stub.seen} == {"info"}
    login = base64.b64encode(b"admin:letmein").decode()
    assert {request.headers["authorization"] for request in stub.seen} == {f"Basic {login}"}

    for found in listed:
        described = kafkaconnect.describe_connector(connectorArn=found["connectorArn"])
        assert {name: described[name] for name in found} == found
    assert described["connectorConfiguration"]["topics.regex"] == "p\\..*"
    assert described["connectorConfiguration"]["aws.secret.access.key"] == "******"
    assert described["stateDescription"]["message"] == "ConnectException: broken 1"

    versions = {name: found["currentVersion"] for name, found in zip(names, listed, strict=False)}
    connectors["pinterest-a"]["info"]["config"]["flush.size"] = "10"
    changed = kafkaconnect.list_connectors(connectorNamePrefix="pinterest-")["connectors"]
    assert [found["currentVersion"] == versions[found["connectorName"]] for found in changed] == [
        False,
        True,
        True,
    ]
    assert [found["connectorArn"] for found in changed] == [found["connectorArn"] for found in listed]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["RUNNING", "RUNNING", "RUNNING"], "RUNNING"),
        (["RUNNING"], "CREATING"),
        (["UNASSIGNED"], "CREATING"),
        (["RUNNING", "RUNNING", "UNASSIGNED"], "CREATING"),
        (["RUNNING", "FAILED", "RUNNING"], "FAILED"),
        (["FAILED"], "FAILED"),
        (["PAUSED", "PAUSED"], "UPDATING"),
        (["STOPPED"], "UPDATING"),
        (["RUNNING", "RESTARTING"], "UPDATING"),
    ],
)
def test_a_state_is_running_only_when_all_of_it_runs(states: list[str], expected: str) -> None:
    assert connector_state(connector("any", *states)["status"]) == expected


def failure(call: Callable[[], object]) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]


def test_failures_are_msk_connects_own(kafkaconnect: Any, stub: Any) -> None:
    arn = "arn:aws:kafkaconnect:us-east-1:000000000000:connector/none/1-1"
    assert failure(lambda: kafkaconnect.describe_connector(connectorArn=arn)) == (
        404,
        "NotFoundException",
        f"The connector does not exist: {arn}",
    )
    assert failure(lambda: kafkaconnect.list_connectors(maxResults=101))[:2] == (400, "BadRequestException")
    assert failure(lambda: kafkaconnect.list_connectors(nextToken="ä"))[:2] == (400, "BadRequestException")
    assert failure(lambda: kafkaconnect.delete_connector(connectorArn=arn))[:2] == (
        400,
        "BadRequestException",
    )

    for status, expected in ((409, 503), (500, 503), (401, 500)):
        stub.answer = lambda _, status=status: (status, {}, b'{"message": "rebalance"}')
        assert failure(kafkaconnect.list_connectors)[0] == expected


def test_a_dead_connect_is_unavailable(aws: Any, key: Credentials) -> None:
    away = client(aws.url, key)
    assert failure(away.list_connectors) == (
        503,
        "ServiceUnavailableException",
        "Kafka Connect does not answer.",
    )


def asked(url: str, key: Credentials, path: str, query: str) -> tuple[int, str]:
    request = AWSRequest("GET", f"{url}{path}?{query}")
    SigV4Auth(key, "kafkaconnect", "us-east-1").add_auth(request)
    reply = requests.get(request.url, headers=dict(request.headers), timeout=10)
    return reply.status_code, reply.json()["__type"]


@pytest.mark.parametrize("size", ["0", "-1", "101", "1.0", "x", "%D9%A5", "%C2%B2", "9" * 5000, "%00", "%20"])
def test_a_page_size_that_is_none_is_a_bad_request(
    size: str, kafkaconnect: Any, stub: Any, key: Credentials
) -> None:
    url = kafkaconnect.meta.endpoint_url
    assert asked(url, key, "/v1/connectors", f"maxResults={size}") == (400, "BadRequestException")


@pytest.mark.parametrize("token", ["%FF", "%C3%A4", "%3D%3D%3D%3D", "a", "%00", "A" * 4001])
def test_a_page_token_that_is_none_is_a_bad_request(
    token: str, kafkaconnect: Any, stub: Any, key: Credentials
) -> None:
    url = kafkaconnect.meta.endpoint_url
    assert asked(url, key, "/v1/connectors", f"nextToken={token}") == (400, "BadRequestException")


@pytest.mark.parametrize(
    "path",
    ["/v1/connectors/%FF", "/v1/connectors/%00", "/v2", "//", "/v1/connectors/a/b"],
)
def test_a_path_that_leads_nowhere_is_an_error_of_msk_connect(
    path: str, kafkaconnect: Any, stub: Any, key: Credentials
) -> None:
    status, code = asked(kafkaconnect.meta.endpoint_url, key, path, "x=%FF")
    assert (status, code) in {(404, "NotFoundException"), (400, "BadRequestException")}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b"[]",
        b"5",
        b"null",
        b'{"a": null}',
        b'{"a": {}}',
        b'{"a": {"info": {}, "status": 5}}',
        b"\xff",
        b"[" * 50_000,
    ],
)
def test_an_answer_that_is_none_of_connects_is_an_internal_error(
    answer: bytes, kafkaconnect: Any, stub: Any, key: Credentials
) -> None:
    stub.answer = lambda _: (200, {}, answer)
    expected = (500, "InternalServerErrorException")
    assert asked(kafkaconnect.meta.endpoint_url, key, "/v1/connectors", "x=1") == expected
