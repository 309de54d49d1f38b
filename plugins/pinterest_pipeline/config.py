"""
Settings of the pipeline: section ``[pinterest]`` of Airflow's configuration.

On MWAA they are configuration options (``pinterest.bucket`` …), elsewhere lines of ``airflow.cfg`` or
variables ``AIRFLOW__PINTEREST__BUCKET`` …. ``bucket`` is the only one without a default. Reading them
touches neither the network nor the metadata database, so DAG files do it while they are parsed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk.configuration import conf

from pinterest_pipeline.exceptions import SettingError
from pinterest_pipeline.redaction import quoted

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from sqlalchemy.engine import URL

SECTION = "pinterest"
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
FILE_NAME = r"(?!\.{1,2}(?:/|\Z))[\w.=+,~-]+"
FOLDER = rf"(?:s3a?://{BUCKET}(?:/{FILE_NAME})*|(?:dbfs:)?(?:/{FILE_NAME})+)/?"
ENDPOINT = r"https?://[\w.-]+(?::[0-9]+)?(?:/[\w./-]*)?"
"""Folders and endpoints as the notebooks accept them, who have the same patterns."""
TABLES = ("pin", "geo", "user")

LONGEST_POLL_SECONDS = 60
"""The shortest wait is of ten minutes, and ends when there is no time for another look."""

# Dedicated access mode, as the Jobs API calls it, by its old name and its new one.
DEDICATED = ("SINGLE_USER", "DATA_SECURITY_MODE_DEDICATED")

# A stream needs a cluster that stays up, so it cannot default to serverless compute as the batch does.
DEFAULT_COMPUTE: Mapping[str, Any] = {"serverless": True}
DEFAULT_STREAM_COMPUTE: Mapping[str, Any] = {
    "new_cluster": {
        "spark_version": "18.x-scala2.13",
        "data_security_mode": "SINGLE_USER",
        "node_type_id": "m5d.large",
        # Databricks' Kinesis source keeps a slot of a worker busy for each stream, beside those of the micro-batch
        "num_workers": 2,
        # of 100 compiled plans, which is what Spark keeps unless told otherwise, a MERGE alone takes 30
        "spark_conf": {"spark.sql.codegen.cache.maxEntries": "2000"},
    }
}


def option(name: str, problem: str) -> SettingError:
    """Return the error for a bad option, naming it as it is written in the configuration."""
    return SettingError(f"[{SECTION}] {name}: {problem}")


def _kind(value: Any) -> str:
    """Return what a value is, without the value: a cluster's description may hold secrets."""
    kind = type(value).__name__
    return {"str": "text", "dict": "an object", "list": "a list"}.get(kind, kind)


@dataclass(frozen=True)
class Compute:
    """
    Where notebooks run on Databricks: exactly one of the three.

    :param existing_cluster_id: id of a cluster that is up or starts on demand.
    :param new_cluster: description of a job cluster, as the Jobs API takes it.
    :param serverless: serverless compute for jobs.
    """

    existing_cluster_id: str = ""
    new_cluster: Mapping[str, Any] = field(default_factory=dict)
    serverless: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.existing_cluster_id, str):
            raise SettingError(f"existing_cluster_id is text, not {_kind(self.existing_cluster_id)}")
        if not isinstance(self.new_cluster, Mapping):
            raise SettingError(f"new_cluster is a JSON object, not {_kind(self.new_cluster)}")
        if not isinstance(self.serverless, bool):
            raise SettingError(f"serverless is true or false, not {_kind(self.serverless)}")
        if self.new_cluster and not {"data_security_mode", "policy_id"} & set(self.new_cluster):
            raise SettingError(
                "new_cluster has no data_security_mode: without an access mode a cluster has no Unity Catalog. "
                "SINGLE_USER is the one that all notebooks run in"
            )
        if sum(map(bool, (self.existing_cluster_id, self.new_cluster, self.serverless))) != 1:
            raise SettingError("give exactly one of existing_cluster_id, new_cluster and serverless")

    @classmethod
    def read(cls, name: str, default: Mapping[str, Any]) -> Self:
        """Read the option `name`, a JSON object with one of the three as its key."""
        value = _json(name, default)
        if not isinstance(value, Mapping):
            raise option(name, f"a JSON object is needed, not {_kind(value)}")
        unknown = sorted(set(value) - {"existing_cluster_id", "new_cluster", "serverless"})
        if unknown:
            raise option(name, f"{unknown[0]!r} is none of existing_cluster_id, new_cluster, serverless")
        try:
            return cls(**value)
        except SettingError as error:
            raise option(name, str(error)) from None

    def as_task(self) -> dict[str, Any]:
        """Return the compute as keys of a task of the Jobs API; serverless is the absence of a cluster."""
        if self.serverless:
            return {}
        if self.existing_cluster_id:
            return {"existing_cluster_id": self.existing_cluster_id}
        return {"new_cluster": dict(self.new_cluster)}


@dataclass(frozen=True)
class Settings:
    """
    All settings; names as in the configuration.

    :param bucket: the S3 bucket that holds topics/, answers/ and streams/.
    :param prefix: first part of topic, stream and table names.
    :param storage: how notebooks reach the bucket: ``s3://bucket``, ``/mnt/…``, ``/Volumes/…`` or ``dbfs:/…``.
    :param mount_point: mount the bucket here first; empty: no mount. Neither new workspaces nor serverless compute and
        standard access mode have mounts.
    :param catalog: Unity Catalog catalog; empty: a workspace without one.
    :param schema: schema of the clean tables.
    :param notebook_dir: workspace folder of the notebooks.
    :param compute: where the batch notebooks run.
    :param stream_compute: where the stream notebook runs; it cannot be serverless.
    :param connector_name: the S3 sink connector.
    :param checkpoint_dir: folder of the stream's checkpoints.
    :param kinesis_endpoint_url: Kinesis as the notebooks reach it; empty: AWS.
    :param secret_scope: Databricks secret scope with AWS keys for the streams.
    :param service_credential: Unity Catalog's service credential for the streams; without it and `secret_scope`: the
        cluster's instance profile.
    :param region: region of the streams, for Airflow and for the notebook.
    :param topic_partitions: partitions of a topic that has to be created; -1: the brokers' default.
    :param topic_replication: its replication factor; -1: the brokers' default.
    :param may_delete_streams: whether Airflow's role may delete the streams, so that the form offers it.
    :param alarm_topic_arn: SNS topic that is told of failed DAG runs; empty: nobody is told.
    :param poll_seconds: pause between two looks at anything that is waited for.
    """

    bucket: str
    prefix: str = "pinterest"
    storage: str = ""
    mount_point: str = ""
    catalog: str = ""
    schema: str = "pinterest"
    notebook_dir: str = "/Shared/pinterest"
    compute: Compute = field(default_factory=lambda: Compute(**DEFAULT_COMPUTE))
    stream_compute: Compute = field(default_factory=lambda: Compute(**DEFAULT_STREAM_COMPUTE))
    connector_name: str = ""
    checkpoint_dir: str = ""
    kinesis_endpoint_url: str = ""
    secret_scope: str = ""
    service_credential: str = ""
    region: str = "us-east-1"
    topic_partitions: int = 3
    topic_replication: int = -1
    poll_seconds: int = 10
    alarm_topic_arn: str = ""
    may_delete_streams: bool = True

    def __post_init__(self) -> None:
        # What follows from another setting is filled in here, so that every reader sees the same value.
        for name, value in (
            ("storage", f"s3://{self.bucket}"),
            ("connector_name", f"{self.prefix}-s3-sink"),
        ):
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        if not self.checkpoint_dir:  # where the notebooks may write anyway; new workspaces have no DBFS root
            object.__setattr__(
                self, "checkpoint_dir", f"{self.storage.rstrip('/')}/streams/{self.prefix}/checkpoints"
            )
        for name, pattern, wanted in (
            ("bucket", BUCKET, "the name of an S3 bucket"),
            ("prefix", r"[A-Za-z0-9][A-Za-z0-9_]{0,63}", "letters, digits and underscores"),
            ("schema", r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and underscores"),
            ("catalog", r"|[A-Za-z_][A-Za-z0-9_]*", "empty, or letters, digits and underscores"),
            ("storage", FOLDER, "s3://bucket, or a path that starts with / or dbfs:/, without a login,"),
            ("checkpoint_dir", FOLDER, "s3://bucket/folder, or a path that starts with / or dbfs:/,"),
            ("mount_point", rf"|/mnt(?:/{FILE_NAME})+/?", "empty, or a path under /mnt/"),
            ("notebook_dir", r"/\S+", "a workspace folder that starts with /"),
            ("kinesis_endpoint_url", rf"|{ENDPOINT}", "empty, or a URL without a login or a query"),
            (
                "alarm_topic_arn",
                r"|arn:[a-z-]+:sns:[a-z0-9-]+:\d{12}:\S+",
                "empty, or the ARN of an SNS topic",
            ),
        ):
            self._check(name, pattern, wanted)
        if self.topic_partitions != -1 and self.topic_partitions < 1:
            raise option("topic_partitions", f"at least 1, or -1, not {self.topic_partitions}")
        if self.topic_replication != -1 and self.topic_replication < 1:
            raise option("topic_replication", f"at least 1, or -1, not {self.topic_replication}")
        if not 1 <= self.poll_seconds <= LONGEST_POLL_SECONDS:
            raise option(
                "poll_seconds", f"at least 1, at most {LONGEST_POLL_SECONDS}, not {self.poll_seconds}"
            )
        self._check_streams()

    def _check_streams(self) -> None:
        if self.secret_scope and self.service_credential:
            raise option(
                "service_credential", "the streams log in with it or with secret_scope, not with both"
            )
        if self.stream_compute.serverless:
            raise option("stream_compute", "serverless compute runs no continuous stream; name a cluster")
        mode = self.stream_compute.new_cluster.get("data_security_mode")
        if mode is not None and mode not in DEDICATED:
            raise option(
                "stream_compute",
                f"data_security_mode {mode!r} does not run the stream's foreachBatch; it must be {DEDICATED[0]}",
            )

    def _check(self, name: str, pattern: str, wanted: str) -> None:
        value = getattr(self, name)
        if not re.fullmatch(pattern, value):
            raise option(name, f"{wanted} is needed, not {quoted(value)}")

    @classmethod
    def read(cls) -> Self:
        """
        Read the settings from Airflow's configuration.

        :raises SettingError: an option is missing or makes no sense.
        """
        texts = (
            "bucket prefix storage mount_point catalog schema notebook_dir connector_name checkpoint_dir "
            "kinesis_endpoint_url secret_scope service_credential region alarm_topic_arn"
        )
        unknown = sorted(_given_names() - set(cls.__dataclass_fields__))
        if unknown:
            raise option(unknown[0], f"no such option; there are {', '.join(cls.__dataclass_fields__)}")
        given: dict[str, Any] = {name: conf.get(SECTION, name, fallback="").strip() for name in texts.split()}
        if not given["bucket"]:
            raise option("bucket", "not set; it names the S3 bucket of the pipeline")
        values = {name: value for name, value in given.items() if value}
        for name in ("topic_partitions", "topic_replication", "poll_seconds"):
            if number := conf.get(SECTION, name, fallback="").strip():
                values[name] = _integer(name, number)
        if text := conf.get(SECTION, "may_delete_streams", fallback="").strip():
            values["may_delete_streams"] = _boolean("may_delete_streams", text)
        return cls(
            **values,
            compute=Compute.read("compute", DEFAULT_COMPUTE),
            stream_compute=Compute.read("stream_compute", DEFAULT_STREAM_COMPUTE),
        )

    def topic(self, table: str) -> str:
        """Return the topic of a table: ``pinterest.pin``."""
        return f"{self.prefix}.{table}"

    def stream(self, table: str) -> str:
        """Return the stream of a table: ``streaming-pinterest-pin``."""
        return f"streaming-{self.prefix}-{table}"

    def notebook(self, name: str) -> str:
        """Return the workspace path of a notebook."""
        return f"{self.notebook_dir.rstrip('/')}/{name}"

    @property
    def clean_schema(self) -> str:
        """The schema of the clean tables, with its catalog where there is one."""
        return ".".join(filter(None, (self.catalog, self.schema)))

    @property
    def progress_key(self) -> str:
        """Object in which the stream notebook tells how far the tables of this schema have come."""
        return f"streams/{self.prefix}/{self.clean_schema}/progress.json"


def _given_names() -> set[str]:
    """Return the options that are set at all: a misspelt one must not pass in silence."""
    prefix = f"AIRFLOW__{SECTION.upper()}__"  # how Airflow, and so MWAA, takes options from the environment
    names = {name.removeprefix(prefix).lower() for name in os.environ if name.startswith(prefix)}
    return names | set(conf.getsection(SECTION) or {})


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise option(name, f"a whole number is needed, not {text!r}") from None


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise option(name, f"true or false is needed, not {text!r}")
    return text.lower() == "true"


def _json(name: str, default: Mapping[str, Any]) -> Any:
    from airflow.sdk.exceptions import AirflowConfigException

    try:
        value = conf.getjson(SECTION, name, fallback=dict(default))
    except (AirflowConfigException, ValueError) as error:
        raise option(name, f"not valid JSON: {error}") from None
    return default if value in ("", None) else value


def source_url(connection: Connection) -> URL:
    """
    Return the SQLAlchemy URL of the source database, whole.

    The connection's type is the URL's driver name, its fields are the URL's parts and its extra is the URL's query:
    text, numbers and true or false as they are, a list as a parameter that is repeated, and of an object ``ssl`` each
    key as ``ssl_…``. For a type without a driver (``mysql``, ``mariadb``, as Airflow's form has it) the driver,
    the port and the character set are filled in where they are missing; with a driver, nothing is.

    :param connection: ``sqlite`` (host = path of the file, or a ``file:`` URI) or ``mysql`` or ``mariadb``.
    :raises SettingError: the connection is of another type, or incomplete, or its extra cannot be a query.
    """
    from sqlalchemy.engine import URL

    name, driver_name = connection.conn_id, connection.conn_type or ""
    dialect, _, driver = driver_name.partition("+")
    query = _query(connection)
    if dialect == "sqlite":
        if not connection.host:
            raise SettingError(f"Connection {name}: host is empty; it holds the path of the SQLite file.")
        return URL.create(driver_name, database=connection.host, query=query)
    if dialect not in {"mysql", "mariadb"}:
        raise SettingError(f"Connection {name}: its type is {driver_name!r}; sqlite or mysql is needed.")
    url = URL.create(
        driver_name,
        username=connection.login,
        password=connection.password,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query=query,
    )
    return url if driver else _completed(url, name)


def _completed(url: URL, name: str) -> URL:
    """Return the URL of a connection that names no driver, with what such connections leave out."""
    elsewhere = {"unix_socket", "read_default_file"} & set(url.query)
    if not url.database or not (url.host or elsewhere):
        raise SettingError(f"Connection {name}: host and schema (the database) are both needed.")
    return url.set(
        drivername=f"{url.drivername}+pymysql",
        port=url.port or 3306,
        query={"charset": "utf8mb4", **url.query},
    )


def _query(connection: Connection) -> dict[str, str | tuple[str, ...]]:
    """Return the connection's extra as a URL's query."""
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise SettingError(f"Connection {connection.conn_id}: extra is no JSON object.")
    if isinstance(ssl := extra.pop("ssl", None), dict):
        extra |= {f"ssl_{key}": value for key, value in ssl.items()}
    elif ssl is not None:
        extra["ssl"] = ssl
    return {key: _parameter(connection, key, value) for key, value in extra.items()}


def _parameter(connection: Connection, key: str, value: Any) -> str | tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str | int | float) for each in values):
        # Without the value: what is in an extra may be a secret.
        raise SettingError(
            f"Connection {connection.conn_id}: extra {key} is no parameter of a URL: text, a number, true or false, "
            "or a list of these."
        )
    texts = tuple(each if isinstance(each, str) else json.dumps(each) for each in values)
    return texts if isinstance(value, list) else texts[0]
