"""The batch way in: what the sink has put into the bucket since the last run → a clean table.

``take_in`` is all a notebook calls. Whatever stops it, at any line, the next call goes on from there, and ends
in the same rows and the same counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from pinterest_lake import objects, reading
from pinterest_lake.intake import Intake, Weighed
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import ACCEPT, INCREMENT, REFRESH, RETRY, Counts, Ledger, Step
from pinterest_lake.objects import Lister, Progress, Range, SinkObject, StorageError, Take, TopicNote
from pinterest_lake.schemas import TOPICS
from pinterest_lake.tables import create_clean_table, create_shared_tables, kept


def take_in(
    spark: SparkSession,
    lake: Lake,
    table: str,
    lister: Lister,
    *,
    full_refresh: bool = False,
    retry_quarantined: bool = False,
    accept_missing: bool = False,
) -> tuple[Counts, Counts]:
    """Takes all new records of ``table`` (pin, geo or user) in; gives the counts of this run and of all runs.

    ``full_refresh`` reads every object again and puts the result in the place of what there was.
    ``retry_quarantined`` judges what is held in quarantine by the rules of now; a refresh does so anyway.
    ``accept_missing`` takes the offsets that no object holds for lost, so that they are missing no more.
    Raises StorageError when the objects cannot be listed, or are not those of the topic that was read so far.
    """
    create_shared_tables(spark, lake)
    create_clean_table(spark, lake, table, TOPICS)
    batch = Batch(Intake(spark, lake, table, TOPICS), Ledger(spark, lake, table), lister)
    if not full_refresh:  # a refresh reads again whatever a run that died had begun to read
        batch.finish_pending()
    batch.advance(refresh=full_refresh)
    if retry_quarantined and not full_refresh:
        batch.retry()
    if accept_missing:
        batch.accept_missing()
    return batch.ledger.counts()


@dataclass(frozen=True)
class Batch:
    """The steps of one table."""

    intake: Intake
    ledger: Ledger
    lister: Lister

    def advance(self, *, refresh: bool) -> None:
        """Plans and takes one step over everything that is new, or over everything there is."""
        state = self.ledger.state()
        progress = {} if refresh else objects.load_progress(state.progress)
        life = None if refresh else objects.life_of(state.progress)
        listed, note = self._list(progress, life)
        found = objects.candidates(listed, progress)
        if not found and not refresh:
            return
        with (
            self._read(found, progress, None) as (records, takes, lengths),
            kept(self.intake.judged(records, refresh=refresh), self.intake.lake) as verdicts,
        ):
            objects.check_claims(listed, objects.ends(progress, lengths))
            after = _after(progress, found, lengths, objects.settled(listed))
            weighed = self.intake.weigh(records, verdicts)
            plan = Step(
                interval=(state.pending or state).interval + 1,
                kind=REFRESH if refresh else INCREMENT,
                counts=weighed.counts,
                taken=_taken(takes),
                progress=objects.dump_progress(after, note.life if note else life),
            )
            plan = self.ledger.plan(plan)
            self._carry_out(plan, records, weighed)

    def finish_pending(self) -> None:
        """Carries out a step that an earlier run has planned and not ended: the same offsets, whatever came since."""
        state = self.ledger.state()
        plan = state.pending
        if plan is None:
            return
        if plan.kind == ACCEPT:
            self.ledger.commit(plan)
            return
        if plan.kind == RETRY:
            with self._held(_wanted(plan)) as records:
                self._release(plan, records)
            return
        refresh = plan.kind == REFRESH
        progress = {} if refresh else objects.load_progress(state.progress)
        wanted = _wanted(plan)
        last = {partition: max(end for _, end in ranges) for partition, ranges in wanted.items()}
        listed, _ = self._list(progress, objects.life_of(plan.progress))
        found = [
            item for item in objects.candidates(listed, progress) if item.first < last.get(item.partition, 0)
        ]
        with self._read(found, progress, wanted) as (records, takes, _):
            again = _taken(takes)
            if again != {partition: [tuple(r) for r in ranges] for partition, ranges in plan.taken.items()}:
                raise StorageError(
                    f"{self.intake.name}: an earlier run had begun to read {plan.taken}, but the bucket now holds "
                    f"only {again} of it. Put the objects back, or run with full_refresh=true."
                )
            with kept(self.intake.judged(records, refresh=refresh), self.intake.lake) as verdicts:
                self._carry_out(plan, records, self.intake.weigh(records, verdicts))

    def retry(self) -> None:
        """Judges what is held by the rules of now: what can be read joins the table at its old position."""
        with self._held(None) as records:
            changed = records.where(~F.col("reason").eqNullSafe(F.col("_held_for")))
            moves = changed.groupBy("_held_for", "reason").count().collect()
            if not moves:
                return
            state = self.ledger.state()
            positions = changed.select("_partition", "_offset").collect()
            readable = changed.where(F.col("reason").isNull())
            with kept(self.intake.judged(readable, refresh=False), self.intake.lake) as verdicts:
                counts = self.intake.weigh(readable, verdicts).counts
            plan = Step(
                interval=state.interval + 1,
                kind=RETRY,
                counts=replace(counts, read=0, quarantined=-counts.read, by_reason=_moved(moves)),
                taken=_ranges((partition, offset, offset + 1) for partition, offset in positions),
                progress=state.progress,
            )
            self.ledger.plan(plan)
            self._release(plan, changed)

    def accept_missing(self) -> None:
        """Write down that the offsets that are missing by now are lost."""
        missing = self.ledger.missing()
        if not missing:
            return
        for partition, ranges in missing.items():
            print(
                f"{self.intake.name}: accepted as lost: offsets {objects.told(ranges)} of partition {partition}"
            )
        state = self.ledger.state()
        taken = _ranges((partition, a, b) for partition, ranges in missing.items() for a, b in ranges)
        plan = Step(state.interval + 1, ACCEPT, Counts(), taken=taken, progress=state.progress)
        self.ledger.plan(plan)
        self.ledger.commit(plan)

    @contextmanager
    def _held(self, wanted: Mapping[int, Sequence[Range]] | None) -> Iterator[DataFrame]:
        """What is held in quarantine, read by the rules of now; ``_held_for`` is why it is there."""
        held = self.intake.held()
        if wanted is not None:
            spark = self.intake.spark
            rows = [(partition, a, b) for partition, ranges in wanted.items() for a, b in ranges]
            planned = spark.createDataFrame(rows, "_of int, _start long, _end long")
            within = (F.col("_partition") == F.col("_of")) & F.col("_offset").between(
                F.col("_start"), F.col("_end") - 1
            )
            held = held.join(F.broadcast(planned), on=within, how="left_semi")
        with kept(self.intake.records(held), self.intake.lake) as records:
            yield records

    def _release(self, plan: Step, records: DataFrame) -> None:
        """Writes what can be read into the table, and then takes it out of quarantine: repeating both is harmless."""
        readable = records.where(F.col("reason").isNull())
        with kept(self.intake.judged(readable, refresh=False), self.intake.lake) as verdicts:
            self.intake.write(readable, self.intake.weigh(readable, verdicts))
        self.intake.release(records)
        self.ledger.commit(plan)

    def _carry_out(self, plan: Step, records: DataFrame, weighed: Weighed) -> None:
        refresh = plan.kind == REFRESH
        if plan.counts.read or refresh:
            writer = self.ledger.identity()
            self.intake.write(records, weighed, writer=writer, interval=plan.interval, refresh=refresh)
        self.ledger.commit(plan)

    def _list(self, progress: Progress, life: str | None) -> tuple[list[SinkObject], TopicNote | None]:
        """List the objects of both folders, and read what is noted of the topic.

        The topic's own folder comes first, which ``objects.settled`` relies on. Raises PositionError when the objects
        cannot be of the topic that was read so far, whose ``life`` is known to the ledger.
        """
        topic = self.intake.lake.feed(self.intake.table, TOPICS)
        note = reading.topic_note(self.intake.spark, self.lister, topic)
        folders = (topic, topic + objects.DEAD_LETTERS)
        if note:
            note.check_life(topic, life)
        listed = [item for folder in folders for item in objects.find(self.lister, folder, progress)]
        if note:
            note.check_partitions(topic, listed)
        objects.check_claims(listed, objects.ends(progress, {}))
        return listed, note

    @contextmanager
    def _read(
        self,
        found: Sequence[SinkObject],
        progress: Progress,
        wanted: Mapping[int, Sequence[Range]] | None,
    ) -> Iterator[tuple[DataFrame, list[Take], dict[tuple[int, int], int]]]:
        """The records to take of the objects, what is taken of which, and the lines of each."""
        files = reading.read_objects(self.intake.spark, [item.path for item in found])
        with kept(self.intake.records(reading.lines(files)), self.intake.lake) as read:
            lengths = reading.lengths(read)
            takes = objects.assign(lengths, progress, wanted)
            yield reading.take(read, takes), takes, lengths


def _taken(takes: Sequence[Take]) -> dict[str, list[Range]]:
    return _ranges((item.partition, item.start, item.end) for item in takes)


def _ranges(pieces: Iterable[tuple[int, int, int]]) -> dict[str, list[Range]]:
    """Pieces (partition, start, end) as the ledger keeps them."""
    found: dict[int, list[Range]] = {}
    for partition, start, end in pieces:
        found.setdefault(partition, []).append((start, end))
    return {str(partition): objects.merged(ranges) for partition, ranges in sorted(found.items())}


def _moved(moves: Iterable[Row]) -> dict[str, int]:
    """How many records more, or fewer, are held for each reason, when ``_held_for`` becomes ``reason``."""
    by_reason: dict[str, int] = {}
    for before, now, count in moves:
        for reason, change in ((before, -count), (now, count)):
            if reason is not None:
                by_reason[reason] = by_reason.get(reason, 0) + change
    return by_reason


def _wanted(plan: Step) -> dict[int, list[Range]]:
    """The ranges of a plan, as they were planned."""
    return {int(partition): [(a, b) for a, b in ranges] for partition, ranges in plan.taken.items()}


def _after(
    progress: Progress,
    found: Sequence[SinkObject],
    lengths: Mapping[tuple[int, int], int],
    settled: Mapping[int, int],
) -> Progress:
    """The progress once the objects are read."""
    after = dict(progress)
    for partition in {item.partition for item in found}:
        read = [
            (item.first, item.first + lengths.get((partition, item.first), 0), item.size)
            for item in found
            if item.partition == partition
        ]
        before = after.get(partition, objects.PartitionProgress())
        after[partition] = before.advanced(read, settled.get(partition, 0))
    return after
