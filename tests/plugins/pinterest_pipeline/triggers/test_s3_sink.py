from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from unittest import mock

import pytest

from pinterest_pipeline.offsets import first_offset
from pinterest_pipeline.triggers import s3_sink
from pinterest_pipeline.triggers.s3_sink import S3SinkLandedTrigger

TOPIC = "p.pin"


def trigger(bucket: str, ranges: list[list[int]], partition: str = "0") -> S3SinkLandedTrigger:
    return S3SinkLandedTrigger(
        positions={TOPIC: {partition: ranges}},
        bucket=bucket,
        poll_interval=0.05,
        end_time=time.time() + 30,
    )


def land(s3: Any, bucket: str, first: int, lines: int, partition: int = 0, end: str = "\n") -> None:
    key = f"topics/{TOPIC}/partition={partition}/{TOPIC}+{partition}+{first:010d}.json"
    body = "\n".join(f'{{"ind": {first + line}}}' for line in range(lines)) + end
    s3.put_object(Bucket=bucket, Key=key, Body=body.encode())


def counts(acknowledged: int, landed: int) -> dict[str, dict[str, int]]:
    return {TOPIC: {"acknowledged": acknowledged, "landed": landed}}


def test_serialize(bucket: str) -> None:
    positions = {TOPIC: {"0": [[0, 9]]}}
    made = S3SinkLandedTrigger(
        positions=positions, bucket=bucket, aws_conn_id="other", poll_interval=5, end_time=9.5
    )
    path, arguments = made.serialize()
    assert path == "pinterest_pipeline.triggers.s3_sink.S3SinkLandedTrigger"
    assert arguments == {
        "positions": positions,
        "bucket": bucket,
        "topics_dir": "topics",
        "poll_interval": 5,
        "end_time": 9.5,
        "aws_conn_id": "other",
        "region_name": None,
        "verify": None,
        "botocore_config": None,
    }
    assert S3SinkLandedTrigger(**arguments).serialize() == (path, arguments)


@pytest.mark.parametrize(
    ("objects", "missing"),
    [
        ([(0, 10)], None),
        ([(0, 4), (4, 6)], None),
        ([(0, 100)], None),
        ([(0, 9)], "1 of 10 record(s), offsets 9"),
        ([(1, 9)], "1 of 10 record(s), offsets 0"),
        ([(0, 3), (7, 3)], "4 of 10 record(s), offsets 3–6"),
        ([(20, 10)], "10 of 10 record(s), offsets 0–9"),
        ([], "10 of 10 record(s), offsets 0–9"),
    ],
)
async def test_landed_means_lines_not_objects(
    s3: Any, bucket: str, objects: list[tuple[int, int]], missing: str | None
) -> None:
    for first, lines in objects:
        land(s3, bucket, first, lines)
    seen = await trigger(bucket, [[0, 9]]).look()
    assert seen.done == (missing is None)
    if missing:
        assert seen.message == f"not landed yet: {TOPIC} partition 0: {missing}"


async def test_a_last_line_without_a_line_feed_counts(s3: Any, bucket: str) -> None:
    land(s3, bucket, 0, 10, end="")
    assert (await trigger(bucket, [[0, 9]]).look()).done


async def test_other_partitions_and_other_peoples_offsets_do_not_count(s3: Any, bucket: str) -> None:
    land(s3, bucket, 0, 5, partition=10)
    land(s3, bucket, 5, 5, partition=1)
    seen = await trigger(bucket, [[0, 1], [5, 9]], partition="1").look()
    assert seen.value == counts(7, 5)
    assert "2 of 7 record(s), offsets 0–1" in seen.message


@pytest.mark.parametrize("later", [[], [(100, 10)]])
async def test_an_older_longer_object_may_hold_what_a_younger_shorter_one_does_not(
    s3: Any, bucket: str, later: list[tuple[int, int]]
) -> None:
    # Before a crash: 0–9 and 10–11. The replay cut elsewhere: 0–99, then 100–109; 10–11 stayed behind.
    for first, lines in [(0, 100), (10, 2), *later]:
        land(s3, bucket, first, lines)
    assert (await trigger(bucket, [[50, 60]]).look()).done


async def test_so_may_one_before_the_look_back(s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_sink, "LOOK_BACK", 10)
    for first, lines in [(0, 100), (45, 2), (100, 10)]:
        land(s3, bucket, first, lines)
    assert (await trigger(bucket, [[50, 60]]).look()).done


async def test_so_may_one_before_the_look_back_of_an_idle_topic(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_sink, "LOOK_BACK", 10)
    for first, lines in [(0, 1_000), (450, 2)]:
        land(s3, bucket, first, lines)
    assert await looks(trigger(bucket, [[500, 510]]), 2) == [
        f"not landed yet: {TOPIC} partition 0: 11 of 11 record(s), offsets 500–510",
        "all 11 record(s) have landed",
    ]


async def test_a_partition_is_listed_from_its_start_ever_more_seldom(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_sink, "LOOK_BACK", 10)
    for first in range(0, 510, 10):
        land(s3, bucket, first, 10)
    starts: list[int] = []
    list_from = s3_sink._Objects.list_from

    async def spy(self: Any, *args: Any) -> list[tuple[int, str]]:
        starts.append(args[3])
        return await list_from(self, *args)

    monkeypatch.setattr(s3_sink._Objects, "list_from", spy)
    await looks(trigger(bucket, [[510, 515]]), 9)
    once, everywhere = [500], [500, 410, 0]
    assert starts == [*once, *everywhere, *everywhere, *once, *everywhere, *once * 3, *everywhere]


async def test_an_object_longer_than_the_look_back_is_found(
    s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_sink, "LOOK_BACK", 10)
    land(s3, bucket, 0, 500)
    assert (await trigger(bucket, [[400, 410]]).look()).done


async def test_only_what_may_overlap_is_listed_and_read(s3: Any, bucket: str) -> None:
    for first in range(0, 40_000, 1_000):
        land(s3, bucket, first, 1_000)
    reads: list[str] = []
    listed: list[tuple[int, str]] = []
    read, list_from = s3_sink._Objects._read, s3_sink._Objects.list_from

    async def spy_read(self: Any, key: str) -> int:
        reads.append(key)
        return await read(self, key)

    async def spy_list(self: Any, *args: Any) -> list[tuple[int, str]]:
        found = await list_from(self, *args)
        listed.extend(found)
        return found

    with (
        mock.patch.object(s3_sink._Objects, "_read", spy_read),
        mock.patch.object(s3_sink._Objects, "list_from", spy_list),
    ):
        seen = await trigger(bucket, [[30_500, 31_499]]).look()
    assert seen.done
    assert sorted(map(first_offset, reads)) == [30_000, 31_000]  # they are read side by side
    assert min(first for first, _ in listed) >= 20_000
    assert max(first for first, _ in listed) <= 32_000


def note(s3: Any, bucket: str, first: int, records: str, lines: int = 1) -> None:
    """Land an object whose metadata says that it has so many records."""
    key = f"topics/{TOPIC}/partition=0/{TOPIC}+0+{first:010d}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=b"{}\n" * lines, Metadata={"records": records})


async def test_what_the_sink_has_noted_is_not_downloaded(s3: Any, bucket: str) -> None:
    """A million posts are 2.6 GB, of which only the numbers of lines count."""
    note(s3, bucket, 0, "10000")
    note(s3, bucket, 10_000, "9000")
    with mock.patch.object(s3_sink._Objects, "_read", side_effect=AssertionError("an object is downloaded")):
        assert (await trigger(bucket, [[0, 18_999]]).look()).done
        seen = await trigger(bucket, [[0, 19_999]]).look()
    assert (
        seen.message == f"not landed yet: {TOPIC} partition 0: 1000 of 20000 record(s), offsets 19000–19999"
    )


@pytest.mark.parametrize("noted", ["", "many", "-5", "1e3", "²"])
async def test_a_note_that_is_no_number_is_none(s3: Any, bucket: str, noted: str) -> None:
    with mock.patch.object(s3_sink._Objects, "_read", return_value=4):
        client = mock.Mock(head_object=mock.AsyncMock(return_value={"Metadata": {"records": noted}}))
        objects = s3_sink._Objects(client, bucket)
        objects._tags["k"] = "tag"
        assert await objects._count("k") == 4


async def test_an_object_that_grows_is_noted_anew(s3: Any, bucket: str) -> None:
    note(s3, bucket, 0, "4")
    async with trigger(bucket, [[0, 9]]).connect() as look:
        assert (await look()).value == counts(10, 4)
        note(s3, bucket, 0, "10", lines=2)
        assert (await look()).value == counts(10, 10)


async def test_it_waits_while_the_sink_writes_and_reads_each_version_once(s3: Any, bucket: str) -> None:
    land(s3, bucket, 0, 4)
    reads: list[str] = []
    read = s3_sink._Objects._read

    async def spy(self: Any, key: str) -> int:
        reads.append(key)
        return await read(self, key)

    steps: Iterable[tuple[int, int]] = iter([(4, 3), (4, 4), (8, 2)])

    async def write_next(_: float) -> None:
        for first, lines in steps:
            land(s3, bucket, first, lines)
            return

    wait = trigger(bucket, [[0, 9]])
    with (
        mock.patch.object(s3_sink._Objects, "_read", spy),
        mock.patch("pinterest_pipeline.triggers.base.asyncio.sleep", write_next),
    ):
        events = [event.payload async for event in wait.run()]
    assert events == [
        {"status": "success", "message": "all 10 record(s) have landed", "value": counts(10, 10)}
    ]
    # 0, then 4 with three lines, then 4 grown to four lines, then 8
    assert [first_offset(key) for key in reads] == [0, 4, 4, 8]


async def test_in_time_it_says_what_is_missing(s3: Any, bucket: str) -> None:
    land(s3, bucket, 0, 4)
    wait = trigger(bucket, [[0, 9]])
    wait.end_time = time.time()
    events = [event.payload async for event in wait.run()]
    assert events == [
        {
            "status": "timeout",
            "message": f"not landed yet: {TOPIC} partition 0: 6 of 10 record(s), offsets 4–9",
            "value": counts(10, 4),
        }
    ]


async def looks(wait: S3SinkLandedTrigger, count: int) -> list[str]:
    async with wait.connect() as look:
        return [(await look()).message for _ in range(count)]


async def test_kafka_is_asked_why_when_nothing_more_lands(s3: Any, bucket: str) -> None:
    land(s3, bucket, 0, 4)
    wait = trigger(bucket, [[0, 9]])
    missing = f"not landed yet: {TOPIC} partition 0: 6 of 10 record(s), offsets 4–9"
    held = mock.Mock(side_effect=[{(TOPIC, 0): 4}, {(TOPIC, 0): 10}, {}, OSError("no route")])
    with mock.patch.object(s3_sink.KafkaHook, "open_transactions", held):
        assert await looks(wait, 2) == [missing, missing]
        assert held.call_count == 0
        wait.kafka_conn_id = "pinterest_kafka"
        # the first look finds what is missing, the next ones that it is the same
        assert await looks(wait, 5) == [
            missing,
            f"{missing}; {TOPIC} partition 0 has an open transaction: until its producer or Kafka ends it, "
            "the sink gets nothing from offset 4 on",
            missing,
            missing,
            missing,
        ]
    assert held.call_args_list == [mock.call([(TOPIC, 0)])] * 4


def test_the_kafka_connection_is_kept(bucket: str) -> None:
    made = S3SinkLandedTrigger(
        positions={}, bucket=bucket, kafka_conn_id="other", poll_interval=1, end_time=9.5
    )
    _, arguments = made.serialize()
    assert arguments["kafka_conn_id"] == "other"
    assert S3SinkLandedTrigger(**arguments).serialize() == made.serialize()


async def test_nothing_acknowledged_is_landed_at_once(s3: Any, bucket: str) -> None:
    wait = S3SinkLandedTrigger(positions={}, bucket=bucket, poll_interval=1, end_time=0)
    seen = await wait.look()
    assert (seen.done, seen.value) == (True, {})
