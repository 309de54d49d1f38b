"""Kinesis streams that outlive a kill, and take only records that every reader of theirs can read.

ministack writes its streams when it ends in order, and takes whatever JSON holds for a record. ``install`` puts each
change of a stream on disk before it is answered, and refuses records as Kinesis does.
"""

from __future__ import annotations

import base64
import binascii
import copy
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ministack.core.responses import error_response_json
from ministack.services import kinesis

Stream = dict[str, Any]
Answer = tuple[int, dict[str, str], Any]
Action = Callable[[Mapping[str, Any]], Answer]

_CHANGES = (
    "_create_stream",
    "_delete_stream",
    "_put_record",
    "_put_records",
    "_split_shard",
    "_merge_shards",
    "_update_shard_count",
    "_increase_retention",
    "_decrease_retention",
    "_add_tags",
    "_remove_tags",
    "_start_stream_encryption",
    "_stop_stream_encryption",
)
_HASH_KEY = re.compile(r"0|[1-9][0-9]{0,38}")
_LONGEST_KEY = 256
_TABLES = """
CREATE TABLE IF NOT EXISTS streams (name TEXT PRIMARY KEY, document TEXT);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY, stream TEXT, shard TEXT, sequence TEXT, arrival REAL, key TEXT, data TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS record ON records (stream, shard, sequence);
CREATE INDEX IF NOT EXISTS age ON records (stream, arrival);
"""


class StreamStore:
    """Streams and their records in one SQLite file. Used from the server's one thread only."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file)
        # A write is the operating system's before it is answered, so that it outlives the process.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)
        self._last: dict[tuple[str, str], str] = {}  # by stream and shard: the newest record that is written

    def read(self) -> Iterator[Stream]:
        """The streams with the records that their retention has left."""
        for (document,) in self._db.execute("SELECT document FROM streams").fetchall():
            stream: Stream = json.loads(document)
            with self._db:
                self._forget_old(stream)
            for shard, content in stream["shards"].items():
                content["records"] = list(self._records(stream["StreamName"], shard))
                self._note(stream["StreamName"], shard, content["records"])
            yield stream

    def save(self, stream: Stream) -> None:
        """Write a stream and those of its records that are new."""
        name = stream["StreamName"]
        bare = {shard: {**content, "records": []} for shard, content in stream["shards"].items()}
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO streams VALUES (?, ?)", (name, json.dumps({**stream, "shards": bare}))
            )
            for shard, content in stream["shards"].items():
                self._db.executemany(
                    "INSERT OR IGNORE INTO records (stream, shard, sequence, arrival, key, data)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (
                            name,
                            shard,
                            record["SequenceNumber"],
                            record["ApproximateArrivalTimestamp"],
                            record["PartitionKey"],
                            record["Data"],
                        )
                        for record in self._new(name, shard, content["records"])
                    ],
                )
            self._forget_old(stream)
        for shard, content in stream["shards"].items():
            self._note(name, shard, content["records"])

    def save_all(self) -> None:
        """Write all streams as they are, and forget those that are gone: CloudFormation makes them by itself."""
        for stream in kinesis._streams._data.values():
            self.save(stream)
        present = {stream["StreamName"] for stream in kinesis._streams._data.values()}
        for (name,) in self._db.execute("SELECT name FROM streams").fetchall():
            if name not in present:
                self.delete(name)

    def counts(self) -> tuple[int, int]:
        """How many streams and how many records there are."""
        query = "SELECT (SELECT count(*) FROM streams), (SELECT count(*) FROM records)"
        streams, records = self._db.execute(query).fetchone()
        return int(streams), int(records)

    def delete(self, name: str) -> None:
        """Forget a stream and its records."""
        with self._db:
            self._db.execute("DELETE FROM records WHERE stream = ?", (name,))
            self._db.execute("DELETE FROM streams WHERE name = ?", (name,))
        self._last = {key: last for key, last in self._last.items() if key[0] != name}

    def _records(self, stream: str, shard: str) -> Iterator[dict[str, Any]]:
        query = (
            "SELECT sequence, arrival, key, data FROM records WHERE stream = ? AND shard = ? ORDER BY number"
        )
        for sequence, arrival, key, data in self._db.execute(query, (stream, shard)):
            yield {
                "SequenceNumber": sequence,
                "ApproximateArrivalTimestamp": arrival,
                "Data": data,
                "PartitionKey": key,
            }

    def _new(self, stream: str, shard: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last, new = self._last.get((stream, shard)), []
        for record in reversed(records):
            if record["SequenceNumber"] == last:
                break
            new.append(record)
        return new[::-1]

    def _note(self, stream: str, shard: str, records: list[dict[str, Any]]) -> None:
        if records:
            self._last[stream, shard] = records[-1]["SequenceNumber"]

    def _forget_old(self, stream: Stream) -> None:
        oldest = time.time() - stream["RetentionPeriodHours"] * 3600
        self._db.execute(
            "DELETE FROM records WHERE stream = ? AND arrival < ?", (stream["StreamName"], oldest)
        )


def install(file: Path) -> StreamStore:
    """Make ministack keep its streams in this file, and give it those of its last life."""
    store = StreamStore(file)
    for stream in store.read():
        account, region = kinesis._stream_record_scope(stream)
        kinesis._streams.set_scoped(account, region, stream["StreamName"], stream)
    for name in _CHANGES:
        setattr(kinesis, name, _kept(getattr(kinesis, name), store))
    kinesis._put_record = _checked(kinesis._put_record, lambda data: [data])
    kinesis._put_records = _checked(kinesis._put_records, lambda data: data.get("Records"))
    kinesis.get_state = _state_besides
    return store


def _state_besides() -> dict[str, Any]:
    """What ministack writes of Kinesis itself: what lies neither in the store nor in short-lived iterators."""
    return {
        "consumers": copy.deepcopy(kinesis._consumers),
        "resource_policies": copy.deepcopy(kinesis._resource_policies),
    }


def _kept(action: Action, store: StreamStore) -> Action:
    def kept(data: Mapping[str, Any]) -> Answer:
        _, before = kinesis._resolve_stream(data)
        answer = action(data)
        if answer[0] == 200:
            _, after = kinesis._resolve_stream(data)
            if after is not None:
                store.save(after)
            elif before is not None:
                store.delete(before["StreamName"])
        return answer

    return kept


def _checked(action: Action, records_of: Callable[[Mapping[str, Any]], Any]) -> Action:
    def checked(data: Mapping[str, Any]) -> Answer:
        records = records_of(data)
        if not isinstance(records, list) or not records:
            return _refusal("ValidationException", "Records must be a list of 1 to 500 records")
        for number, record in enumerate(records):
            if (problem := _problem(record)) is not None:
                code, what = problem
                return _refusal(code, f"Record {number}: {what}")
        return action(data)

    return checked


def _problem(record: Any) -> tuple[str, str] | None:
    """What is wrong with a record, as Kinesis' error code and in words."""
    if not isinstance(record, dict):
        return "SerializationException", "must be an object"
    if not _is_base64(record.get("Data")):
        return "SerializationException", "Data must be a text in base64"
    key, hash_key = record.get("PartitionKey"), record.get("ExplicitHashKey")
    if not isinstance(key, str) or not _is_unicode(key):
        return "SerializationException", "PartitionKey must be a text in Unicode"
    if not 1 <= len(key) <= _LONGEST_KEY:
        return "ValidationException", f"PartitionKey must have 1 to {_LONGEST_KEY} characters"
    if hash_key is not None and not (isinstance(hash_key, str) and _HASH_KEY.fullmatch(hash_key)):
        return "ValidationException", "ExplicitHashKey must be a whole number as text"
    if hash_key is not None and int(hash_key) > kinesis.MAX_HASH_KEY:
        return "InvalidArgumentException", f"ExplicitHashKey must be at most {kinesis.MAX_HASH_KEY}"
    return None


def _is_base64(text: Any) -> bool:
    try:
        return isinstance(text, str) and base64.b64decode(text, validate=True) is not None
    except (binascii.Error, ValueError):
        return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(code: str, message: str) -> Answer:
    answer: Answer = error_response_json(code, message, 400)
    return answer
