"""Waiting for an MSK Connect connector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from pinterest_pipeline.hooks.msk_connect import MskConnectHook
from pinterest_pipeline.sensors.base import PollingSensor
from pinterest_pipeline.triggers.msk_connect import MskConnectConnectorStateTrigger

STATES = (
    *("CREATING", "RUNNING", "UPDATING", "PAUSING", "PAUSED", "RESUMING", "RESTARTING"),
    *("DELETING", "FAILED"),
)


class MskConnectConnectorStateSensor(PollingSensor[MskConnectHook]):
    """
    Waits until a connector has a state; returns the state.

    :param connector_name: the connector. (templated)
    :param target_state: one of `STATES`.
    """

    aws_hook_class = MskConnectHook
    template_fields: Sequence[str] = aws_template_fields("connector_name")

    def __init__(self, *, connector_name: str, target_state: str = "RUNNING", **kwargs: Any) -> None:
        if target_state not in STATES:
            raise ValueError(f"target_state is one of {', '.join(STATES)}, not {target_state!r}")
        super().__init__(**kwargs)
        self.connector_name = connector_name
        self.target_state = target_state

    def trigger(self, **common: Any) -> MskConnectConnectorStateTrigger:
        """Return the trigger that waits."""
        return MskConnectConnectorStateTrigger(
            connector_name=self.connector_name, target_state=self.target_state, **common
        )
