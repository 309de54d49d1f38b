"""What is drawn, what is sent, and that the report tells all of it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.emulation.emulation import Emulation, OffsetRanges, ShardPosition, draw, emulate
from include.emulation.source import Record, Source, SourceError

FIRST_DRAWS = [7528, 2863, 5730, 8304, 8731, 1313]


@dataclass(frozen=True)
class TopicAck:
    partition: int
    offset: int


@dataclass(frozen=True)
class StreamAck:
    shard_id: str
    sequence_number: str


@dataclass(frozen=True)
class Failure:
    code: str
    reason: str


@dataclass
class Log:
    """A sender that acknowledges everything, as one partition would, unless told otherwise."""

    sent: dict[str, list[tuple[int, Record]]] = field(default_factory=dict)
    calls: list[tuple[str, list[int]]] = field(default_factory=list)
    answer: Callable[[str, int], Any] | None = None

    def destination(self, table: str) -> str:
        return f"pinterest.{table}"

    def send(self, table: str, records: Sequence[tuple[int, Record]]) -> Sequence[Any]:
        self.calls.append((table, [number for number, _ in records]))
        return [self._one(table, number, record) for number, record in records]

    def _one(self, table: str, number: int, record: Record) -> Any:
        if self.answer and (result := self.answer(table, number)):
            return result
        log = self.sent.setdefault(table, [])
        log.append((number, record))
        return TopicAck(0, len(log) - 1)

    def numbers(self, table: str) -> list[int]:
        return [number for number, _ in self.sent.get(table, [])]


def test_the_classic_draws() -> None:
    draws = list(islice(draw(100), 20_000))
    assert [number for _, number in draws[:6]] == FIRST_DRAWS
    numbers, pauses = {number for _, number in draws}, Counter(pause for pause, _ in draws)
    assert min(numbers) >= 0
    assert max(numbers) <= 11_000
    assert set(pauses) == {0.0, 1.0}


def test_another_seed_draws_other_posts() -> None:
    assert [number for _, number in islice(draw(101), 6)] != FIRST_DRAWS


def test_the_report_is_exact(make_source: Any) -> None:
    url = make_source([5730, 7528], [*FIRST_DRAWS, 9], [1])
    log = Log()
    with Source(url) as source:
        report = emulate(source, log, posts=6, seed=100)

    assert report.as_dict() == {
        "posts": 6,
        "seed": 100,
        "order": "classic",
        "tables": {
            "pin": {"drawn": 6, "missing": 4, "sent": 2, "acknowledged": 2, "failed": 0},
            "geo": {"drawn": 6, "missing": 0, "sent": 6, "acknowledged": 6, "failed": 0},
            "user": {"drawn": 6, "missing": 6, "sent": 0, "acknowledged": 0, "failed": 0},
        },
        "failures": [],
        "positions": {"pinterest.pin": {"0": [[0, 1]]}, "pinterest.geo": {"0": [[0, 5]]}},
    }
    assert log.numbers("pin") == [7528, 5730]
    assert log.numbers("geo") == FIRST_DRAWS


def test_failures_are_kept_and_counted(synthetic_source: str) -> None:
    refuse = Failure("1", "no")
    log = Log(answer=lambda table, number: refuse if table == "geo" and number % 2 else None)
    with Source(synthetic_source) as source:
        report = emulate(source, log, posts=600, seed=1)

    drawn = [number for _, number in islice(draw(1), 600)]
    odd = [number for number in drawn if number % 2]
    geo = report.tables["geo"]
    assert (geo.drawn, geo.sent, geo.acknowledged, geo.failed) == (600, 600, 600 - len(odd), len(odd))
    assert report.failed == len(odd)
    assert [failure["number"] for failure in report.failures] == odd[:100]
    assert report.failures[0] == {"table": "geo", "number": odd[0], "code": "1", "reason": "no"}


def test_a_post_drawn_twice_is_sent_twice(synthetic_source: str) -> None:
    drawn = [number for _, number in islice(draw(100), 1_000)]
    assert len(set(drawn)) < 1_000
    log = Log()
    with Source(synthetic_source) as source:
        emulate(source, log, posts=1_000, batch_size=300)
    assert log.numbers("pin") == log.numbers("geo") == log.numbers("user") == drawn
    assert [(table, len(numbers)) for table, numbers in log.calls] == [
        (table, size) for size in (300, 300, 300, 100) for table in ("pin", "geo", "user")
    ]


def test_streams_report_their_shards(synthetic_source: str) -> None:
    sequence = iter(range(95, 1_000))

    def answer(table: str, number: int) -> StreamAck:
        return StreamAck(f"shardId-{number % 2}", str(next(sequence)))

    with Source(synthetic_source) as source:
        positions = emulate(source, Log(answer=answer), posts=10).as_dict()["positions"]

    evens = sum(number % 2 == 0 for _, number in islice(draw(100), 10))
    shards = positions["pinterest.pin"]
    assert {shard: at["records"] for shard, at in shards.items()} == {
        "shardId-0": evens,
        "shardId-1": 10 - evens,
    }
    # 104 is larger than 99 although its text is smaller.
    assert max(int(at["last"]) for at in shards.values()) == 104


def test_sequential_walks_each_post_once(make_source: Any) -> None:
    url = make_source([3, 1], [2, 7], [7, 3], "walk")
    log = Log()
    with Source(url) as source:
        report = emulate(source, log, posts=4, order="sequential", batch_size=3)
    assert {table: log.numbers(table) for table in ("pin", "geo", "user")} == {
        "pin": [1, 3],
        "geo": [2, 7],
        "user": [3, 7],
    }
    assert {table: tally.missing for table, tally in report.tables.items()} == {"pin": 2, "geo": 2, "user": 2}


def test_sequential_covers_more_than_a_page(synthetic_source: str) -> None:
    log = Log()
    with Source(synthetic_source) as source:
        emulate(source, log, posts=2_345, order="sequential")
    assert log.numbers("user") == list(range(2_345))


def test_sequential_refuses_more_posts_than_there_are(make_source: Any) -> None:
    log = Log()
    with Source(make_source([1], [2], [3])) as source, pytest.raises(ValueError, match="has 3 posts"):
        emulate(source, log, posts=4, order="sequential")
    assert log.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"posts": -1}, "posts"),
        ({"posts": 20.5}, "posts must be a whole number, not 20.5"),
        ({"posts": "20"}, "posts must be a whole number, not '20'"),
        ({"posts": True}, "posts must be a whole number, not True"),
        ({"posts": 1, "seed": None}, "seed must be a whole number, not None"),
        ({"posts": 1, "order": "random"}, "order"),
        ({"posts": 1, "pace": 0}, "pace"),
        ({"posts": 1, "pace": "slow"}, "pace"),
        ({"posts": 1, "pace": float("inf")}, "pace"),
        ({"posts": 1, "batch_size": 0}, "batch_size"),
    ],
)
def test_arguments_out_of_range(synthetic_source: str, arguments: Any, message: str) -> None:
    log = Log()
    with Source(synthetic_source) as source, pytest.raises(ValueError, match=message):
        emulate(source, log, **arguments)
    assert log.calls == []


def test_a_whole_number_may_be_written_with_a_fraction(synthetic_source: str) -> None:
    with Source(synthetic_source) as source:
        report = emulate(source, Log(), posts=20.0, seed=100.0)  # type: ignore[arg-type]
        assert repr(report.as_dict()) == repr(emulate(source, Log(), posts=20, seed=100).as_dict())


def test_no_posts_make_an_empty_report(synthetic_source: str) -> None:
    with Source(synthetic_source) as source:
        report = emulate(source, Log(), posts=0)
    assert report.as_dict()["positions"] == {}
    assert report.tables["pin"].drawn == report.failed == report.acknowledged == 0


class GatewayError(Exception):
    code = "http_404"


def test_a_sender_that_raises_leaves_a_whole_report(synthetic_source: str) -> None:
    def answer(table: str, number: int) -> None:
        if table == "geo":
            raise GatewayError("gone")

    log = Log(answer=answer)
    with Source(synthetic_source) as source:
        report = emulate(source, log, posts=30, batch_size=10)

    assert [table for table, _ in log.calls] == ["pin", "geo"]
    assert {table: (t.drawn, t.sent, t.acknowledged, t.failed) for table, t in report.tables.items()} == {
        "pin": (30, 30, 10, 20),
        "geo": (30, 30, 0, 30),
        "user": (30, 30, 0, 30),
    }
    first = report.failures[0]
    assert (first["table"], first["number"], first["code"], first["reason"]) == (
        "geo",
        7528,
        "http_404",
        "gone",
    )
    assert {failure["code"] for failure in report.failures[10:]} == {"not_sent"}


def test_sending_ends_when_nothing_is_acknowledged_any_more(synthetic_source: str) -> None:
    log = Log(answer=lambda table, number: Failure("no_answer", "nobody there"))
    with Source(synthetic_source) as source:
        report = emulate(source, log, posts=100, batch_size=10)
    assert [table for table, _ in log.calls] == ["pin", "geo", "user"]
    assert report.failed == 300


def test_a_table_that_always_fails_does_not_end_the_others(synthetic_source: str) -> None:
    log = Log(answer=lambda table, number: Failure("404", "no topic") if table == "pin" else None)
    with Source(synthetic_source) as source:
        report = emulate(source, log, posts=100, batch_size=10)
    assert {table: tally.failed for table, tally in report.tables.items()} == {
        "pin": 100,
        "geo": 0,
        "user": 0,
    }


def test_an_interrupted_run_tells_what_was_done(synthetic_source: str) -> None:
    def answer(table: str, number: int) -> None:
        if len(log.calls) == 5:
            raise KeyboardInterrupt

    log = Log(answer=answer)
    with Source(synthetic_source) as source:
        emulation = Emulation(source, log, posts=100, batch_size=10)
        with pytest.raises(KeyboardInterrupt):
            emulation.run()
    tables = emulation.report.tables
    assert (tables["pin"].acknowledged, tables["geo"].acknowledged, tables["user"].acknowledged) == (
        20,
        10,
        10,
    )
    assert tables["geo"].failed == 10
    assert emulation.report.failures[0]["code"] == "interrupted"
    for tally in tables.values():
        assert tally.sent == tally.acknowledged + tally.failed


def test_a_source_that_goes_away(make_source: Any, tmp_path: Any) -> None:
    url = make_source(range(100), range(100), range(100))
    log = Log()
    with Source(url) as source:
        emulation = Emulation(
            source,
            log,
            posts=100,
            order="sequential",
            batch_size=10,
            progress=lambda report: (tmp_path / "source.db").write_bytes(b"no database" * 100),
        )
        with pytest.raises(SourceError, match="cannot be read"):
            emulation.run()
    assert emulation.report.acknowledged == 30


class Timeout(BaseException):
    """As Airflow ends a task that takes too long."""


@dataclass
class Interrupted(Log):
    """A sender that is interrupted in a call after it has had some acknowledgements."""

    known: int = 0
    call: int = 4
    error: type[BaseException] = Timeout

    def send(self, table: str, records: Sequence[tuple[int, Record]]) -> Sequence[Any]:
        results = super().send(table, records)
        if len(self.calls) == self.call:
            error = self.error("ended")
            error.results = [*results[: self.known], *[None] * (len(results) - self.known)]  # type: ignore[attr-defined]
            raise error
        return results


def told(url: str, sender: Log, error: type[BaseException], **options: Any) -> Any:
    """The one report that is handed over while the run is ended by this error."""
    reports: list[Any] = []
    with Source(url) as source, pytest.raises(error):
        emulate(source, sender, account=lambda report: reports.append(report.as_dict()), **options)
    (report,) = reports
    for tally in report["tables"].values():
        assert tally["drawn"] == tally["missing"] + tally["sent"]
        assert tally["sent"] == tally["acknowledged"] + tally["failed"]
    return report


@pytest.mark.parametrize("error", [Timeout, KeyboardInterrupt, SystemExit])
def test_what_was_acknowledged_is_told_whatever_ends_the_run(
    synthetic_source: str, error: type[BaseException]
) -> None:
    report = told(synthetic_source, Interrupted(known=7, error=error), error, posts=100, batch_size=10)
    assert {table: (t["acknowledged"], t["failed"]) for table, t in report["tables"].items()} == {
        "pin": (17, 3),
        "geo": (10, 0),
        "user": (10, 0),
    }
    assert report["positions"]["pinterest.pin"] == {"0": [[0, 16]]}
    assert {failure["code"] for failure in report["failures"]} == {"interrupted"}


def test_a_bad_value_in_the_middle_loses_no_account(make_source: Any) -> None:
    url = make_source(range(700), range(700), range(700))
    log = Log()

    def spoil(report: Any) -> None:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.execute("UPDATE pinterest_data SET title = x'00' WHERE \"index\" = 650")
        connection.close()

    with Source(url) as source:
        reports: list[Any] = []
        with pytest.raises(SourceError, match=r"pinterest_data\.title of post 650 holds b'") as caught:
            emulate(
                source, log, posts=700, order="sequential", progress=spoil,
                account=lambda report: reports.append(report.as_dict()),
            )  # fmt: skip
    assert caught.value.retriable is False
    (report,) = reports
    assert {table: t["acknowledged"] for table, t in report["tables"].items()} == {
        "pin": 500,
        "geo": 500,
        "user": 500,
    }
    assert report["positions"]["pinterest.user"] == {"0": [[0, 499]]}
    assert len(log.numbers("pin")) == 500


def test_an_interruption_between_two_records_leaves_a_whole_report(synthetic_source: str) -> None:
    """A timeout is a signal: it comes at any moment, also while answers are being counted."""
    settled = 0

    class Ack:
        partition = 0

        @property
        def offset(self) -> int:
            nonlocal settled
            settled += 1
            if settled == 25:  # each record's offset is looked at twice
                raise Timeout
            return settled

    report = told(synthetic_source, Log(answer=lambda table, number: Ack()), Timeout, posts=10)
    assert {table: (t["acknowledged"], t["failed"]) for table, t in report["tables"].items()} == {
        "pin": (10, 0),
        "geo": (9, 1),
        "user": (0, 0),
    }


def test_an_account_that_cannot_be_given_hides_nothing(make_source: Any) -> None:
    def account(report: Any) -> None:
        raise OSError("no XComs today")

    with Source(make_source([1], [1], [1])) as source, pytest.raises(Timeout) as caught:
        emulate(source, Interrupted(call=1), posts=1, order="sequential", account=account)
    assert caught.value.__notes__ == ["Nor could the report be handed over: no XComs today"]


def test_a_report_that_is_returned_is_not_handed_over_too(synthetic_source: str) -> None:
    reports: list[Any] = []
    with Source(synthetic_source) as source:
        emulate(source, Log(), posts=1, account=reports.append)
    assert reports == []


@dataclass(frozen=True)
class Passing(Failure):
    retriable: bool = True


@dataclass(frozen=True)
class Final(Failure):
    retriable: bool = False


@pytest.mark.parametrize(
    ("failure", "retriable"),
    [(Passing("no_answer", "silence"), 9), (Final("http_404", "no topic"), 0), (Failure("1", "no"), 9)],
)
def test_the_report_says_what_another_try_may_mend(
    synthetic_source: str, failure: Failure, retriable: int
) -> None:
    with Source(synthetic_source) as source:
        report = emulate(source, Log(answer=lambda table, number: failure), posts=30, batch_size=3)
    assert report.failed == 90
    assert report.retriable == retriable


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def paced(source: str, clock: Clock, log: Log, **options: Any) -> Emulation:
    with Source(source) as opened:
        emulation = Emulation(opened, log, clock=clock, sleep=clock.sleep, **options)
        emulation.run()
    return emulation


def test_without_a_pace_nothing_sleeps(synthetic_source: str) -> None:
    clock = Clock()
    paced(synthetic_source, clock, Log(), posts=50)
    assert clock.sleeps == []


def test_the_classic_pace_sleeps_what_was_drawn(synthetic_source: str) -> None:
    clock, log = Clock(), Log()
    paced(synthetic_source, clock, log, posts=50, pace="classic")
    draws = list(islice(draw(100), 50))
    assert clock.now - 1_000 == sum(pause for pause, _ in draws)
    assert set(clock.sleeps) == {1.0}
    assert log.numbers("pin") == [number for _, number in draws]


def test_a_rate_spreads_the_posts(synthetic_source: str) -> None:
    clock, log = Clock(), Log()
    paced(synthetic_source, clock, log, posts=41, pace=20)
    assert clock.now - 1_000 == pytest.approx(2.0)
    assert [len(numbers) for table, numbers in log.calls if table == "pin"] == [1] * 41


def test_a_rate_catches_up_in_batches(synthetic_source: str) -> None:
    """When sending takes its time, what fell due meanwhile goes together."""
    clock, log = Clock(), Log()

    def slow(table: str, number: int) -> None:
        if table == "user" and number == log.calls[-1][1][-1]:
            clock.now += 1.0

    log.answer = slow
    paced(synthetic_source, clock, log, posts=100, pace=20, batch_size=15)
    sizes = [len(numbers) for table, numbers in log.calls if table == "pin"]
    assert sum(sizes) == 100
    assert max(sizes) == 15


def test_progress_is_told_after_each_batch(synthetic_source: str) -> None:
    seen: list[int] = []
    with Source(synthetic_source) as source:
        emulate(source, Log(), posts=25, batch_size=10, progress=lambda report: seen.append(report.drawn))
    assert seen == [10, 20, 25]


@given(st.lists(st.integers(0, 40)))
def test_offset_ranges_hold_exactly_the_offsets(offsets: list[int]) -> None:
    ranges = OffsetRanges()
    for offset in offsets:
        ranges.add(offset)
    bounds = ranges.as_lists()
    assert [offset for first, last in bounds for offset in range(first, last + 1)] == sorted(set(offsets))
    assert all(bounds[i][1] + 1 < bounds[i + 1][0] for i in range(len(bounds) - 1))


@given(st.lists(st.integers(0, 10**56), min_size=1))
def test_a_shards_last_is_the_largest_number(numbers: list[int]) -> None:
    position = ShardPosition()
    for number in numbers:
        position.add(str(number))
    assert (position.last, position.records) == (str(max(numbers)), len(numbers))
