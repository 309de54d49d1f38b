"""What all sensors of this package share: the trigger does the looking, and all of the waiting."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout

from pinterest_pipeline.exceptions import WaitFailed
from pinterest_pipeline.triggers.base import Look, PollingTrigger


class PollingSensor[Hook: AwsGenericHook[Any]](AwsBaseSensor[Hook]):
    """
    Waits with a :class:`~pinterest_pipeline.triggers.base.PollingTrigger`, in the triggerer.

    :param poke_interval: seconds between two looks.
    :param timeout: seconds after which to give up and say what is missing.
    """

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

    def execute(self, context: Context) -> Any:
        """
        Look once, and defer to the trigger if there is anything to wait for.

        :raises WaitFailed: it can no longer happen.
        """
        trigger = self._trigger()
        try:
            seen = asyncio.run(trigger.look())
        except Exception as error:  # the trigger rides out a service that is away for a moment
            self.log.warning("The first look failed; the triggerer looks again: %s", error)
            seen = Look("")
        if seen.hopeless:
            raise WaitFailed(seen.message)
        if seen.done:
            self.log.info("%s", seen.message)
            return seen.value
        self.defer(trigger=trigger, method_name="execute_complete")

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
