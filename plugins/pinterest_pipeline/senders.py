"""What the emulator hands its records to: topics or streams, both through the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pinterest_pipeline.config import Settings
from pinterest_pipeline.gateway import Failure, GatewayClient, StreamAck, TopicAck


@dataclass(frozen=True)
class TopicSender:
    """Publishes the records of a table to its topic."""

    client: GatewayClient
    settings: Settings

    def destination(self, table: str) -> str:
        """Return the table's topic."""
        return self.settings.topic(table)

    def send(
        self, table: str, records: Sequence[tuple[int | str, Mapping[str, Any]]]
    ) -> list[TopicAck | Failure]:
        """Publish; return one result a record, in the same order."""
        return self.client.produce(self.destination(table), records)


@dataclass(frozen=True)
class StreamSender:
    """Puts the records of a table to its stream."""

    client: GatewayClient
    settings: Settings

    def destination(self, table: str) -> str:
        """Return the table's stream."""
        return self.settings.stream(table)

    def send(
        self, table: str, records: Sequence[tuple[int | str, Mapping[str, Any]]]
    ) -> list[StreamAck | Failure]:
        """Put; return one result a record, in the same order."""
        return self.client.put_records(self.destination(table), records)
