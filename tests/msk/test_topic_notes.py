"""create_topics on a real Kafka: it notices when a topic is not the one whose records the bucket holds."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import boto3
import pytest
from airflow.sdk.exceptions import AirflowFailException
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from local.kafka import acls
from local.kafka.throwaway import Broker
from local.stack import prepare, settings
from local.stack.errors import StackError
from pinterest_pipeline.exceptions import TopicsRefused
from pinterest_pipeline.operators.kafka import KafkaCreateTopicsOperator
from pinterest_pipeline.topic_notes import TopicConflict, TopicNotes
from tests.msk.conftest import airflow_connections

BUCKET = "notes"
TABLES = ("pin", "geo", "user")


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str) -> Any:
    urllib.request.urlopen(urllib.request.Request(f"{s3_url}/moto-api/reset", method="POST")).close()
    s3 = boto3.client(
        "s3", endpoint_url=s3_url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    s3.create_bucket(Bucket=BUCKET)
    return s3


class Pipeline:
    """The topics of one prefix and the bucket: what the task create_topics makes of them."""

    def __init__(self, broker: Broker, admin: KafkaAdminClient, s3: Any, prefix: str = "") -> None:
        self.broker, self.admin, self.s3 = broker, admin, s3
        self.prefix = prefix or f"notes_{uuid.uuid4().hex[:8]}"
        self.topic = f"{self.prefix}.pin"
        acls.grant(broker.client_settings(), prefix=self.prefix, tables=TABLES)

    def create_topics(self, *, schema: str = "pinterest", partitions: int = 3) -> list[str]:
        operator = KafkaCreateTopicsOperator(
            task_id="create_topics",
            topics=[f"{self.prefix}.{table}" for table in TABLES],
            partitions=partitions,
            bucket=BUCKET,
            schema=schema,
        )
        return operator.execute({})

    def refusal(self, **arguments: Any) -> str:
        """Return why create_topics refuses, which Airflow must not try again; nothing was created or written."""
        before = (self.topics(), self.keys())
        with pytest.raises(TopicsRefused) as refused:
            self.create_topics(**arguments)
        assert isinstance(refused.value, AirflowFailException)
        assert (self.topics(), self.keys()) == before
        return str(refused.value)

    def topics(self) -> list[str]:
        return sorted(name for name in self.admin.list_topics() if name.startswith(self.prefix))

    def keys(self) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def note(self, name: str) -> Any:
        return json.loads(self.s3.get_object(Bucket=BUCKET, Key=f"kafka/{name}.json")["Body"].read())

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])
        while topic in self.admin.list_topics():
            pass

    def make(self, topic: str, partitions: int = 3) -> None:
        self.admin.create_topics([NewTopic(topic, partitions, 1)])
        self.admin.wait_for_topics([topic])

    def send(self, records: int, partition: int = 0) -> None:
        producer = KafkaProducer(**self.broker.client_settings())
        for _ in range(records):
            producer.send(self.topic, b"{}", partition=partition).get(10)
        producer.close()

    def land(self, first: int, lines: int, partition: int = 0, folder: str = "") -> None:
        folder = self.topic + folder
        key = f"topics/{folder}/partition={partition}/{folder}+{partition}+{first:010d}.json"
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"{}\n" * lines)

    def move_away(self) -> None:
        """Do what the refusal says: objects and note elsewhere."""
        for key in self.keys():
            if key.startswith((f"topics/{self.topic}/", f"topics/{self.topic}.dead-letters/")) or key == (
                f"kafka/topics/{self.topic}.json"
            ):
                self.s3.copy_object(Bucket=BUCKET, CopySource=f"{BUCKET}/{key}", Key=f"before/{key}")
                self.s3.delete_object(Bucket=BUCKET, Key=key)


@pytest.fixture
def pipeline(
    kafka_broker: Broker,
    kafka_admin: KafkaAdminClient,
    s3: Any,
    s3_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Pipeline:
    for name, value in airflow_connections(kafka_broker, s3_url).items():
        monkeypatch.setenv(name, value)
    return Pipeline(kafka_broker, kafka_admin, s3)


def test_a_first_run_creates_and_notes_and_the_next_changes_nothing(pipeline: Pipeline) -> None:
    assert pipeline.create_topics() == [f"{pipeline.prefix}.{table}" for table in TABLES]
    (described,) = pipeline.admin.describe_topics([pipeline.topic])
    assert pipeline.note(f"topics/{pipeline.topic}") == {
        "cluster_id": pipeline.admin.describe_cluster()["cluster_id"],
        "topic_id": str(described["topic_id"]),
        "partitions": 3,
    }
    assert pipeline.note("schemas/pinterest") == {
        "topics": sorted(f"{pipeline.prefix}.{table}" for table in TABLES)
    }
    keys = pipeline.keys()
    pipeline.send(2)
    pipeline.land(0, 2)
    assert pipeline.create_topics() == []
    assert pipeline.keys() == sorted([
        *keys,
        f"topics/{pipeline.topic}/partition=0/{pipeline.topic}+0+0000000000.json",
    ])


def test_a_topic_that_was_deleted_is_not_made_anew(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    pipeline.delete(pipeline.topic)
    text = pipeline.refusal()
    assert text.startswith(f"Topic {pipeline.topic} was deleted: it is not in Kafka, but noted with id ")
    assert f"{pipeline.prefix}.geo" not in text
    assert 'pinterest_daily_batch with {"full_refresh": true}' in text


def test_a_topic_that_was_made_anew_by_hand_is_noticed(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    pipeline.delete(pipeline.topic)
    pipeline.make(pipeline.topic)
    assert pipeline.refusal().startswith(f"Topic {pipeline.topic} was deleted and made anew: its id is ")


def test_the_bucket_of_another_cluster_is_noticed_before_a_topic_is_made(pipeline: Pipeline) -> None:
    """Whether this cluster has topics of these names or not: another's are not these."""
    noted = {"cluster_id": "another-cluster", "topic_id": str(uuid.uuid4()), "partitions": 3}
    for present in (False, True):
        if present:
            pipeline.make(pipeline.topic)
        pipeline.s3.put_object(
            Bucket=BUCKET, Key=f"kafka/topics/{pipeline.topic}.json", Body=json.dumps(noted).encode()
        )
        text = pipeline.refusal()
        assert text.startswith(
            f"Topic {pipeline.topic}: the bucket holds records of Kafka cluster another-cluster "
            f"(s3://{BUCKET}/kafka/topics/{pipeline.topic}.json), and this is cluster "
        )


def test_what_the_refusal_says_to_do_works(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    pipeline.send(3)
    pipeline.land(0, 3)
    pipeline.land(3, 1, folder=".dead-letters")
    pipeline.delete(pipeline.topic)
    pipeline.refusal()
    pipeline.move_away()
    assert pipeline.create_topics() == [pipeline.topic]
    assert pipeline.create_topics() == []
    # or a prefix and a schema of their own
    other = Pipeline(pipeline.broker, pipeline.admin, pipeline.s3)
    assert len(other.create_topics(schema="another")) == 3


@pytest.mark.parametrize("folder", ["", ".dead-letters"])
def test_a_topic_that_is_missing_while_the_bucket_holds_its_records_is_not_made(
    pipeline: Pipeline, folder: str
) -> None:
    pipeline.land(0, 200, folder=folder)
    text = pipeline.refusal()
    assert text.startswith(
        f"Topic {pipeline.topic} is not in Kafka, but the bucket holds records of it "
        f"(s3://{BUCKET}/topics/{pipeline.topic}/)."
    )


def test_a_deployment_without_notes_is_adopted(pipeline: Pipeline) -> None:
    pipeline.make(pipeline.topic)
    pipeline.send(5)
    pipeline.send(1, partition=2)
    for first, lines, partition, folder in [
        (0, 3, 0, ""),
        (3, 1, 0, ".dead-letters"),
        (4, 1, 0, ""),
        (0, 1, 2, ""),
    ]:
        pipeline.land(first, lines, partition, folder)
    assert pipeline.create_topics() == [f"{pipeline.prefix}.geo", f"{pipeline.prefix}.user"]
    assert pipeline.note(f"topics/{pipeline.topic}")["partitions"] == 3
    pipeline.delete(pipeline.topic)
    pipeline.make(pipeline.topic)
    assert "was deleted and made anew" in pipeline.refusal()


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ([(0, 200, 0, "")], "ends before offset 2 of partition 0, but the bucket holds records of it"),
        ([(0, 3, 0, "")], "up to offset 2."),
        ([(0, 2, 0, ""), (2, 1, 0, ".dead-letters")], "up to offset 2."),
        ([(50_000, 1, 0, "")], "up to offset 50000."),
        ([(0, 1, 1, "")], "ends before offset 0 of partition 1"),
        ([(0, 1, 3, "")], "has 3 partition(s), but the bucket holds records of it"),
    ],
)
def test_without_notes_objects_beyond_the_topics_end_are_another_topics(
    pipeline: Pipeline, objects: list[tuple[int, int, int, str]], says: str
) -> None:
    pipeline.make(pipeline.topic)
    pipeline.send(2)
    for first, lines, partition, folder in objects:
        pipeline.land(first, lines, partition, folder)
    assert says in pipeline.refusal()


def test_partitions_that_were_added_are_noticed(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    pipeline.admin.create_partitions({pipeline.topic: 6})
    while len(pipeline.admin.describe_topics([pipeline.topic])[0]["partitions"]) < 6:
        pass
    text = pipeline.refusal()
    assert text.startswith(f"Topic {pipeline.topic} has 6 partitions, and 3 are noted ")
    assert "an older one can win" in text
    # whoever sends no post in two versions takes the notes away, as it says
    pipeline.s3.delete_object(Bucket=BUCKET, Key=f"kafka/topics/{pipeline.topic}.json")
    assert pipeline.create_topics() == []
    assert pipeline.note(f"topics/{pipeline.topic}")["partitions"] == 6


def test_a_setting_that_differs_from_an_existing_topic_is_reported(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_topics()
    log = mock.Mock()
    monkeypatch.setattr(KafkaCreateTopicsOperator, "log", log)

    def said() -> list[str]:
        """What was told of topics; Airflow itself may warn that no task runner calls the operator."""
        lines = [call.args[0] % call.args[1:] for call in log.warning.call_args_list]
        return [line for line in lines if line.startswith("Topic ")]

    for setting in (3, -1):
        assert pipeline.create_topics(partitions=setting) == []
    assert said() == []
    assert pipeline.create_topics(partitions=6) == []
    assert said() == [
        f"Topic {pipeline.prefix}.{table} has 3 partition(s), and keeps them: 6 is what a new topic would get."
        for table in TABLES
    ]


def test_a_schema_that_another_prefix_fills_is_refused(pipeline: Pipeline) -> None:
    pipeline.create_topics()
    other = Pipeline(pipeline.broker, pipeline.admin, pipeline.s3)
    text = other.refusal()
    assert text.startswith(
        f"The clean tables of schema pinterest are filled from {pipeline.prefix}.geo, {pipeline.topic}, "
    )
    assert "Set [pinterest] schema to a name of its own" in text
    assert len(other.create_topics(schema="main.another")) == 3
    assert pipeline.create_topics() == []


def test_of_two_clusters_that_note_a_topic_at_once_one_is_refused(pipeline: Pipeline) -> None:
    notes = TopicNotes(pipeline.admin, pipeline.s3, BUCKET)
    assert notes.check([pipeline.topic]) == {}
    pipeline.make(pipeline.topic)
    noted = {"cluster_id": "another-cluster", "topic_id": str(uuid.uuid4()), "partitions": 3}
    reads = iter([None])  # at the first look there is no note yet

    class Racing(TopicNotes):
        def _get(self, key: str) -> dict[str, Any] | None:
            for answer in reads:
                pipeline.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(noted).encode())
                return answer
            return super()._get(key)

    with pytest.raises(TopicConflict, match="another-cluster"):
        Racing(pipeline.admin, pipeline.s3, BUCKET).write([pipeline.topic])
    assert pipeline.note(f"topics/{pipeline.topic}") == noted


def test_who_may_not_see_a_topic_is_not_told_that_it_is_gone(
    pipeline: Pipeline, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.create_topics()
    pipeline.make(f"{pipeline.prefix}_hidden.pin")
    hidden = KafkaAdminClient(**pipeline.broker.client_settings("airflow"))
    with pytest.raises(Exception, match="AuthorizationFailed"):
        TopicNotes(hidden, pipeline.s3, BUCKET).check([f"{pipeline.prefix}_hidden.pin"])
    hidden.close()


def test_make_up_compares_too(
    kafka_broker: Broker, kafka_admin: KafkaAdminClient, s3: Any, s3_url: str, tmp_path: Path
) -> None:
    """A folder whose Kafka data were removed while the bucket was kept."""
    made = settings.load_or_create(tmp_path / "home")
    stack = replace(
        made,
        ports=made.ports | {"kafka": kafka_broker.port, "aws": int(s3_url.rpartition(":")[2])},
        credentials=made.credentials | {"kafka_password": kafka_broker.client.password},
    )
    s3.create_bucket(Bucket=stack.bucket)
    for _ in range(2):
        prepare.create_topics(stack)
    names = {f"pinterest.{table}" for table in (*TABLES, "dead-letter")}
    assert {name for name in kafka_admin.list_topics() if name.startswith("pinterest.")} == names
    kafka_admin.delete_topics(list(names))
    while names & set(kafka_admin.list_topics()):
        pass
    with pytest.raises(StackError) as refused:
        prepare.create_topics(stack)
    for table in TABLES:
        assert f"Topic pinterest.{table} was deleted: it is not in Kafka, but noted" in str(refused.value)
    assert "`make reset` forgets all data" in str(refused.value)
    assert not names & set(kafka_admin.list_topics())
