"""All sensors defer to a trigger; what differs is which, and with what."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import time_machine
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from pinterest_pipeline.exceptions import ReportMissing, WaitFailed
from pinterest_pipeline.sensors.base import PollingSensor
from pinterest_pipeline.sensors.kinesis import KinesisStreamStatusSensor, StreamCommittedSensor
from pinterest_pipeline.sensors.msk_connect import MskConnectConnectorStateSensor
from pinterest_pipeline.sensors.s3_sink import S3SinkLandedSensor
from pinterest_pipeline.triggers.base import Look, PollingTrigger

SENSORS: list[tuple[type[PollingSensor[Any]], dict[str, Any]]] = [
    (KinesisStreamStatusSensor, {"stream_names": ["a"], "target_status": "ACTIVE"}),
    (MskConnectConnectorStateSensor, {"connector_name": "sink", "target_state": "RUNNING"}),
    (S3SinkLandedSensor, {"positions": {"t": {"0": [[0, 1]]}}, "bucket": "b", "topics_dir": "topics"}),
    (
        StreamCommittedSensor,
        {
            "positions": {"s": {"shard": {"last": "1", "records": 1}}},
            "stream_names": ["s"],
            "bucket": "b",
            "progress_key": "k",
            "databricks_run_id": 42,
            "databricks_conn_id": "databricks_default",
        },
    ),
]


NOON = time_machine.travel(1_900_000_000, tick=False)


def first_look(seen: Look) -> Any:
    return mock.patch.object(PollingTrigger, "look", autospec=True, return_value=seen)


@pytest.mark.parametrize(("sensor", "arguments"), SENSORS)
def test_it_defers_to_its_trigger(sensor: Any, arguments: dict[str, Any]) -> None:
    made = sensor(task_id="t", poke_interval=3, timeout=100, aws_conn_id="other", **arguments)
    with NOON, first_look(Look("not yet")), pytest.raises(TaskDeferred) as deferred:
        made.execute({})
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout is None, "the trigger itself says what is missing in time"
    path, serialized = deferred.value.trigger.serialize()
    assert path.endswith(sensor.__name__.removesuffix("Sensor") + "Trigger")
    assert serialized["poll_interval"] == 3
    assert serialized["end_time"] == 1_900_000_100
    assert serialized["aws_conn_id"] == "other"
    serialized.pop("since", None)
    assert arguments.items() <= serialized.items()


@pytest.mark.parametrize(("sensor", "arguments"), SENSORS)
def test_it_defers_only_if_there_is_something_to_wait_for(sensor: Any, arguments: dict[str, Any]) -> None:
    made = sensor(task_id="t", **arguments)
    with first_look(Look("there", done=True, value={"n": 1})):
        assert made.execute({}) == {"n": 1}
    with first_look(Look("dead", hopeless=True)), pytest.raises(WaitFailed, match="dead"):
        made.execute({})


@pytest.mark.parametrize(("sensor", "arguments"), SENSORS)
def test_what_the_event_says_becomes_of_the_task(sensor: Any, arguments: dict[str, Any]) -> None:
    made = sensor(task_id="t", timeout=100, **arguments)
    assert made.execute_complete({}, {"status": "success", "message": "", "value": {"n": 1}}) == {"n": 1}
    with pytest.raises(AirflowSensorTimeout, match=r"Gave up after 100 s: two missing\."):
        made.execute_complete({}, {"status": "timeout", "message": "two missing", "value": None})
    with pytest.raises(WaitFailed, match="dead") as failed:
        made.execute_complete({}, {"status": "error", "message": "dead", "value": None})
    assert isinstance(failed.value, AirflowFailException), "a retry would only wait again"


def test_without_a_report_there_is_nothing_to_wait_for() -> None:
    sensor = S3SinkLandedSensor(task_id="t", positions=None, bucket="b")
    with pytest.raises(ReportMissing, match="emulate has left no report"):
        sensor.execute({})


def test_what_comes_through_templates_is_converted() -> None:
    sensor = StreamCommittedSensor(
        task_id="t", positions=None, stream_names=["s"], bucket="b", progress_key="k", databricks_run_id="7"
    )
    with NOON, first_look(Look("not yet")), pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert deferred.value.trigger.positions == {}
    assert deferred.value.trigger.databricks_run_id == 7
    assert deferred.value.trigger.since == 1_900_000_000


@pytest.mark.parametrize(("sensor", "arguments"), SENSORS)
def test_a_first_look_that_fails_is_followed_by_the_triggers(sensor: Any, arguments: dict[str, Any]) -> None:
    made = sensor(task_id="t", **arguments)
    failing = mock.patch.object(PollingTrigger, "look", autospec=True, side_effect=ConnectionError("gone"))
    with failing, pytest.raises(TaskDeferred) as deferred:
        made.execute({})
    assert deferred.value.method_name == "execute_complete"


def test_it_looks_at_the_service_itself(kinesis: Any) -> None:
    sensor = KinesisStreamStatusSensor(task_id="t", stream_names=["a"])
    with pytest.raises(WaitFailed, match="a is missing"):
        sensor.execute({})
    kinesis.create_stream(StreamName="a", ShardCount=1)
    assert sensor.execute({}) == {"a": "ACTIVE"}


@pytest.mark.parametrize(
    ("sensor", "arguments", "says"),
    [
        (KinesisStreamStatusSensor, {"stream_names": [], "target_status": "UP"}, "target_status is one of"),
        (
            MskConnectConnectorStateSensor,
            {"connector_name": "c", "target_state": "UP"},
            "target_state is one of",
        ),
    ],
)
def test_bad_arguments_are_named(sensor: Any, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"{says}.*'UP'"):
        sensor(task_id="t", **arguments)
