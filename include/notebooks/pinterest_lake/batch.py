"""The batch way in: what the sink has put into the bucket since the last run → a clean table.

``take_in`` is all a notebook calls. Whatever stops it, at any line, the next call goes on from there, and ends
in the same rows and the same counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import SparkSession

from pinterest_lake import objects, reading
from pinterest_lake.intake import Intake
from pinterest_lake.lake import Lake
from pinterest_lake.ledger import INCREMENT, REFRESH, Counts, State, Step
from pinterest_lake.objects import Lister, Progress, Range, SinkObject, Take
from pinterest_lake.schemas import TOPICS
from pinterest_lake.tables import create_shared_tables, kept


def take_in(
    spark: SparkSession, lake: Lake, table: str, lister: Lister, *, full_refresh: bool = False
) -> tuple[Counts, Counts]:
    """Takes all new records of ``table`` (pin, geo or user) in; gives the counts of this run and of all runs.

    ``full_refresh`` reads every object again and puts the result in the place of what there was.
    Raises StorageError when the objects cannot be listed.
    """
    create_shared_tables(spark, lake)
    intake = Intake(spark, lake, table, TOPICS)
    state = intake.ledger.state()
    if state.pending is not None:
        _finish(intake, lister, state, state.pending)
        state = intake.ledger.state()
    _advance(intake, lister, state, refresh=full_refresh)
    return intake.ledger.counts()


def _advance(intake: Intake, lister: Lister, state: State, *, refresh: bool) -> None:
    """Plans and takes one step over everything that is new."""
    progress = {} if refresh else objects.load_progress(state.progress)
    found = _find(intake, lister, progress)
    if found or refresh:
        kind = REFRESH if refresh else INCREMENT
        _step(intake, found, progress, interval=state.interval + 1, kind=kind)


def _finish(intake: Intake, lister: Lister, state: State, plan: Step) -> None:
    """Carries out a step that an earlier run has planned and not ended: the same offsets, whatever came since."""
    progress = {} if plan.kind == REFRESH else objects.load_progress(state.progress)
    wanted = {int(partition): [(a, b) for a, b in ranges] for partition, ranges in plan.taken.items()}
    last = {partition: max(end for _, end in ranges) for partition, ranges in wanted.items()}
    found = [item for item in _find(intake, lister, progress) if item.first < last.get(item.partition, 0)]
    _step(intake, found, progress, interval=plan.interval, kind=plan.kind, plan=plan, wanted=wanted)


def _find(intake: Intake, lister: Lister, progress: Progress) -> list[SinkObject]:
    topic = intake.lake.feed(intake.table, TOPICS)
    return objects.candidates(objects.find(lister, topic, progress), progress)


def _step(
    intake: Intake,
    found: Sequence[SinkObject],
    progress: Progress,
    *,
    interval: int,
    kind: str,
    plan: Step | None = None,
    wanted: Mapping[int, Sequence[Range]] | None = None,
) -> None:
    read = intake.records(reading.lines(reading.read_objects(intake.spark, [item.path for item in found])))
    with kept(read) as read:
        lengths = reading.lengths(read)
        takes = objects.assign(lengths, progress, wanted)
        records = reading.take(read, takes, lengths)
        with kept(intake.judged(records, refresh=kind == REFRESH)) as verdicts:
            weighed = intake.weigh(records, verdicts)
            if plan is None:
                plan = Step(interval, kind, weighed.counts, _taken(takes), _after(progress, found, lengths))
                intake.ledger.plan(plan)
            intake.write(records, weighed, plan)
            intake.ledger.commit(plan)


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
