"""The stream routes end to end: unmodified file, real templates, the AWS stand-in's Kinesis behind them."""

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = (f"gateway-{number}" for number in itertools.count())
THROTTLED = "ProvisionedThroughputExceededException"
# What has to be escaped somewhere on the way: JSON, JavaScript, VTL, regular expressions, UTF-16.
TRAPS = [
    "'",
    "\\'",
    '"',
    "\\",
    "\\\\'",
    "$input.body",
    "#set($x = 1)",
    "#end",
    "$elem",
    "/",
    "\u2028",
    "\0",
    "😀",
    "é",
]
texts = st.lists(st.text(st.characters(blacklist_categories=["Cs"])) | st.sampled_from(TRAPS)).map("".join)
keys = texts.filter(lambda text: 0 < len(text.encode("utf-16-le")) // 2 <= 256)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="session")
def kinesis(aws: Any, key: Credentials) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=aws.url,
        region_name="us-east-1",
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
    )


@pytest.fixture
def stream(kinesis: Any) -> str:
    name = next(NAMES)
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


def landed(kinesis: Any, stream: str, sequence_number: str) -> list[tuple[bytes, str]]:
    """(data, partition key) of what lies in the stream's one shard from a sequence number on."""
    iterator = kinesis.get_shard_iterator(
        StreamName=stream,
        ShardId="shardId-000000000000",
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=sequence_number,
    )["ShardIterator"]
    return [(r["Data"], r["PartitionKey"]) for r in kinesis.get_records(ShardIterator=iterator)["Records"]]


@relaxed
@given(records=st.lists(st.tuples(texts, keys), min_size=1, max_size=8))
def test_records_arrive_byte_for_byte(
    records: list[tuple[str, str]], api: Any, kinesis: Any, stream: str
) -> None:
    body = {"records": [{"data": data, "partition-key": key} for data, key in records]}
    reply = api.call("PUT", f"/streams/{stream}/records", body)
    assert (reply.status_code, reply.json()["FailedRecordCount"]) == (200, 0), reply.text
    first = reply.json()["Records"][0]["SequenceNumber"]
    assert landed(kinesis, stream, first) == [(data.encode(), key) for data, key in records]


@relaxed
@given(data=values, key=keys)
def test_a_record_arrives_as_its_json(data: Any, key: str, api: Any, kinesis: Any, stream: str) -> None:
    reply = api.call(
        "PUT", f"/streams/{stream}/record", {"StreamName": stream, "Data": data, "PartitionKey": key}
    )
    assert reply.status_code == 200, reply.text
    ((stored, stored_key),) = landed(kinesis, stream, reply.json()["SequenceNumber"])
    assert (json.loads(stored), stored_key) == (data, key)
    assert reply.headers["Content-Type"] == "application/json"


def test_a_client_that_encodes_too_finds_its_own_base64(api: Any, kinesis: Any, stream: str) -> None:
    encoded = base64.b64encode(b"{}").decode()
    body = {"records": [{"data": encoded, "partition-key": "1"}]}
    sequence_number = api.call("PUT", f"/streams/{stream}/records", body).json()["Records"][0][
        "SequenceNumber"
    ]
    assert landed(kinesis, stream, sequence_number) == [(encoded.encode(), "1")]


def test_a_stream_from_its_creation_to_its_end(api: Any, kinesis: Any) -> None:
    name = next(NAMES)
    assert (created := api.call("POST", f"/streams/{name}", {"ShardCount": 2})).status_code == 200, (
        created.text
    )
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    described = api.call("GET", f"/streams/{name}").json()["StreamDescription"]
    assert (described["StreamName"], len(described["Shards"])) == (name, 2)
    assert name in api.call("GET", "/streams").json()["StreamNames"]
    after = api.call("GET", f"/streams?exclusive-start-stream-name={name}").json()["StreamNames"]
    assert all(other > name for other in after)
    again = api.call("POST", f"/streams/{name}", {"ShardCount": 2})
    assert (again.status_code, again.json()["__type"]) == (400, "ResourceInUseException")
    assert api.call("DELETE", f"/streams/{name}").status_code == 200
    kinesis.get_waiter("stream_not_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    gone = api.call("GET", f"/streams/{name}")
    assert (gone.status_code, gone.json()["__type"]) == (400, "ResourceNotFoundException")


def test_a_stream_without_a_shard_count_is_on_demand(api: Any, kinesis: Any) -> None:
    name = next(NAMES)
    assert api.call("POST", f"/streams/{name}", {}).status_code == 200
    mode = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamModeDetails"]
    assert mode == {"StreamMode": "ON_DEMAND"}


def test_a_stream_name_cannot_break_out_of_its_template(api: Any, kinesis: Any) -> None:
    name = """it's","ShardCount":9,"x":"\\"""  # AWS would refuse it for its characters; the stand-in does not
    reply = api.call("POST", f"/streams/{quote(name, safe='')}", {"ShardCount": 1})
    assert reply.status_code == 200, reply.text
    assert name in kinesis.list_streams()["StreamNames"]
    assert len(kinesis.describe_stream(StreamName=name)["StreamDescription"]["Shards"]) == 1
    assert api.call("DELETE", f"/streams/{quote(name, safe='')}").status_code == 200
    assert name not in kinesis.list_streams()["StreamNames"]


INVALID = "Invalid request body"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("records", {"records": [{"data": {"ind": 1}, "partition-key": "1"}]}),
        ("records", {"records": [{"data": "x", "partition-key": 1}]}),
        ("records", {"records": [{"data": "x", "partition-key": ""}]}),
        ("records", {"records": [{"data": "x", "partition-key": "k" * 257}]}),
        ("records", {"records": [{"data": "x"}]}),
        ("records", {"records": [{"data": "x", "partition-key": "1"}] * 501}),
        ("records", {"records": []}),
        ("records", {}),
        ("records", [1]),
        ("record", {"PartitionKey": "1"}),
        ("record", {"Data": {}}),
        ("record", {"Data": {}, "PartitionKey": None}),
    ],
)
def test_a_body_of_another_shape_never_reaches_kinesis(path: str, body: Any, api: Any) -> None:
    reply = api.call("PUT", f"/streams/none/{path}", body)
    assert (reply.status_code, reply.json()) == (400, {"message": INVALID})


@pytest.mark.parametrize("body", [b"{", b'{"Data": NaN, "PartitionKey": "1"}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_is_named_so(body: bytes, api: Any) -> None:
    reply = api.call("PUT", "/streams/none/record", body)
    assert reply.status_code == 400
    assert reply.json()["message"].startswith("Could not parse request body into json: ")


def test_partial_failures_pass_through_a_200(start_gateway: Callable[..., Any], stub: Any) -> None:
    answer = {
        "FailedRecordCount": 1,
        "Records": [
            {"SequenceNumber": "1", "ShardId": "s"},
            {"ErrorCode": THROTTLED, "ErrorMessage": "slow"},
        ],
    }
    stub.answer = lambda _: (200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode())
    reply = start_gateway(stub.url).call(
        "PUT", "/streams/a/records", {"records": [{"data": "é", "partition-key": "1"}]}
    )
    assert (reply.status_code, reply.json()) == (200, answer)
    (request,) = stub.seen
    assert request.headers["x-amz-target"] == "Kinesis_20131202.PutRecords"
    assert request.headers["content-type"] == "application/x-amz-json-1.1"
    assert "/us-east-1/kinesis/aws4_request" in request.headers["authorization"]
    assert json.loads(request.body) == {
        "StreamName": "a",
        "Records": [{"Data": base64.b64encode("é".encode()).decode(), "PartitionKey": "1"}],
    }


@pytest.mark.parametrize(
    ("backend", "kind", "status"),
    [
        (400, THROTTLED, 429),
        (400, "ResourceNotFoundException", 400),
        (413, "ValidationException", 400),
        (500, "InternalFailure", 500),
        (503, "ServiceUnavailable", 500),
    ],
)
def test_kinesis_failures_are_failures(
    backend: int, kind: str, status: int, start_gateway: Callable[..., Any], stub: Any
) -> None:
    error = {"__type": kind, "message": 'no "luck" – 😀'}
    stub.answer = lambda _: (backend, {}, json.dumps(error).encode())
    reply = start_gateway(stub.url).call("PUT", "/streams/a/record", {"Data": {}, "PartitionKey": "1"})
    assert (reply.status_code, reply.json()) == (status, error)


def test_a_kinesis_that_answers_garbage_or_not_at_all(
    start_gateway: Callable[..., Any], stub: Any, impatient: Any
) -> None:
    body = {"Data": {}, "PartitionKey": "1"}
    stub.answer = lambda _: (400, {}, b"<html>")
    gateway = start_gateway(stub.url, openapi=impatient)
    reply = gateway.call("PUT", "/streams/a/record", body)
    assert (reply.status_code, reply.json()) == (500, {"message": "Internal server error"})
    dead = start_gateway("http://127.0.0.1:9").call("PUT", "/streams/a/record", body)
    assert (dead.status_code, dead.json()) == (500, {"message": "Internal server error"})


HALF = "\\ud83d"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("record", '{"Data": {"index": 1, "index": 2}, "PartitionKey": "1"}'),
        ("record", '{"Data": {"index": 1}, "Data": {"index": 2}, "PartitionKey": "1"}'),
        ("record", f'{{"Data": {{"title": "{HALF}"}}, "PartitionKey": "1"}}'),
        ("record", f'{{"Data": {{}}, "PartitionKey": "{HALF}"}}'),
        ("records", f'{{"records": [{{"data": "{HALF}", "partition-key": "1"}}]}}'),
        ("records", f'{{"records": [{{"data": "", "partition-key": "{HALF}"}}]}}'),
        ("records", '{"records": [], "records": [{"data": "x", "partition-key": "1"}]}'),
        ("records", '{"records": [{"data": "x", "data": "y", "partition-key": "1"}]}'),
    ],
)
def test_a_record_that_would_be_changed_in_silence_is_refused(
    path: str, body: str, api: Any, kinesis: Any, stream: str
) -> None:
    reply = api.call("PUT", f"/streams/{stream}/{path}", body.encode())
    assert reply.status_code == 400
    assert reply.json()["message"].startswith("Could not parse request body into json: ")
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    assert kinesis.get_records(ShardIterator=iterator)["Records"] == []
