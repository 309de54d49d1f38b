from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from airflow.providers.databricks.hooks.databricks import DatabricksHook, RunState

from pinterest_pipeline.triggers.databricks import DatabricksRunOverTrigger


@pytest.fixture
def hook() -> Iterator[Any]:
    hook = mock.create_autospec(DatabricksHook, instance=True)
    hook.__aenter__.return_value = hook
    with mock.patch("pinterest_pipeline.triggers.databricks.DatabricksHook", return_value=hook):
        yield hook


def trigger(end_time: float = 1e12) -> DatabricksRunOverTrigger:
    return DatabricksRunOverTrigger(run_id=42, poll_interval=0, end_time=end_time)


def test_serialize() -> None:
    path, arguments = trigger().serialize()
    assert path == "pinterest_pipeline.triggers.databricks.DatabricksRunOverTrigger"
    assert arguments == {
        "run_id": 42,
        "databricks_conn_id": "databricks_default",
        "cancel_on_kill": False,
        "poll_interval": 0,
        "end_time": 1e12,
    }
    assert DatabricksRunOverTrigger(**arguments).serialize() == (path, arguments)


@pytest.mark.parametrize("result", ["SUCCESS", "FAILED", "CANCELED"])
async def test_over_is_over_however_it_ended(hook: Any, result: str) -> None:
    hook.a_get_run_state.side_effect = [RunState("RUNNING"), RunState("TERMINATED", result, "why")]
    events = [event.payload async for event in trigger().run()]
    assert events == [
        {
            "status": "success",
            "message": f"run 42 is TERMINATED {result}",
            "value": {
                "run_id": 42,
                "life_cycle_state": "TERMINATED",
                "result_state": result,
                "state_message": "why",
            },
        }
    ]
    hook.a_get_run_state.assert_awaited_with(42)


async def test_in_time_it_gives_up(hook: Any) -> None:
    hook.a_get_run_state.return_value = RunState("TERMINATING")
    events = [event.payload async for event in trigger(end_time=0).run()]
    assert [(event["status"], event["message"]) for event in events] == [("timeout", "run 42 is TERMINATING")]


@pytest.mark.parametrize("cancelled", [True, False])
async def test_killing_cancels_the_run_if_it_belongs_to_the_task(hook: Any, cancelled: bool) -> None:
    made = DatabricksRunOverTrigger(run_id=42, cancel_on_kill=cancelled, poll_interval=0, end_time=0)
    await made.on_kill()
    assert [call.args for call in hook.cancel_run.call_args_list] == [(42,)] * cancelled
