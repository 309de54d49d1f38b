"""Waiting until a Databricks run is over, however it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow.providers.databricks.hooks.databricks import DatabricksHook

from pinterest_pipeline.triggers.base import Look, PollingTrigger


class DatabricksRunOverTrigger(PollingTrigger):
    """
    Fires when a run is over; its event's value is the run's state.

    Unlike the provider's trigger it gives up in time, so that the operator can cancel the run instead.

    :param run_id: the run.
    :param databricks_conn_id: the Databricks connection.
    :param poll_interval: seconds between two looks.
    :param end_time: moment (seconds since the epoch) to give up at.
    """

    def __init__(self, *, run_id: int, databricks_conn_id: str = "databricks_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.databricks_conn_id = databricks_conn_id

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this class alone."""
        return {"run_id": self.run_id, "databricks_conn_id": self.databricks_conn_id}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the client."""
        async with DatabricksHook(self.databricks_conn_id, caller="DatabricksRunOverTrigger") as hook:

            async def look() -> Look:
                state = await hook.a_get_run_state(self.run_id)
                told = f"run {self.run_id} is {state.life_cycle_state} {state.result_state}".rstrip()
                value = {
                    "life_cycle_state": state.life_cycle_state,
                    "result_state": state.result_state,
                    "state_message": state.state_message,
                }
                return Look(told, done=state.is_terminal, value=value)

            yield look
