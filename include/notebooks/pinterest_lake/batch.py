"""The batch way in: what the sink has put into the bucket since the last run → a clean table.

``take_in`` is all a notebook calls. Whatever stops it, at any line, the next call goes on from there, and ends
in the same rows and the same counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from pinterest_lake import objects, reading
from pinterest_lake.intake import Intake, Weighed
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import INCREMENT, REFRESH, Counts, Ledger, Step
from pinterest_lake.objects import Lister, Progress, Range, SinkObject, StorageError, Take
from pinterest_lake.schemas import TOPICS
from pinterest_lake.tables import create_clean_table, create_shared_tables, kept


def take_in(
    spark: SparkSession, lake: Lake, table: str, lister: Lister, *, full_refresh: bool = False
) -> tuple[Counts, Counts]:
    """Takes all new records of ``table`` (pin, geo or user) in; gives the counts of this run and of all runs.

    ``full_refresh`` reads every object again and puts the result in the place of what there was.
    Raises StorageError when the objects cannot be listed.
    """
    create_shared_tables(spark, lake)
    create_clean_table(spark, lake, table, TOPICS)
    batch = Batch(Intake(spark, lake, table, TOPICS), Ledger(spark, lake, table), lister)
    if not full_refresh:  # a refresh reads again whatever a run that died had begun to read
        batch.finish_pending()
    batch.advance(refresh=full_refresh)
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
        found = self._find(progress)
        if not found and not refresh:
            return
        with (
            self._read(found, progress, None) as (records, takes, lengths),
            kept(self.intake.judged(records, refresh=refresh)) as verdicts,
        ):
            weighed = self.intake.weigh(records, verdicts)
            plan = Step(
                interval=(state.pending or state).interval + 1,
                kind=REFRESH if refresh else INCREMENT,
                counts=weighed.counts,
                taken=_taken(takes),
                progress=_after(progress, found, lengths),
            )
            self.ledger.plan(plan)
            self._carry_out(plan, records, weighed)

    def finish_pending(self) -> None:
        """Carries out a step that an earlier run has planned and not ended: the same offsets, whatever came since."""
        state = self.ledger.state()
        plan = state.pending
        if plan is None:
            return
        refresh = plan.kind == REFRESH
        progress = {} if refresh else objects.load_progress(state.progress)
        wanted = {int(partition): [(a, b) for a, b in ranges] for partition, ranges in plan.taken.items()}
        last = {partition: max(end for _, end in ranges) for partition, ranges in wanted.items()}
        found = [item for item in self._find(progress) if item.first < last.get(item.partition, 0)]
        with self._read(found, progress, wanted) as (records, takes, _):
            again = _taken(takes)
            if again != {partition: [tuple(r) for r in ranges] for partition, ranges in plan.taken.items()}:
                raise StorageError(
                    f"{self.intake.name}: an earlier run had begun to read {plan.taken}, but the bucket now holds "
                    f"only {again} of it. Put the objects back, or run with full_refresh=true."
                )
            with kept(self.intake.judged(records, refresh=refresh)) as verdicts:
                self._carry_out(plan, records, self.intake.weigh(records, verdicts))

    def _carry_out(self, plan: Step, records: DataFrame, weighed: Weighed) -> None:
        refresh = plan.kind == REFRESH
        if plan.counts.read or refresh:
            writer = self.ledger.identity()
            self.intake.write(records, weighed, writer=writer, interval=plan.interval, refresh=refresh)
        self.ledger.commit(plan)

    def _find(self, progress: Progress) -> list[SinkObject]:
        topic = self.intake.lake.feed(self.intake.table, TOPICS)
        return objects.candidates(objects.find(self.lister, topic, progress), progress)

    @contextmanager
    def _read(
        self,
        found: Sequence[SinkObject],
        progress: Progress,
        wanted: Mapping[int, Sequence[Range]] | None,
    ) -> Iterator[tuple[DataFrame, list[Take], dict[tuple[int, int], int]]]:
        """The records to take of the objects, what is taken of which, and the lines of each."""
        files = reading.read_objects(self.intake.spark, [item.path for item in found])
        with kept(self.intake.records(reading.lines(files))) as read:
            lengths = reading.lengths(read)
            takes = objects.assign(lengths, progress, wanted)
            yield reading.take(read, takes, lengths), takes, lengths


def _taken(takes: Sequence[Take]) -> dict[str, list[Range]]:
    partitions = sorted({item.partition for item in takes})
    return {
        str(partition): objects.merged(
            (item.start, item.end) for item in takes if item.partition == partition
        )
        for partition in partitions
    }


def _after(
    progress: Progress, found: Sequence[SinkObject], lengths: Mapping[tuple[int, int], int]
) -> dict[str, object]:
    """The progress once the objects are read, as JSON keeps it."""
    after = dict(progress)
    for partition in {item.partition for item in found}:
        read = [
            (item.first, item.first + lengths.get((partition, item.first), 0), item.size)
            for item in found
            if item.partition == partition
        ]
        after[partition] = after.get(partition, objects.PartitionProgress()).advanced(read)
    return objects.dump_progress(after)
