"""What the stand-in has answered outlives a `kill -9`, and a record that it has taken can be read by everybody."""

import base64
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "us-east-1"
STACK = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "kept"}}}}


def client(url: str, key: Credentials, service: str) -> Any:
    make: Any = boto3.client
    credentials = {"aws_access_key_id": key.access_key, "aws_secret_access_key": key.secret_key}
    return make(service, endpoint_url=url, region_name=REGION, **credentials)


def contents(kinesis: Any, stream: str) -> list[tuple[str, str, bytes, str]]:
    """(shard, sequence number, data, partition key) of all records of a stream."""
    found = []
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = kinesis.get_records(ShardIterator=iterator)["Records"]
        found += [
            (shard["ShardId"], record["SequenceNumber"], record["Data"], record["PartitionKey"])
            for record in records
        ]
    return found


def put(kinesis: Any, stream: str, numbers: range) -> None:
    records = [{"Data": f"{number} \U0001f600".encode(), "PartitionKey": str(number)} for number in numbers]
    assert kinesis.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def test_a_kill_loses_nothing_that_was_answered(
    start_part: Callable[..., Any], aws_config: Callable[..., dict[str, Any]], key: Credentials
) -> None:
    config = aws_config()
    first = start_part("local.aws", config)
    kinesis = client(first.url, key, "kinesis")
    kinesis.create_stream(StreamName="kept", ShardCount=2)
    kinesis.create_stream(StreamName="gone", ShardCount=1)
    put(kinesis, "kept", range(20))
    put(kinesis, "gone", range(3))
    kinesis.split_shard(
        StreamName="kept", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**126)
    )
    put(kinesis, "kept", range(20, 40))
    kinesis.put_record(StreamName="kept", Data=b"\xff\0", PartitionKey="é", ExplicitHashKey="0")
    kinesis.add_tags_to_stream(StreamName="kept", Tags={"of": "test"})
    kinesis.delete_stream(StreamName="gone")
    client(first.url, key, "secretsmanager").create_secret(Name="kept", SecretString="kept secret")
    client(first.url, key, "s3").create_bucket(Bucket="kept")
    client(first.url, key, "s3").put_bucket_versioning(
        Bucket="kept", VersioningConfiguration={"Status": "Enabled"}
    )
    formation = client(first.url, key, "cloudformation")
    formation.create_stack(StackName="kept", TemplateBody=json.dumps(STACK))
    formation.get_waiter("stack_create_complete").wait(StackName="kept", WaiterConfig={"Delay": 1})
    records, shards = contents(kinesis, "kept"), kinesis.list_shards(StreamName="kept")["Shards"]
    assert (len(records), len(shards)) == (41, 4)

    first.process.kill()
    first.process.wait(timeout=30)
    second = start_part("local.aws", config)
    assert any("found 1 streams with 41 records" in line for line in second.log)
    kinesis = client(second.url, key, "kinesis")
    assert kinesis.list_streams()["StreamNames"] == ["kept"]
    assert contents(kinesis, "kept") == records
    assert kinesis.list_shards(StreamName="kept")["Shards"] == shards
    assert kinesis.list_tags_for_stream(StreamName="kept")["Tags"] == [{"Key": "of", "Value": "test"}]
    secrets = client(second.url, key, "secretsmanager")
    assert secrets.get_secret_value(SecretId="kept")["SecretString"] == "kept secret"
    assert client(second.url, key, "s3").get_bucket_versioning(Bucket="kept")["Status"] == "Enabled"
    (stack,) = client(second.url, key, "cloudformation").describe_stacks(StackName="kept")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert len(client(second.url, key, "sns").list_topics()["Topics"]) == 1

    put(kinesis, "kept", range(40, 50))
    later = contents(kinesis, "kept")
    assert {*records} < {*later}
    assert len(later) == 51
    second.process.terminate()  # in order, this time
    assert second.process.wait(timeout=30) == 0
    third = start_part("local.aws", config)
    assert contents(client(third.url, key, "kinesis"), "kept") == later
    files = [path for path in Path(config["data_dir"]).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_what_a_stream_no_longer_retains_is_not_read_again(
    start_part: Callable[..., Any], aws_config: Callable[..., dict[str, Any]], key: Credentials
) -> None:
    config = aws_config()
    first = start_part("local.aws", config)
    kinesis = client(first.url, key, "kinesis")
    kinesis.create_stream(StreamName="aged", ShardCount=1)
    put(kinesis, "aged", range(4))
    first.process.kill()
    first.process.wait(timeout=30)
    with sqlite3.connect(Path(config["data_dir"]) / "state" / "streams.db") as db:
        db.execute("UPDATE records SET arrival = ? WHERE key IN ('0', '1')", (time.time() - 25 * 3600,))
    kinesis = client(start_part("local.aws", config).url, key, "kinesis")
    assert [partition_key for *_, partition_key in contents(kinesis, "aged")] == ["2", "3"]


DATA = base64.b64encode(b"data").decode()
BAD_RECORDS = [
    ({"Data": 5, "PartitionKey": "k"}, "SerializationException"),
    ({"Data": None, "PartitionKey": "k"}, "SerializationException"),
    ({"Data": {"B": ""}, "PartitionKey": "k"}, "SerializationException"),
    ({"Data": "no base64", "PartitionKey": "k"}, "SerializationException"),
    ({"Data": "YQ=", "PartitionKey": "k"}, "SerializationException"),
    ({"Data": "é", "PartitionKey": "k"}, "SerializationException"),
    ({"PartitionKey": "k"}, "SerializationException"),
    ({"Data": DATA}, "SerializationException"),
    ({"Data": DATA, "PartitionKey": 5}, "SerializationException"),
    ({"Data": DATA, "PartitionKey": ["k"]}, "SerializationException"),
    ({"Data": DATA, "PartitionKey": "half \ud83d"}, "SerializationException"),
    ({"Data": DATA, "PartitionKey": "half \ud83d", "ExplicitHashKey": "1"}, "SerializationException"),
    ({"Data": DATA, "PartitionKey": ""}, "ValidationException"),
    ({"Data": DATA, "PartitionKey": "k" * 257}, "ValidationException"),
    ({"Data": DATA, "PartitionKey": "k", "ExplicitHashKey": 5}, "ValidationException"),
    ({"Data": DATA, "PartitionKey": "k", "ExplicitHashKey": "-1"}, "ValidationException"),
    ({"Data": DATA, "PartitionKey": "k", "ExplicitHashKey": "one"}, "ValidationException"),
    ({"Data": DATA, "PartitionKey": "k", "ExplicitHashKey": str(2**128)}, "InvalidArgumentException"),
    ({"Data": DATA, "PartitionKey": "k", "ExplicitHashKey": "9" * 39}, "InvalidArgumentException"),
]


@pytest.fixture(scope="module")
def stream(aws: Any, key: Credentials) -> str:
    client(aws.url, key, "kinesis").create_stream(StreamName="checked", ShardCount=1)
    return "checked"


def call(url: str, key: Credentials, action: str, content: Any) -> tuple[int, str]:
    request = AWSRequest(
        "POST",
        f"{url}/",
        data=json.dumps(content).encode(),
        headers={"X-Amz-Target": f"Kinesis_20131202.{action}", "Content-Type": "application/x-amz-json-1.1"},
    )
    SigV4Auth(key, "kinesis", REGION).add_auth(request)
    reply = requests.post(request.url, data=request.data, headers=dict(request.headers), timeout=10)
    return reply.status_code, reply.json().get("__type", "")


@pytest.mark.parametrize(("record", "code"), BAD_RECORDS, ids=lambda value: repr(value)[:60])
def test_a_record_that_readers_could_not_read_is_refused(
    record: dict[str, Any], code: str, aws: Any, key: Credentials, stream: str
) -> None:
    assert call(aws.url, key, "PutRecord", {"StreamName": stream, **record}) == (400, code)
    good = {"Data": DATA, "PartitionKey": "k"}
    assert call(aws.url, key, "PutRecords", {"StreamName": stream, "Records": [good, record]}) == (400, code)
    assert contents(client(aws.url, key, "kinesis"), stream) == []


@pytest.mark.parametrize("records", [None, [], {}, "records", [None], ["x"]])
def test_records_are_a_list_of_objects(records: Any, aws: Any, key: Credentials, stream: str) -> None:
    assert call(aws.url, key, "PutRecords", {"StreamName": stream, "Records": records})[0] == 400


@pytest.mark.parametrize("value", ["x", -1, 0, 2**200, None, [], {}, 1.5, True, "1" * 5000])
def test_resharding_by_what_is_no_number_is_refused(
    value: Any, aws: Any, key: Credentials, stream: str
) -> None:
    shard = {"StreamName": stream, "ShardToSplit": "shardId-000000000000"}
    assert call(aws.url, key, "SplitShard", {**shard, "NewStartingHashKey": value})[0] == 400
    assert call(aws.url, key, "MergeShards", {"StreamName": stream, "ShardToMerge": value})[0] == 400
    assert call(aws.url, key, "UpdateShardCount", {"StreamName": stream, "TargetShardCount": value})[0] == 400
    assert len(client(aws.url, key, "kinesis").list_shards(StreamName=stream)["Shards"]) == 1
