"""Posts as users would: draws posts from the source and puts their records on the Kinesis streams.

Run it as ``python include/emulation/user_posting_emulation_streaming.py --help`` or with ``-m``; a DAG hands
:class:`StreamSender` to :func:`include.emulation.emulation.emulate`.
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


class StreamClient(Protocol):
    """What of the API's client is needed here."""

    def put_records(
        self, stream: str, records: Sequence[tuple[int | str, Mapping[str, Any]]]
    ) -> Sequence[Any]: ...


class StreamSender:
    """Sends each table's records to its stream, keyed by the post's number.

    :param client: the API's client
    :param prefix: what the streams are named after
    """

    def __init__(self, client: StreamClient, prefix: str = "pinterest") -> None:
        self._client = client
        self._prefix = prefix

    def destination(self, table: str) -> str:
        """The stream of a table."""
        return f"streaming-{self._prefix}-{table}"

    def send(self, table: str, records: Sequence[tuple[int, Record]]) -> Sequence[Any]:
        """An acknowledgement or a failure for each record, in their order."""
        return self._client.put_records(self.destination(table), records)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    description = (
        "Posts as users would: draws posts from the source and puts their records on the Kinesis streams."
    )
    return cli.run(StreamSender, "user_posting_emulation_streaming", description, arguments)


if __name__ == "__main__":
    sys.exit(main())
