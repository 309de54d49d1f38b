"""Streams that are resharded under their readers: nothing is lost, and a key keeps its order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

KEYS = [str(number) for number in range(20)]


@pytest.fixture
def kinesis(aws: Any, key: Credentials) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=aws.url,
        region_name="us-east-1",
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
    )


@pytest.fixture
def stream(kinesis: Any) -> Iterator[str]:
    name = f"stream-{os.urandom(4).hex()}"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    yield name
    kinesis.delete_stream(StreamName=name)


def put(kinesis: Any, stream: str, version: int) -> None:
    records = [{"Data": f"{key} {version}".encode(), "PartitionKey": key} for key in KEYS]
    assert kinesis.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def open_shards(kinesis: Any, stream: str) -> int:
    return int(
        kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["OpenShardCount"]
    )


def read(kinesis: Any, stream: str, shard: str) -> tuple[list[tuple[int, str]], list[str]]:
    """All records of a closed shard, in their order, and its children; of an open one as far as it goes."""
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    answer = kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=7)
    records = answer["Records"]
    while answer.get("NextShardIterator") and answer["Records"]:
        answer = kinesis.get_records(ShardIterator=answer["NextShardIterator"], Limit=7)
        records += answer["Records"]
    found = [(int(record["SequenceNumber"]), record["Data"].decode()) for record in records]
    return found, [child["ShardId"] for child in answer.get("ChildShards", [])]


def test_scaling_keeps_all_records_and_the_order_of_each_key(kinesis: Any, stream: str) -> None:
    for version, shards in enumerate((2, 4, 3, 2, 1)):
        if version:
            kinesis.update_shard_count(
                StreamName=stream, TargetShardCount=shards, ScalingType="UNIFORM_SCALING"
            )
        assert open_shards(kinesis, stream) == shards
        put(kinesis, stream, version)

    shards = {shard["ShardId"]: shard for shard in kinesis.list_shards(StreamName=stream)["Shards"]}
    found = []
    for name, shard in shards.items():
        records, children = read(kinesis, stream, name)
        numbers = [number for number, _ in records]
        assert numbers == sorted(numbers)
        closed = "EndingSequenceNumber" in shard["SequenceNumberRange"]
        assert bool(children) == closed
        for child in children:
            assert name in (shards[child]["ParentShardId"], shards[child].get("AdjacentParentShardId"))
        found += records
    by_key = {key: [text for _, text in sorted(found) if text.split()[0] == key] for key in KEYS}
    assert by_key == {key: [f"{key} {version}" for version in range(5)] for key in KEYS}


def test_a_split_and_a_merge(kinesis: Any, stream: str) -> None:
    put(kinesis, stream, 0)
    first, second = (shard["ShardId"] for shard in kinesis.list_shards(StreamName=stream)["Shards"])
    before, _ = read(kinesis, stream, first)
    kinesis.split_shard(StreamName=stream, ShardToSplit=first, NewStartingHashKey=str(2**126))
    assert open_shards(kinesis, stream) == 3
    records, children = read(kinesis, stream, first)
    assert records == before
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        kinesis.split_shard(StreamName=stream, ShardToSplit=first, NewStartingHashKey=str(2**125))
    with pytest.raises(ClientError, match="not adjacent"):
        kinesis.merge_shards(StreamName=stream, ShardToMerge=children[0], AdjacentShardToMerge=second)
    kinesis.merge_shards(StreamName=stream, ShardToMerge=children[1], AdjacentShardToMerge=second)
    assert open_shards(kinesis, stream) == 2
    put(kinesis, stream, 1)
    shards = [shard["ShardId"] for shard in kinesis.list_shards(StreamName=stream)["Shards"]]
    assert sum(len(read(kinesis, stream, shard)[0]) for shard in shards) == 2 * len(KEYS)


@pytest.mark.parametrize("target", [0, 5])
def test_what_kinesis_refuses_in_one_step(kinesis: Any, stream: str, target: int) -> None:
    if target == 0:
        kinesis.update_shard_count(StreamName=stream, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
        target = 1
    with pytest.raises(ClientError) as refused:
        kinesis.update_shard_count(StreamName=stream, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
    assert refused.value.response["Error"]["Code"] == "InvalidArgumentException"
