"""What the triggers that look at AWS share."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

from pinterest_pipeline.triggers.base import PollingTrigger


class AwsPollingTrigger(PollingTrigger):
    """
    Looks at an AWS service every few seconds.

    :param aws_conn_id: the AWS connection.
    :param region_name: region; None: the connection's.
    :param verify: whether, or with which bundle, TLS certificates are checked.
    :param botocore_config: further configuration of the client.
    :param poll_interval: seconds between two looks.
    :param end_time: moment (seconds since the epoch) to give up at.
    """

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        poll_interval: float,
        end_time: float,
    ) -> None:
        super().__init__(poll_interval=poll_interval, end_time=end_time)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and constructor arguments."""
        path, arguments = super().serialize()
        return path, {
            **arguments,
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "botocore_config": self.botocore_config,
        }

    async def open_client(self, hook_class: type[AwsGenericHook[Any]]) -> AbstractAsyncContextManager[Any]:
        """Return an aiobotocore client of the hook's service, to be entered."""
        client: AbstractAsyncContextManager[Any] = await hook_class(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        ).get_async_conn()  # type: ignore[no-untyped-call]
        return client
