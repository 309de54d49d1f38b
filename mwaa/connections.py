"""Airflow's connections in Secrets Manager. Their values are read, compared and written; nothing here prints one.

The secret parts come from the environment, never from arguments or files of the project:

DATABRICKS_HOST, DATABRICKS_TOKEN                              the workspace, as databricks-sdk reads it; or
DATABRICKS_HOST, DATABRICKS_CLIENT_ID, DATABRICKS_CLIENT_SECRET  a service principal
PINTEREST_SOURCE_URL                                           mysql://user:password@host:3306/database?ssl_ca=/path,
                                                               when the source tables lie in a database that exists
                                                               already
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mwaa.errors import SettingError

Connection = dict[str, Any]


def wanted(values: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Connection | None]:
    """Return every connection that a deployment writes; None for one that cannot be known yet.

    :param values: outputs of the stacks and settings; ``ApiUrl``, ``KafkaBootstrap``, ``Region`` count.
    :param environment: variables, see above.
    """
    region = values["Region"]
    found: dict[str, Connection | None] = {
        "aws_default": {"conn_type": "aws", "extra": {"region_name": region}},
        "pinterest_api": None,
        "pinterest_kafka": None,
        "databricks_default": _databricks(environment),
    }
    if url := values.get("ApiUrl"):
        extra = {"aws_conn_id": "aws_default", "region_name": region}
        found["pinterest_api"] = {"conn_type": "http", "host": url, "extra": extra}
    if brokers := values.get("KafkaBootstrap"):
        extra = {
            "bootstrap.servers": brokers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "AWS_MSK_IAM",
            "region_name": region,
        }
        found["pinterest_kafka"] = {"conn_type": "kafka", "extra": extra}
    if values.get("ExternalSource") == "true":
        found["pinterest_source"] = _source(environment)
    return found


def _databricks(environment: Mapping[str, str]) -> Connection | None:
    host = environment.get("DATABRICKS_HOST", "").rstrip("/")
    if not host:
        return None
    try:
        url = urlsplit(host if "://" in host else f"https://{host}")
        port = url.port
    except ValueError:
        # Without the text, and without what urllib says, which repeats it: it may hold a token.
        raise SettingError("DATABRICKS_HOST is not of the form https://host.") from None
    connection: Connection = {"conn_type": "databricks", "host": url.hostname}
    if url.scheme == "http" or port:
        connection |= {"schema": url.scheme, "port": port}
    if token := environment.get("DATABRICKS_TOKEN"):
        return {**connection, "password": token}
    client, secret = environment.get("DATABRICKS_CLIENT_ID"), environment.get("DATABRICKS_CLIENT_SECRET")
    if client and secret:
        extra = {"service_principal_oauth": True}
        return {**connection, "login": client, "password": secret, "extra": extra}
    return None


SOURCE_DRIVERS = {"mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"}
"""Driver names of a source's URL: pymysql is what the environment installs."""


def _source(environment: Mapping[str, str]) -> Connection | None:
    text = environment.get("PINTEREST_SOURCE_URL", "")
    if not text:
        return None
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if (
        url is None
        or url.drivername not in SOURCE_DRIVERS
        or not (url.host and url.database)
        or "@" in url.host + url.database
    ):
        # Without the text: it may hold a password.
        raise SettingError(
            "PINTEREST_SOURCE_URL is not of the form mysql://user:password@host:3306/database?ssl_ca=/path, with "
            "what is special in the password percent-encoded."
        )
    return source_connection(url.set(port=url.port or 3306))


def source_connection(url: URL) -> Connection:
    """
    Return a SQLAlchemy URL as fields of the connection ``pinterest_source``, losing nothing.

    ``source_url`` of ``pinterest_pipeline.config`` makes the same URL of them again.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    fields = {
        "conn_type": url.drivername,
        "login": url.username,
        "password": url.password,
        "host": url.database if is_sqlite else url.host,
        "port": url.port,
        "schema": None if is_sqlite else url.database,
        "extra": {key: value if isinstance(value, str) else list(value) for key, value in url.query.items()},
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


class Secrets:
    """The secrets below ``{name}/connections/``.

    :param client: a boto3 Secrets Manager client.
    :param name: the deployment's name.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._prefix = f"{name}/connections/"

    def has_value(self, connection: str) -> bool:
        """Return whether a connection has a value."""
        return bool(self._value(connection))

    def differs(self, connection: str, value: Connection) -> bool:
        """Return whether a connection has another value than this."""
        try:
            return bool(json.loads(self._value(connection) or "null") != value)
        except json.JSONDecodeError:
            return True

    def put(self, connection: str, value: Connection) -> None:
        """Write a connection's value."""
        self._client.put_secret_value(
            SecretId=self._prefix + connection, SecretString=json.dumps(value, sort_keys=True)
        )

    def _value(self, connection: str) -> str:
        try:
            reply = self._client.get_secret_value(SecretId=self._prefix + connection)
        except ClientError as error:
            # A secret that CloudFormation has made has no value yet, and to ask for it is an error.
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return ""
            raise
        return str(reply.get("SecretString", ""))
