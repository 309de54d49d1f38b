from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferred

from pinterest_pipeline.exceptions import WaitFailed
from pinterest_pipeline.hooks.kinesis import KinesisHook
from pinterest_pipeline.operators.kinesis import (
    KinesisCreateStreamOperator,
    KinesisDeleteStreamOperator,
    KinesisScaleStreamOperator,
)
from pinterest_pipeline.triggers.kinesis import KinesisStreamStatusTrigger

STREAMS = ["pins", "geos"]
ACTIVE = {"status": "success", "message": "pins is ACTIVE", "value": {}}


def open_shards(kinesis: Any, stream: str) -> int:
    return int(
        kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["OpenShardCount"]
    )


@pytest.mark.parametrize("shards", [2, "2"])
def test_create(kinesis: Any, shards: int | str) -> None:
    kinesis.create_stream(StreamName="pins", ShardCount=1)
    create = KinesisCreateStreamOperator(task_id="t", stream_names=STREAMS, shard_count=shards)
    assert create.execute({}) == ["geos"]
    assert [open_shards(kinesis, name) for name in STREAMS] == [1, 2], "what is there keeps its shards"
    assert create.execute({}) == []


@pytest.mark.parametrize(
    ("operator", "method", "told"),
    [
        (KinesisCreateStreamOperator, "create_stream", "Created pins."),
        (KinesisDeleteStreamOperator, "delete_stream", "Deleted pins."),
    ],
)
def test_what_was_done_is_told_before_the_next_stream(operator: Any, method: str, told: str) -> None:
    task = operator(task_id="t", stream_names=STREAMS)
    with (
        mock.patch.object(KinesisHook, method, side_effect=[True, OSError("gone")]),
        mock.patch.object(type(task), "log") as log,
        pytest.raises(OSError, match="gone"),
    ):
        task.execute({})
    assert [call.args[0] % call.args[1:] for call in log.info.call_args_list] == [told]


def scale(shard_count: Any, **arguments: Any) -> KinesisScaleStreamOperator:
    return KinesisScaleStreamOperator(
        task_id="t", stream_names=STREAMS, shard_count=shard_count, poll_interval=3, **arguments
    )


@pytest.mark.parametrize(
    ("start", "wanted", "steps"),
    [(1, "5", [2, 4, 5]), (8, 1, [4, 2, 1]), (7, "2", [4, 2]), (3, 3, []), (2, None, []), (2, "", [])],
)
def test_scale_goes_in_the_steps_kinesis_takes(
    kinesis: Any, start: int, wanted: Any, steps: list[int]
) -> None:
    for name in STREAMS:
        kinesis.create_stream(StreamName=name, ShardCount=start)
    operator = scale(wanted)
    proceed: Any = lambda: operator.execute({})  # noqa: E731
    for step in steps:
        with pytest.raises(TaskDeferred) as deferred:
            proceed()
        assert [open_shards(kinesis, name) for name in STREAMS] == [step, step]
        assert deferred.value.method_name == "execute_complete"
        proceed = lambda: operator.execute_complete({}, ACTIVE)  # noqa: E731
    last = steps[-1] if steps else start
    assert proceed() == {"pins": last, "geos": last}


def test_scale_waits_for_all_its_streams_in_the_triggerer(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="pins", ShardCount=2)
    kinesis.create_stream(StreamName="geos", ShardCount=1)
    with mock.patch("time.time", return_value=1000.0), pytest.raises(TaskDeferred) as deferred:
        scale("2", timeout=60, region_name="us-east-1").execute({})
    trigger = deferred.value.trigger
    assert isinstance(trigger, KinesisStreamStatusTrigger)
    assert trigger.serialize()[1] == {
        "stream_names": STREAMS,
        "target_status": "ACTIVE",
        "poll_interval": 3,
        "end_time": 1060.0,
        "aws_conn_id": "aws_default",
        "region_name": "us-east-1",
        "verify": None,
        "botocore_config": None,
    }


@pytest.mark.parametrize(("status", "error"), [("timeout", AirflowSensorTimeout), ("error", WaitFailed)])
def test_a_stream_that_does_not_become_active_is_told(status: str, error: type[Exception]) -> None:
    event = {"status": status, "message": "pins is UPDATING", "value": {}}
    with pytest.raises(error, match="pins is UPDATING"):
        scale(2).execute_complete({}, event)


def test_a_stream_that_is_being_changed_is_waited_for() -> None:
    with mock.patch.object(KinesisHook, "describe_stream", return_value={"StreamStatus": "UPDATING"}):
        assert KinesisHook().update_shard_count("pins", 2) is True


def test_an_on_demand_stream_is_not_scaled() -> None:
    summary = {
        "StreamStatus": "ACTIVE",
        "OpenShardCount": 4,
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"},
    }
    with (
        mock.patch.object(KinesisHook, "describe_stream", return_value=summary),
        pytest.raises(ValueError, match="'pins' is an on-demand stream"),
    ):
        KinesisHook().update_shard_count("pins", 2)


def test_a_deletion_is_waited_for(kinesis: Any) -> None:
    for name in STREAMS:
        kinesis.create_stream(StreamName=name, ShardCount=1)
    delete = KinesisDeleteStreamOperator(task_id="t", stream_names=STREAMS, poll_interval=3, timeout=60)
    deleting = {"pins": {"StreamStatus": "DELETING"}, "geos": None}
    with (
        mock.patch.object(KinesisHook, "describe_stream", side_effect=deleting.get),
        pytest.raises(TaskDeferred) as deferred,
    ):
        delete.execute({})
    trigger = deferred.value.trigger
    assert isinstance(trigger, KinesisStreamStatusTrigger)
    assert (trigger.stream_names, trigger.target_status, trigger.poll_interval) == (STREAMS, None, 3)
    assert (deferred.value.method_name, deferred.value.kwargs) == ("execute_complete", None)
    gone = {"status": "success", "message": "pins is missing", "value": dict.fromkeys(STREAMS)}
    assert delete.execute_complete({}, gone) == STREAMS
    late = {"status": "timeout", "message": "pins is DELETING", "value": None}
    with pytest.raises(AirflowSensorTimeout, match=r"Gave up after 60 s: pins is DELETING\."):
        delete.execute_complete({}, late)


def test_a_stream_that_is_being_deleted_already_is_waited_for(kinesis: Any) -> None:
    client = KinesisHook().get_conn()
    in_use = client.exceptions.ResourceInUseException(
        {"Error": {"Code": "ResourceInUseException"}}, "DeleteStream"
    )
    with mock.patch.object(client, "delete_stream", side_effect=in_use):
        hook = KinesisHook()
        with mock.patch.object(hook, "get_conn", return_value=client):
            assert hook.delete_stream("pins") is True


def test_delete(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="geos", ShardCount=1)
    delete = KinesisDeleteStreamOperator(task_id="t", stream_names=STREAMS)
    assert delete.execute({}) == ["geos"]
    assert kinesis.list_streams()["StreamNames"] == []
    assert delete.execute({}) == []


@pytest.mark.parametrize("shards", [0, -1, "none", "1.5", True])
@pytest.mark.parametrize("operator", [KinesisCreateStreamOperator, KinesisScaleStreamOperator])
def test_a_bad_number_of_shards_is_named(aws: str, operator: Any, shards: Any) -> None:
    with pytest.raises(ValueError, match=r"shard_count is a whole number of at least 1, not") as raised:
        operator(task_id="t", stream_names=STREAMS, shard_count=shards).execute({})
    assert repr(shards) in str(raised.value)


def test_template_fields() -> None:
    common = {"aws_conn_id", "region_name", "verify"}
    assert set(KinesisCreateStreamOperator.template_fields) == {"stream_names", "shard_count"} | common
    assert set(KinesisScaleStreamOperator.template_fields) == {"stream_names", "shard_count"} | common
    assert set(KinesisDeleteStreamOperator.template_fields) == {"stream_names"} | common
