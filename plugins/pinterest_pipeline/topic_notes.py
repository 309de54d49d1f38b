"""
Notes in the bucket on which topics its objects come from, and the check that it is still those.

An object is named by offsets, and offsets name a record in one topic only: a topic that was deleted and made anew,
or one of the same name in another cluster, begins at 0 again. The sink would stop at the objects of the earlier
topic, and the records would pass for read. So the first run notes each topic's id beside the objects, under
``kafka/``, where neither the sink writes nor the batch reads. Nothing here needs Airflow: ``make up`` uses it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pinterest_pipeline import offsets

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

DEAD_LETTERS = ".dead-letters"
# How far before a partition's end an object may start that reaches beyond it: flush.size of msk/connector.json.
LOOK_BACK = 10_000


class TopicConflict(Exception):
    """
    The bucket holds another topic's records, or the topic is no longer the one that was noted.

    :param problems: what is wrong with each topic.
    :param remedy: what to do about it.
    """

    def __init__(self, problems: Sequence[str], remedy: str) -> None:
        self.problems = list(problems)
        self.remedy = remedy
        super().__init__("\n".join([*problems, remedy]))


@dataclass(frozen=True)
class Topic:
    """
    What tells a topic from another one of its name.

    :param cluster_id: id of the Kafka cluster.
    :param topic_id: id that Kafka gave the topic when it was made.
    :param partitions: number of its partitions.
    """

    cluster_id: str
    topic_id: str
    partitions: int


class TopicNotes:
    """
    The notes of one bucket.

    :param admin: Kafka's admin client.
    :param s3: S3 client.
    :param bucket: bucket that the sink writes to.
    :param topics_dir: the sink's ``topics.dir``.
    """

    def __init__(self, admin: KafkaAdminClient, s3: Any, bucket: str, *, topics_dir: str = "topics") -> None:
        self._admin = admin
        self._s3 = s3
        self._bucket = bucket
        self._topics_dir = topics_dir

    def check(self, topics: Iterable[str], *, schema: str = "") -> dict[str, Topic]:
        """
        Return those of the topics that exist; change nothing.

        :param topics: names of the topics.
        :param schema: schema whose clean tables are filled from these topics; empty: unknown.
        :raises TopicConflict: a topic is not the one that the bucket holds records of.
        """
        wanted = list(topics)
        existing, cluster_id = self._describe(wanted)
        replaced = [
            problem
            for topic in wanted
            if (problem := self._replaced(topic, existing.get(topic), cluster_id)) is not None
        ]
        if replaced:
            raise TopicConflict(replaced, self._begin_anew(wanted))
        self._check_partitions(existing)
        self._check_schema(wanted, schema)
        return existing

    def write(self, topics: Iterable[str], *, schema: str = "") -> None:
        """
        Note those of the topics, and the schema, that are not noted yet.

        :raises TopicConflict: another cluster noted its topic of that name at the same time.
        """
        wanted = list(topics)
        existing, _ = self._describe(wanted)
        for topic, found in existing.items():
            if self._noted(topic) is None:
                self._put(_topic_key(topic), asdict(found))
        if schema and self._get(_schema_key(schema)) is None:
            self._put(_schema_key(schema), {"topics": sorted(wanted)})
        self.check(wanted, schema=schema)

    def _describe(self, topics: Sequence[str]) -> tuple[dict[str, Topic], str]:
        """Return the topics that exist, by their names, and the cluster's id."""
        from kafka import errors

        cluster_id = str(self._admin.describe_cluster()["cluster_id"])
        found: dict[str, Topic] = {}
        for each in self._admin.describe_topics(list(topics)):
            error = errors.for_code(each["error_code"])
            if error in {errors.NoError, errors.LeaderNotAvailableError}:
                found[each["name"]] = Topic(cluster_id, str(each["topic_id"]), len(each["partitions"]))
            elif error is not errors.UnknownTopicOrPartitionError:
                raise error(f"topic {each['name']}: {error.__name__}")
        return found, cluster_id

    def _replaced(self, topic: str, found: Topic | None, cluster_id: str) -> str | None:
        """Say why a topic is not the one that the bucket holds records of."""
        noted = self._noted(topic)
        if noted is None:
            return self._unlike_its_objects(topic, found)
        note = f"s3://{self._bucket}/{_topic_key(topic)}"
        if noted.cluster_id != cluster_id:
            return (
                f"Topic {topic}: the bucket holds records of Kafka cluster {noted.cluster_id} ({note}), "
                f"and this is cluster {cluster_id}."
            )
        if found is None:
            return (
                f"Topic {topic} was deleted: it is not in Kafka, but noted with id {noted.topic_id} ({note})."
            )
        if found.topic_id != noted.topic_id:
            return (
                f"Topic {topic} was deleted and made anew: its id is {found.topic_id}, "
                f"and {noted.topic_id} is noted ({note})."
            )
        return None

    def _unlike_its_objects(self, topic: str, found: Topic | None) -> str | None:
        """Say why the bucket's objects cannot come from a topic that is not noted; None: they can."""
        folders = (topic, topic + DEAD_LETTERS)
        partitions = {number: folder for folder in folders for number in self._partitions(folder)}
        if not partitions:
            return None
        held = f"the bucket holds records of it (s3://{self._bucket}/{self._topics_dir}/{topic}/)"
        if found is None:
            return f"Topic {topic} is not in Kafka, but {held}."
        if (most := max(partitions)) >= found.partitions:
            return f"Topic {topic} has {found.partitions} partition(s), but {held} from partition {most}."
        for number, end in self._ends(topic, found.partitions).items():
            last = max(self._last_offset(folder, number, end) for folder in folders)
            if last >= end:
                return f"Topic {topic} ends before offset {end} of partition {number}, but {held} up to offset {last}."
        return None

    def _partitions(self, folder: str) -> list[int]:
        prefix = f"{self._topics_dir}/{folder}/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        )
        names = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())]
        return [int(match[1]) for name in names if (match := re.search(r"/partition=([0-9]+)/$", name))]

    def _ends(self, topic: str, partitions: int) -> dict[int, int]:
        """Return for each partition the offset that its next record will get."""
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec

        latest = {TopicPartition(topic, number): OffsetSpec.LATEST for number in range(partitions)}
        found = self._admin.list_partition_offsets(latest)
        return {place.partition: each.offset for place, each in found.items()}

    def _last_offset(self, folder: str, partition: int, end: int) -> int:
        """Return the last offset that objects hold which start near `end` or behind it; -1: none do."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=offsets.partition_prefix(self._topics_dir, folder, partition),
            StartAfter=offsets.key_before(self._topics_dir, folder, partition, max(0, end - LOOK_BACK)),
        )
        found = [
            (first, each["Key"])
            for page in pages
            for each in page.get("Contents", ())
            if (first := offsets.first_offset(each["Key"])) is not None
        ]
        if not found:
            return -1
        first, key = max(found)
        return first if first >= end else first + self._lines(key) - 1

    def _lines(self, key: str) -> int:
        body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return int(body.count(b"\n")) + (not body.endswith(b"\n"))

    def _check_partitions(self, existing: Mapping[str, Topic]) -> None:
        problems = [
            f"Topic {topic} has {found.partitions} partitions, and {noted.partitions} are noted "
            f"(s3://{self._bucket}/{_topic_key(topic)})."
            for topic, found in existing.items()
            if (noted := self._noted(topic)) is not None and noted.partitions != found.partitions
        ]
        if problems:
            raise TopicConflict(
                problems,
                "A post's key leads to another partition since partitions were added, and versions of a post in "
                "different partitions have no order: an older one can win. Kafka takes no partition back: set "
                "[pinterest] prefix and schema to names that were not used here before. Where no post is ever sent "
                "in two versions, delete the notes instead and run this again.",
            )

    def _check_schema(self, topics: Sequence[str], schema: str) -> None:
        note = self._get(_schema_key(schema)) if schema else None
        if note is None or set(note["topics"]) & set(topics):
            return
        raise TopicConflict(
            [
                f"The clean tables of schema {schema} are filled from {', '.join(note['topics'])} "
                f"(s3://{self._bucket}/{_schema_key(schema)}), not from {', '.join(sorted(topics))}."
            ],
            "Offsets of the one would pass for offsets of the other, and new records for read. Set [pinterest] schema "
            "to a name of its own, as each prefix has. If that schema has no clean tables any more, delete the note "
            "instead and run this again.",
        )

    def _begin_anew(self, topics: Sequence[str]) -> str:
        folders = f"s3://{self._bucket}/{self._topics_dir}/"
        return (
            "A new topic begins at offset 0 again: the sink would stop at the objects of the earlier one, and its "
            "records would pass for read. Nothing was changed. To keep the records of both, set [pinterest] prefix "
            "and schema to names that were not used here before. To begin anew under this name: for each topic named "
            f"above, move the earlier topic's objects (below {folders}TOPIC/ and {folders}TOPIC{DEAD_LETTERS}/) and "
            f"its note (s3://{self._bucket}/{_topic_key('TOPIC')}) elsewhere, run this again, and then "
            'pinterest_daily_batch with {"full_refresh": true}: the clean tables then hold the new records only.'
        )

    def _noted(self, topic: str) -> Topic | None:
        note = self._get(_topic_key(topic))
        return None if note is None else Topic(**note)

    def _get(self, key: str) -> dict[str, Any] | None:
        try:
            body = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except self._s3.exceptions.NoSuchKey:
            return None
        note: dict[str, Any] = json.loads(body)
        return note

    def _put(self, key: str, note: Mapping[str, Any]) -> None:
        """Write a note; one that somebody else has just written stays, and is compared afterwards."""
        from botocore.exceptions import ClientError

        try:
            self._s3.put_object(
                Bucket=self._bucket, Key=key, Body=json.dumps(note, indent=1).encode(), IfNoneMatch="*"
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"PreconditionFailed", "ConditionalRequestConflict"}:
                raise


def _topic_key(topic: str) -> str:
    return f"kafka/topics/{topic}.json"


def _schema_key(schema: str) -> str:
    return f"kafka/schemas/{schema}.json"
