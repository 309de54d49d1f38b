"""Waiting until a Databricks run is over, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow.providers.databricks.hooks.databricks import DatabricksHook

from pinterest_pipeline.triggers.base import Look, PollingTrigger


class DatabricksRunOverTrigger(PollingTrigger):
    """
    Fires when a run is over; its event's value is the run's id and state.

    Unlike the provider's trigger it gives up in time, so that the operator can cancel the run instead.

    :param run_id: the run.
    :param databricks_conn_id: the Databricks connection.
    :param cancel_on_kill: cancel the run when the waiting task is killed, marked or cleared.
    :param poll_interval: seconds between two looks.
    :param end_time: moment (seconds since the epoch) to give up at.
    """

    def __init__(
        self,
        *,
        run_id: int,
        databricks_conn_id: str = "databricks_default",
        cancel_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.databricks_conn_id = databricks_conn_id
        self.cancel_on_kill = cancel_on_kill

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this class alone."""
        return {
            "run_id": self.run_id,
            "databricks_conn_id": self.databricks_conn_id,
            "cancel_on_kill": self.cancel_on_kill,
        }

    def _hook(self) -> DatabricksHook:
        return DatabricksHook(self.databricks_conn_id, caller="DatabricksRunOverTrigger")

    async def on_kill(self) -> None:
        """Cancel the run if it belongs to the task that is killed."""
        if self.cancel_on_kill:
            await asyncio.to_thread(self._hook().cancel_run, self.run_id)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the client."""
        async with self._hook() as hook:

            async def look() -> Look:
                state = await hook.a_get_run_state(self.run_id)
                told = f"run {self.run_id} is {state.life_cycle_state} {state.result_state}".rstrip()
                value = {
                    "run_id": self.run_id,
                    "life_cycle_state": state.life_cycle_state,
                    "result_state": state.result_state,
                    "state_message": state.state_message,
                }
                return Look(told, done=state.is_terminal, value=value)

            yield look
