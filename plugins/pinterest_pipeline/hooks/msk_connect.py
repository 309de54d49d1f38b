"""MSK Connect."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

from pinterest_pipeline.exceptions import ConnectorNotFound


class MskConnectHook(AwsBaseHook):
    """
    Look at MSK Connect's connectors.

    Takes the arguments of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`
    (``aws_conn_id``, ``region_name``, ``verify``, ``config``).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "kafkaconnect"
        super().__init__(*args, **kwargs)


def pick_connector(name: str, connectors: list[dict[str, Any]]) -> dict[str, Any]:
    """
    Return the one of `connectors` whose name is `name`, which the API only lets one ask for as a prefix.

    :raises ConnectorNotFound: there is none.
    """
    for connector in connectors:
        if connector["connectorName"] == name:
            return connector
    raise ConnectorNotFound(name, sorted(connector["connectorName"] for connector in connectors))
