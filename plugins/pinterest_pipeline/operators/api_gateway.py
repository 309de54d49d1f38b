"""Sending records through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from airflow.sdk import BaseOperator, Context

from pinterest_pipeline.exceptions import RecordsFailed
from pinterest_pipeline.gateway import Failure
from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook
from pinterest_pipeline.retries import FinalErrorRetryPolicy

NAMED_FAILURES = 100


class _SendRecordsOperator(BaseOperator):
    """What publishing to a topic and putting to a stream share."""

    def __init__(
        self,
        *,
        records: Sequence[Sequence[Any]],
        api_gateway_conn_id: str = ApiGatewayHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"retry_policy": FinalErrorRetryPolicy(), **kwargs})
        self.records = records
        self.api_gateway_conn_id = api_gateway_conn_id

    @cached_property
    def hook(self) -> ApiGatewayHook:
        """Return the hook."""
        return ApiGatewayHook(self.api_gateway_conn_id)

    def _pairs(self) -> list[tuple[int | str, Mapping[str, Any]]]:
        pairs = []
        for number, record in enumerate(self.records):
            if len(record) != 2 or not isinstance(record[1], Mapping):
                raise ValueError(f"record {number} is no pair of a key and an object: {record!r}")
            pairs.append((record[0], record[1]))
        return pairs

    def _acknowledgements(self, name: str, results: Sequence[Any]) -> list[dict[str, Any]]:
        """
        Return where the records are kept, one for each record.

        :raises RecordsFailed: there are failures; the log then has where the others are kept.
        """
        acknowledged = [asdict(result) for result in results if not isinstance(result, Failure)]
        failed = [
            (record[0], result)
            for record, result in zip(self.records, results, strict=True)
            if isinstance(result, Failure)
        ]
        if failed:
            self.log.info("%s has acknowledged %d record(s): %s", name, len(acknowledged), acknowledged)
            failures: list[dict[str, object]] = [
                {"table": name, "number": key, "code": failure.code, "reason": failure.reason}
                for key, failure in failed[:NAMED_FAILURES]
            ]
            retriable = any(failure.retriable for _, failure in failed)
            raise RecordsFailed(len(failed), failures, retriable=retriable)
        return acknowledged


class ApiGatewayPublishRecordsOperator(_SendRecordsOperator):
    """
    Publish records to a Kafka topic through the API; return each record's partition and offset.

    :param topic: the topic. (templated)
    :param records: pairs of a key and a JSON object; records of one key keep their order. (templated)
    :param api_gateway_conn_id: the API's connection.
    """

    template_fields: Sequence[str] = ("topic", "records")

    def __init__(self, *, topic: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.topic = topic

    def execute(self, context: Context) -> list[dict[str, int]]:
        """
        Publish.

        :raises RecordsFailed: some were not acknowledged; the others were, and the log has where.
        """
        results = self.hook.get_conn().produce(self.topic, self._pairs())
        return self._acknowledgements(self.topic, results)


class ApiGatewayPutRecordsOperator(_SendRecordsOperator):
    """
    Put records to a Kinesis stream through the API; return each record's shard and sequence number.

    :param stream_name: the stream. (templated)
    :param records: pairs of a partition key and a JSON object; records of one key keep their order. (templated)
    :param api_gateway_conn_id: the API's connection.
    """

    template_fields: Sequence[str] = ("stream_name", "records")

    def __init__(self, *, stream_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_name = stream_name

    def execute(self, context: Context) -> list[dict[str, str]]:
        """
        Put.

        :raises RecordsFailed: some were not acknowledged; the others were, and the log has where.
        """
        results = self.hook.get_conn().put_records(self.stream_name, self._pairs())
        return self._acknowledgements(self.stream_name, results)
