from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from pinterest_pipeline.exceptions import RecordsFailed
from pinterest_pipeline.gateway import Failure, GatewayClient, StreamAck, TopicAck
from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
from pinterest_pipeline.operators.api_gateway import (
    ApiGatewayPublishRecordsOperator,
    ApiGatewayPutRecordsOperator,
)
from pinterest_pipeline.retries import FinalErrorRetryPolicy

RECORDS = [[1, {"ind": 1}], [2, {"ind": 2}]]
REFUSED = Failure(400, "40003", "too large")


@pytest.fixture
def client() -> Iterator[Any]:
    client = mock.create_autospec(GatewayClient, instance=True)
    with mock.patch.object(ApiGatewayHook, "get_conn", return_value=client):
        yield client


def test_publish(client: Any) -> None:
    client.produce.return_value = [TopicAck(0, 5), TopicAck(1, 7)]
    operator = ApiGatewayPublishRecordsOperator(task_id="t", topic="p.pin", records=RECORDS)
    assert operator.execute({}) == [{"partition": 0, "offset": 5}, {"partition": 1, "offset": 7}]
    client.produce.assert_called_once_with("p.pin", [(1, {"ind": 1}), (2, {"ind": 2})])


def test_put(client: Any) -> None:
    client.put_records.return_value = [StreamAck("shard-0", "1"), StreamAck("shard-1", "2")]
    operator = ApiGatewayPutRecordsOperator(task_id="t", stream_name="s", records=RECORDS)
    assert operator.execute({}) == [
        {"shard_id": "shard-0", "sequence_number": "1"},
        {"shard_id": "shard-1", "sequence_number": "2"},
    ]
    client.put_records.assert_called_once_with("s", [(1, {"ind": 1}), (2, {"ind": 2})])


def test_refused_records_are_named(client: Any) -> None:
    client.produce.return_value = [TopicAck(0, 5), REFUSED]
    operator = ApiGatewayPublishRecordsOperator(task_id="t", topic="p.pin", records=RECORDS)
    with pytest.raises(RecordsFailed) as raised:
        operator.execute({})
    assert str(raised.value) == "1 record(s) were not accepted:\np.pin 2: 40003 too large"
    assert raised.value.failures == [{"table": "p.pin", "number": 2, "code": "40003", "reason": "too large"}]


@pytest.mark.parametrize("retriable", [True, False])
def test_another_try_is_made_if_it_may_help(client: Any, retriable: bool) -> None:
    client.put_records.return_value = [StreamAck("shard-0", "1"), replace(REFUSED, retriable=retriable)]
    operator = ApiGatewayPutRecordsOperator(task_id="t", stream_name="s", records=RECORDS)
    with pytest.raises(RecordsFailed) as raised:
        operator.execute({})
    assert raised.value.retriable is retriable
    assert isinstance(operator.retry_policy, FinalErrorRetryPolicy)


def test_what_was_acknowledged_beside_refused_records_is_logged(client: Any) -> None:
    client.produce.return_value = [TopicAck(0, 5), REFUSED]
    operator = ApiGatewayPublishRecordsOperator(task_id="t", topic="p.pin", records=RECORDS)
    with mock.patch.object(type(operator), "log") as log, pytest.raises(RecordsFailed):
        operator.execute({})
    message, *arguments = log.info.call_args.args
    assert message % tuple(arguments) == (
        "p.pin has acknowledged 1 record(s): [{'partition': 0, 'offset': 5}]"
    )


def test_only_so_many_refused_records_are_named(client: Any) -> None:
    records = [[number, {"ind": number}] for number in range(150)]
    client.put_records.return_value = [REFUSED] * 150
    with pytest.raises(RecordsFailed) as raised:
        ApiGatewayPutRecordsOperator(task_id="t", stream_name="s", records=records).execute({})
    assert raised.value.failed == 150
    assert str(raised.value).endswith("\n… and 50 more")


@pytest.mark.parametrize("records", [[{"ind": 1}], [[1]], [[1, "text"]], [[1, {}, 3]]])
def test_what_is_no_record_is_named_before_anything_is_sent(client: Any, records: Any) -> None:
    with pytest.raises(ValueError, match="record 0 is no pair of a key and an object"):
        ApiGatewayPublishRecordsOperator(task_id="t", topic="p.pin", records=records).execute({})
    client.produce.assert_not_called()


def test_template_fields() -> None:
    assert tuple(ApiGatewayPublishRecordsOperator.template_fields) == ("topic", "records")
    assert tuple(ApiGatewayPutRecordsOperator.template_fields) == ("stream_name", "records")
