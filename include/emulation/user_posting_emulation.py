"""Posts as users would: draws posts from the source and sends their records to the Kafka topics.

Run it as ``python include/emulation/user_posting_emulation.py --help`` or with ``-m``; a DAG hands
:class:`TopicSender` to :func:`include.emulation.emulation.emulate`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

if __name__ == "__main__":  # run as a file, where Python looks beside the file instead of in the project
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from include.emulation import cli
from include.emulation.source import Record


class TopicClient(Protocol):
    """What of the API's client is needed here."""

    def produce(
        self, topic: str, records: Sequence[tuple[int | str, Mapping[str, Any]]]
    ) -> Sequence[Any]: ...


class TopicSender:
    """Sends each table's records to its topic, keyed by the post's number.

    :param client: the API's client
    :param prefix: what the topics are named after
    """

    def __init__(self, client: TopicClient, prefix: str = "pinterest") -> None:
        self._client = client
        self._prefix = prefix

    def destination(self, table: str) -> str:
        """The topic of a table."""
        return f"{self._prefix}.{table}"

    def send(self, table: str, records: Sequence[tuple[int, Record]]) -> Sequence[Any]:
        """An acknowledgement or a failure for each record, in their order."""
        return self._client.produce(self.destination(table), records)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    description = (
        "Posts as users would: draws posts from the source and sends their records to the Kafka topics."
    )
    return cli.run(TopicSender, "user_posting_emulation", description, arguments)


if __name__ == "__main__":
    sys.exit(main())
