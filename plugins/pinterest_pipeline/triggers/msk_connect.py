"""Waiting for an MSK Connect connector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pinterest_pipeline.exceptions import ConnectorNotFound
from pinterest_pipeline.hooks.msk_connect import MskConnectHook, pick_connector
from pinterest_pipeline.triggers.aws import AwsPollingTrigger
from pinterest_pipeline.triggers.base import Look

# None of these becomes another by itself; a paused connector waits for a person to resume it.
HOPELESS = frozenset({"FAILED", "DELETING", "PAUSING", "PAUSED"})


class MskConnectConnectorStateTrigger(AwsPollingTrigger):
    """
    Fires when a connector has a state.

    :param connector_name: the connector; one that is not there yet is waited for.
    :param target_state: the state that is waited for.
    :param kwargs: arguments of :class:`~pinterest_pipeline.triggers.aws.AwsPollingTrigger`.
    """

    def __init__(self, *, connector_name: str, target_state: str = "RUNNING", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connector_name = connector_name
        self.target_state = target_state

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of this class alone."""
        return {"connector_name": self.connector_name, "target_state": self.target_state}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Callable[[], Awaitable[Look]]]:
        """Open the client."""
        async with await self.open_client(MskConnectHook) as client:

            async def look() -> Look:
                try:
                    connector = pick_connector(self.connector_name, await self._connectors(client))
                except ConnectorNotFound as error:
                    return Look(str(error))
                state = connector["connectorState"]
                return Look(
                    f"connector {self.connector_name} is {state}",
                    done=state == self.target_state,
                    hopeless=state in HOPELESS and state != self.target_state,
                    value=state,
                )

            yield look

    async def _connectors(self, client: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        paginator = client.get_paginator("list_connectors")
        async for page in paginator.paginate(connectorNamePrefix=self.connector_name):
            found += page["connectors"]
        return found
