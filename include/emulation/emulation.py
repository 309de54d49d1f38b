"""Draws posts from the source, sends their records on, and accounts for every one of them."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any, Literal, Protocol

from include.emulation.source import TABLES, Record, Source

LAST_DRAWN = 11_000
"""The classic emulator draws from 0..11000, although the tables go on to 11153."""
LONGEST_PAUSE = 2
"""The classic emulator pauses for 0 or 1 seconds: randrange(0, 2)."""
FAILURES_KEPT = 100
FRUITLESS_SENDS = 3
"""So many sends in a row without one acknowledgement end the sending: one for each table of a batch."""

Order = Literal["classic", "sequential"]
Pace = float | Literal["classic"] | None

Progress = Callable[["Report"], None]


class Failed(Protocol):
    """What a sender returns for a record that was not acknowledged."""

    @property
    def code(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Sender(Protocol):
    """Where records go. For each record `send` returns, in the same order, one of three things: an object with
    `partition` and `offset` (a topic's acknowledgement), with `shard_id` and `sequence_number` (a stream's),
    or with `code` and `reason` (a failure; `retriable` says whether another try may help). When `send` is
    interrupted, the exception may have what was known by then as `results`: such objects, or None."""

    def destination(self, table: str) -> str:
        """The topic or stream of a table."""
        ...

    def send(self, table: str, records: Sequence[tuple[int, Record]]) -> Sequence[Any]: ...


@dataclass
class Tally:
    """Records of one table: drawn = missing + sent, sent = acknowledged + failed."""

    drawn: int = 0
    missing: int = 0
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0


class OffsetRanges:
    """A set of offsets as inclusive ranges, merged as it grows: small however many offsets there are."""

    def __init__(self, ranges: Sequence[Sequence[int]] = ()) -> None:
        self._ranges = [list(bounds) for bounds in ranges]

    def add(self, offset: int) -> None:
        at = bisect_right(self._ranges, [offset, offset])
        before = self._ranges[at - 1] if at else None
        after = self._ranges[at] if at < len(self._ranges) else None
        joins_before = before is not None and before[1] >= offset - 1
        joins_after = after is not None and after[0] <= offset + 1
        if before and after and joins_before and joins_after:
            before[1] = after[1]
            del self._ranges[at]
        elif before and joins_before:
            before[1] = max(before[1], offset)
        elif after and joins_after:
            after[0] = min(after[0], offset)
        else:
            self._ranges.insert(at, [offset, offset])

    def as_lists(self) -> list[list[int]]:
        return [list(bounds) for bounds in self._ranges]


@dataclass
class ShardPosition:
    """What a shard acknowledged: how many records, and the newest of them."""

    last: str = "0"
    records: int = 0

    def add(self, sequence_number: str) -> None:
        # Numbers of up to 56 digits: the longer is the larger, equal lengths compare as text.
        self.last = max(self.last, sequence_number, key=lambda number: (len(number), number))
        self.records += 1


@dataclass
class Report:
    """What became of a run's records."""

    posts: int
    seed: int
    order: Order
    tables: dict[str, Tally] = field(default_factory=lambda: {table: Tally() for table in TABLES})
    failures: list[dict[str, Any]] = field(default_factory=list)
    """The first hundred; the tallies are exact."""
    retriable: int = 0
    """How many of the failures another try may mend."""
    offsets: dict[str, dict[str, OffsetRanges]] = field(default_factory=dict)
    shards: dict[str, dict[str, ShardPosition]] = field(default_factory=dict)

    @property
    def drawn(self) -> int:
        """Posts drawn so far."""
        return self.tables["pin"].drawn

    @property
    def acknowledged(self) -> int:
        return sum(tally.acknowledged for tally in self.tables.values())

    @property
    def failed(self) -> int:
        return sum(tally.failed for tally in self.tables.values())

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it."""
        topics = {
            topic: {partition: ranges.as_lists() for partition, ranges in sorted(partitions.items())}
            for topic, partitions in self.offsets.items()
        }
        streams = {
            stream: {shard: {"last": at.last, "records": at.records} for shard, at in sorted(shards.items())}
            for stream, shards in self.shards.items()
        }
        return {
            "posts": self.posts,
            "seed": self.seed,
            "order": self.order,
            "tables": {table: vars(tally).copy() for table, tally in self.tables.items()},
            "failures": list(self.failures),
            "positions": topics | streams,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Report:
        """The report of a run without failures, from what `as_dict` made of it."""
        report = cls(told["posts"], told["seed"], told["order"])
        report.tables = {table: Tally(**counts) for table, counts in told["tables"].items()}
        for name, places in told["positions"].items():
            for place, at in places.items():
                if isinstance(at, dict):
                    report.shards.setdefault(name, {})[place] = ShardPosition(**at)
                else:
                    report.offsets.setdefault(name, {})[place] = OffsetRanges(at)
        return report

    def settle(self, table: str, number: int, destination: str, result: Any) -> None:
        """Count what became of one record."""
        tally = self.tables[table]
        if hasattr(result, "offset"):
            tally.acknowledged += 1
            partitions = self.offsets.setdefault(destination, {})
            partitions.setdefault(str(result.partition), OffsetRanges()).add(result.offset)
        elif hasattr(result, "sequence_number"):
            tally.acknowledged += 1
            shards = self.shards.setdefault(destination, {})
            shards.setdefault(result.shard_id, ShardPosition()).add(result.sequence_number)
        else:
            self.fail(table, number, result)

    def fail(self, table: str, number: int, failure: Failed) -> None:
        self.tables[table].failed += 1
        self.retriable += bool(getattr(failure, "retriable", True))
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append({
                "table": table,
                "number": number,
                "code": failure.code,
                "reason": failure.reason,
            })


def emulate(
    source: Source,
    sender: Sender,
    *,
    posts: int,
    seed: int = 100,
    order: Order = "classic",
    pace: Pace = None,
    batch_size: int = 500,
    progress: Progress | None = None,
    account: Progress | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Report:
    """Draw posts and send their records, table by table; return what became of each.

    :param posts: how many to draw; 0 draws none
    :param seed: starts the random generator of the classic order
    :param order: `classic` draws with replacement as the classic emulator does; `sequential` walks the posts
        once, by number
    :param pace: None sends as fast as it goes; `classic` pauses as the classic emulator does; a number sends
        that many posts a second
    :param batch_size: posts sent at once; a pace makes batches smaller
    :param progress: called with the report so far after each batch
    :param account: called with the report when an exception ends the run, before it propagates: an error of the
        source, but also a timeout or an interruption
    :param resume: an earlier report of the same posts, as a dict and without failures: what it tells of is not
        sent again, and is part of the new report
    :raises ValueError: an argument is out of range, or the sequential order has fewer posts than asked for
    :raises SourceError: the source went away
    """
    emulation = Emulation(
        source,
        sender,
        posts=posts,
        seed=seed,
        order=order,
        pace=pace,
        batch_size=batch_size,
        progress=progress,
        resume=resume,
    )
    try:
        return emulation.run()
    except BaseException as error:
        if account:
            _account_despite(error, account, emulation.report)
        raise


def _account_despite(error: BaseException, account: Progress, report: Report) -> None:
    try:
        account(report)
    except Exception as second:
        # What ended the run is what has to be mended first, so it is what is raised.
        error.add_note(f"Nor could the report be handed over: {second}")


class Emulation:
    """A run whose report can be read at any time, also after it was interrupted."""

    def __init__(
        self,
        source: Source,
        sender: Sender,
        *,
        posts: int,
        seed: int = 100,
        order: Order = "classic",
        pace: Pace = None,
        batch_size: int = 500,
        progress: Progress | None = None,
        resume: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        posts, seed = _whole("posts", posts), _whole("seed", seed)
        _check(source, posts, order, pace, batch_size)
        self.report = Report.from_dict(resume) if resume else Report(posts, seed, order)
        self._source = source
        self._sender = sender
        self._pace = pace
        self._batch_size = batch_size
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._fruitless = 0
        self._refusal: _Failure | None = None
        self._unsettled: Iterator[tuple[tuple[int, Record], Any]] = iter(())

    def run(self) -> Report:
        """Send everything; return the report, which is whole whatever ends the run."""
        report = self.report
        draws = draw(report.seed) if report.order == "classic" else self._walk()
        draws = islice(draws, report.drawn, report.posts)
        try:
            for numbers in self._batches(draws):
                self._send(numbers)
                if self._progress:
                    self._progress(report)
        except BaseException:
            self._settle_interrupted()
            raise
        return report

    def _walk(self) -> Iterator[tuple[float, int]]:
        return ((0.0, number) for number in self._source.numbers())

    def _batches(self, draws: Iterator[tuple[float, int]]) -> Iterator[list[int]]:
        """Numbers to send together: full batches, or with a pace what is due."""
        if self._pace is None:
            while batch := [number for _, number in islice(draws, self._batch_size)]:
                yield batch
            return
        due = started = self._clock()
        batch = []
        for index, (pause, number) in enumerate(draws):
            due = due + pause if self._pace == "classic" else started + index / float(self._pace)
            if due > self._clock() and not self._refusal:
                if batch:
                    yield batch
                    batch = []
                self._sleep(max(0.0, due - self._clock()))
            batch.append(number)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _send(self, numbers: list[int]) -> None:
        found = self._source.read(numbers)
        for table, tally in self.report.tables.items():
            records = [(number, found[table][number]) for number in numbers if number in found[table]]
            tally.drawn += len(numbers)
            tally.missing += len(numbers) - len(records)
            tally.sent += len(records)
            if records:
                self._send_table(table, records)

    def _send_table(self, table: str, records: list[tuple[int, Record]]) -> None:
        results: Sequence[Any] = []
        missing = INTERRUPTED
        try:
            results = self._refuse(records) or self._sender.send(table, records)
            missing = _Failure("no_result", "The sender gave no result for this record.")
        except Exception as error:
            # Whatever a sender raises, the report stays whole; nothing more is sent after it.
            results = getattr(error, "results", [])
            missing = _failure_of(error)
            self._refusal = _not_sent(f"sending had failed: {error}")
        except BaseException as error:
            results = getattr(error, "results", [])
            raise
        finally:
            self._unsettled = zip_longest(records, results[: len(records)])
            self._settle(table, missing)
        self._count_fruitless(results)

    def _settle(self, table: str, missing: _Failure) -> None:
        destination = self._sender.destination(table)
        for (number, _), result in self._unsettled:
            self.report.settle(table, number, destination, missing if result is None else result)

    def _settle_interrupted(self) -> None:
        """Count what was sent and is not settled: an interruption may come at any moment, also between two records."""
        for table, tally in self.report.tables.items():
            left = tally.sent - tally.acknowledged - tally.failed
            if left:
                self._settle(table, INTERRUPTED)
                lost = tally.sent - tally.acknowledged - tally.failed
                tally.failed += lost
                self.report.retriable += lost

    def _refuse(self, records: Sequence[object]) -> list[_Failure]:
        return [self._refusal] * len(records) if self._refusal else []

    def _count_fruitless(self, results: Sequence[Any]) -> None:
        if self._refusal or not results:
            return
        failures = [result for result in results if hasattr(result, "reason")]
        self._fruitless = self._fruitless + 1 if len(failures) == len(results) else 0
        if self._fruitless == FRUITLESS_SENDS:
            self._refusal = _not_sent(f"nothing was acknowledged any more: {failures[-1].reason}")


@dataclass(frozen=True)
class _Failure:
    code: str
    reason: str
    retriable: bool = True


INTERRUPTED = _Failure("interrupted", "The run was interrupted before an answer came.")


def _failure_of(error: Exception) -> _Failure:
    code = getattr(error, "code", None) or type(error).__name__
    return _Failure(code, str(error), getattr(error, "retriable", True))


def _not_sent(why: str) -> _Failure:
    # Whether another try may help is for the failures to say that it follows from.
    return _Failure("not_sent", f"Not sent, because {why}", retriable=False)


def draw(seed: int) -> Iterator[tuple[float, int]]:
    """The classic emulator's draws without end: the seconds it pauses first, and the post's number."""
    generator = random.Random(seed)
    while True:
        # Both come from one generator, in this order: left out, the pause would change every number.
        pause = generator.randrange(0, LONGEST_PAUSE)
        yield float(pause), generator.randint(0, LAST_DRAWN)


def _whole(name: str, value: Any) -> int:
    """Return a whole number, which JSON may write as 20.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {value!r}.")
    return value


def _check(source: Source, posts: int, order: str, pace: Pace, batch_size: int) -> None:
    if posts < 0:
        raise ValueError(f"posts must not be negative, but is {posts}.")
    if order not in {"classic", "sequential"}:
        raise ValueError(f"order must be classic or sequential, not {order!r}.")
    if (
        pace is not None
        and pace != "classic"
        and not (isinstance(pace, int | float) and 0 < pace < float("inf"))
    ):
        raise ValueError(f"pace must be classic or a positive number of posts a second, not {pace!r}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    if order == "sequential" and posts > (there := source.count()):
        raise ValueError(f"The sequential order has {there} posts to walk, fewer than the {posts} asked for.")
