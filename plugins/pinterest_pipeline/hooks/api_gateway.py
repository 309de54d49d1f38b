"""The REST API in front of Kafka and Kinesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import BaseHook

from pinterest_pipeline.exceptions import SettingError
from pinterest_pipeline.redaction import quoted

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from pinterest_pipeline.gateway import GatewayClient


class ApiGatewayHook(BaseHook):
    """
    Talk to the pipeline's API with signed requests.

    The connection is of type ``http``: its host is the invoke URL with the stage
    (``https://….execute-api.us-east-1.amazonaws.com/prod``), its extra names the AWS connection whose
    credentials sign the requests (``aws_conn_id``) and the API's region (``region_name``).

    :param api_gateway_conn_id: the connection.
    """

    default_conn_name = "pinterest_api"

    def __init__(self, api_gateway_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.api_gateway_conn_id = api_gateway_conn_id

    def get_conn(self) -> GatewayClient:
        """
        Return a client of the API.

        :raises SettingError: the connection has no URL, or its AWS connection has no credentials.
        """
        from pinterest_pipeline.gateway import GatewayClient

        connection = self.get_connection(self.api_gateway_conn_id)
        url = connection.host or ""
        if not url.startswith(("http://", "https://")):
            raise SettingError(
                f"Connection {self.api_gateway_conn_id}: host is {quoted(url)}; it holds the API's invoke URL with "
                "its stage, https://… included."
            )
        extra = connection.extra_dejson
        self._require_nothing_else(connection)
        aws_conn_id = extra.get("aws_conn_id", AwsBaseHook.default_conn_name)
        aws = AwsBaseHook(
            aws_conn_id=aws_conn_id, region_name=extra.get("region_name"), client_type="apigateway"
        )
        session = aws.get_session(region_name=extra.get("region_name"))
        credentials = session.get_credentials()
        if credentials is None:
            raise SettingError(
                f"Connection {aws_conn_id}: there are no AWS credentials to sign requests with."
            )
        region = aws.region_name or session.region_name
        if not region:
            raise SettingError(f"Connection {self.api_gateway_conn_id}: extra needs region_name.")
        return GatewayClient(url.rstrip("/"), credentials, region)

    def _require_nothing_else(self, connection: Connection) -> None:
        """Refuse what is set in the connection and would not be used."""
        fields = ("schema", "login", "password", "port")
        unused = [name for name in fields if getattr(connection, name)]
        unused += sorted(set(connection.extra_dejson) - {"aws_conn_id", "region_name"})
        if unused:
            raise SettingError(
                f"Connection {self.api_gateway_conn_id}: {', '.join(unused)} would not be used. Host holds the whole "
                "invoke URL, extra aws_conn_id and region_name."
            )
