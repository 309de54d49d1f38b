"""What all sensors of this package share: the trigger does the looking, deferred or not."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.sdk import Context, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout

from pinterest_pipeline.exceptions import WaitFailed
from pinterest_pipeline.triggers.base import PollingTrigger


class PollingSensor[Hook: AwsGenericHook[Any]](AwsBaseSensor[Hook]):
    """
    Waits with a :class:`~pinterest_pipeline.triggers.base.PollingTrigger`.

    :param deferrable: wait in the triggerer, without a worker slot.
    :param poke_interval: seconds between two looks.
    :param timeout: seconds after which to give up and say what is missing.
    """

    def __init__(self, *, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    @abstractmethod
    def trigger(self, **common: Any) -> PollingTrigger:
        """Return the trigger; `common` are the arguments every trigger of this package takes."""

    def _trigger(self) -> PollingTrigger:
        return self.trigger(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
            poll_interval=self.poke_interval,
            end_time=time.time() + self.timeout,
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        return self._look(self._trigger())

    def execute(self, context: Context) -> Any:
        """Look once, and defer to the trigger if there is anything to wait for."""
        if not self.deferrable:
            return super().execute(context)
        trigger = self._trigger()
        seen = self._look(trigger)
        if seen.is_done:
            return seen.xcom_value
        self.defer(trigger=trigger, method_name="execute_complete")

    def _look(self, trigger: PollingTrigger) -> PokeReturnValue:
        seen = asyncio.run(trigger.look())
        self.log.info("%s", seen.message)
        if seen.hopeless:
            raise WaitFailed(seen.message)
        return PokeReturnValue(seen.done, seen.value)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """
        Return what the trigger has found.

        :raises AirflowSensorTimeout: it took too long; the message says what is missing.
        :raises WaitFailed: it can no longer happen.
        """
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(f"Gave up after {self.timeout:g} s: {event['message']}.")
        if event["status"] != "success":
            raise WaitFailed(event["message"])
        self.log.info("%s", event["message"])
        return event["value"]
