from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest
from aiobotocore.client import AioBaseClient

from pinterest_pipeline.hooks.msk_connect import MskConnectHook
from pinterest_pipeline.triggers.msk_connect import MskConnectConnectorStateTrigger


def trigger(target_state: str = "RUNNING") -> MskConnectConnectorStateTrigger:
    return MskConnectConnectorStateTrigger(
        connector_name="sink", target_state=target_state, poll_interval=0, end_time=1e12
    )


async def look(connectors: list[dict[str, str]], target_state: str = "RUNNING") -> Any:
    """Let the trigger look at an MSK Connect that has these connectors."""

    class Paginator:
        async def paginate(self, connectorNamePrefix: str) -> AsyncIterator[dict[str, Any]]:
            for connector in connectors:
                if connector["connectorName"].startswith(connectorNamePrefix):
                    yield {"connectors": [connector]}

    client = mock.create_autospec(AioBaseClient, instance=True)
    client.get_paginator.side_effect = {"list_connectors": Paginator()}.__getitem__

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        yield client

    made = trigger(target_state)
    with mock.patch.object(made, "open_client", autospec=True, return_value=opened()) as open_client:
        seen = await made.look()
    open_client.assert_called_once_with(MskConnectHook)
    return seen


def connector(state: str, name: str = "sink") -> dict[str, str]:
    return {"connectorName": name, "connectorState": state}


def test_serialize() -> None:
    path, arguments = trigger().serialize()
    assert path == "pinterest_pipeline.triggers.msk_connect.MskConnectConnectorStateTrigger"
    assert arguments == {
        "connector_name": "sink",
        "target_state": "RUNNING",
        "poll_interval": 0,
        "end_time": 1e12,
        "aws_conn_id": "aws_default",
        "region_name": None,
        "verify": None,
        "botocore_config": None,
    }
    assert MskConnectConnectorStateTrigger(**arguments).serialize() == (path, arguments)


@pytest.mark.parametrize(
    ("state", "done", "hopeless"),
    [
        ("RUNNING", True, False),
        ("CREATING", False, False),
        ("UPDATING", False, False),
        ("FAILED", False, True),
        ("DELETING", False, True),
        ("RESUMING", False, False),
        ("RESTARTING", False, False),
        ("PAUSING", False, True),
        ("PAUSED", False, True),
    ],
)
async def test_states(state: str, done: bool, hopeless: bool) -> None:
    seen = await look([connector("FAILED", "sink-2"), connector(state)])
    assert (seen.done, seen.hopeless, seen.value) == (done, hopeless, state)
    assert seen.message == f"connector sink is {state}"


async def test_failed_may_be_what_one_waits_for() -> None:
    seen = await look([connector("FAILED")], target_state="FAILED")
    assert (seen.done, seen.hopeless) == (True, False)


async def test_a_connector_that_is_not_there_yet_is_waited_for() -> None:
    seen = await look([connector("RUNNING", "sink-2")])
    assert (seen.done, seen.hopeless) == (False, False)
    assert seen.message == "No connector is named 'sink'; there is sink-2."
