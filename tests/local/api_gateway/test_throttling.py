"""A Kinesis whose shards take no more than Kinesis' shards do, behind the real API, before the real client."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.credentials import Credentials

from pinterest_pipeline.gateway import GatewayClient, StreamAck

THROTTLED = "ProvisionedThroughputExceededException"
MOST_RECORDS, MOST_BYTES = 500, 5 * 1024 * 1024


class Shards:
    """Two shards, each of which takes so many records a second of a clock that the client's pauses move."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.now = 0.0
        self.taken: list[tuple[int, str, Any]] = []
        self.requests: list[int] = []
        self._budget: dict[int, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _takes(self, shard: int) -> bool:
        left, at = self._budget.get(shard, (float(self.rate), 0.0))
        left = min(float(self.rate), left + (self.now - at) * self.rate)
        self._budget[shard] = (left - 1 if left >= 1 else left, self.now)
        return left >= 1

    def answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        body = json.loads(request.body)
        with self._lock:
            results = [self._put(record) for record in body["Records"]]
            self.requests.append(len(results))
        size = sum(
            len(base64.b64decode(r["Data"])) + len(r["PartitionKey"].encode()) for r in body["Records"]
        )
        assert len(results) <= MOST_RECORDS
        assert size <= MOST_BYTES
        failed = sum("ErrorCode" in result for result in results)
        answer = {"FailedRecordCount": failed, "Records": results}
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode()

    def _put(self, record: dict[str, str]) -> dict[str, str]:
        key = record["PartitionKey"]
        shard = hashlib.md5(key.encode()).digest()[0] // 128
        if not self._takes(shard):
            return {"ErrorCode": THROTTLED, "ErrorMessage": f"Rate exceeded for shard {shard}"}
        self.taken.append((shard, key, json.loads(base64.b64decode(record["Data"]))))
        return {"ShardId": f"shardId-{shard:012d}", "SequenceNumber": str(len(self.taken))}


@pytest.mark.parametrize("seed", [1, 2])
def test_all_records_arrive_once_and_each_key_in_its_order(
    start_gateway: Callable[..., Any], stub: Any, key: Credentials, seed: int
) -> None:
    pick = random.Random(seed)
    shards = Shards(rate=200)
    stub.answer = shards.answer
    client = GatewayClient(
        start_gateway(stub.url).url, key, "us-east-1", sleep=shards.sleep, jitter=pick.random, max_attempts=30
    )
    records = [(pick.randrange(600), {"version": version}) for version in range(2_000)]

    results = client.put_records("streaming-pinterest-pin", records)

    assert all(isinstance(result, StreamAck) for result in results)
    assert len(shards.taken) == len(records), "what was throttled was not taken, so there are no duplicates"
    for number in {number for number, _ in records}:
        versions = [data["version"] for _, name, data in shards.taken if name == str(number)]
        assert versions == [value["version"] for name, value in records if name == number]
    # Two shards take 400 a second after a first 400: the pauses are not much longer than that needs.
    assert 4 <= shards.now <= 12
    assert len(shards.requests) < 60, "throttled records were not sent over and over"
