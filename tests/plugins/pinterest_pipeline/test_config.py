from __future__ import annotations

import json
import re

import pytest
from airflow.sdk import Connection

from pinterest_lake import addresses
from pinterest_pipeline import config
from pinterest_pipeline.config import Compute, Settings, source_url
from pinterest_pipeline.exceptions import SettingError


def set_option(monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__PINTEREST__{name.upper()}", value)


def test_only_the_bucket_has_to_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    set_option(monkeypatch, bucket="my-bucket")
    settings = Settings.read()
    assert (settings.prefix, settings.schema, settings.catalog) == ("pinterest", "pinterest", "")
    assert settings.storage == "s3://my-bucket"
    assert settings.connector_name == "pinterest-s3-sink"
    assert settings.checkpoint_dir == "s3://my-bucket/streams/pinterest/checkpoints"
    assert settings.compute == Compute(serverless=True)
    cluster = settings.stream_compute.new_cluster
    assert set(cluster) == {
        "spark_version",
        "data_security_mode",
        "node_type_id",
        "num_workers",
        "spark_conf",
    }
    assert (cluster["spark_version"], cluster["data_security_mode"]) == ("18.x-scala2.13", "SINGLE_USER")
    assert (cluster["node_type_id"], cluster["num_workers"]) == ("m5d.large", 2)
    assert (settings.secret_scope, settings.service_credential) == ("", "")


def test_the_streams_log_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    set_option(monkeypatch, bucket="my-bucket", service_credential="kinesis")
    assert Settings.read().service_credential == "kinesis"
    set_option(monkeypatch, secret_scope="aws")
    with pytest.raises(
        SettingError,
        match=r"^\[pinterest\] service_credential: the streams log in with it or with secret_scope",
    ):
        Settings.read()


@pytest.mark.parametrize(("text", "may"), [(None, True), ("", True), ("True", True), ("false", False)])
def test_whether_the_streams_may_be_deleted(
    monkeypatch: pytest.MonkeyPatch, text: str | None, may: bool
) -> None:
    set_option(monkeypatch, bucket="my-bucket", **({} if text is None else {"may_delete_streams": text}))
    assert Settings.read().may_delete_streams is may


def test_a_missing_bucket_is_named() -> None:
    with pytest.raises(SettingError, match=r"^\[pinterest\] bucket: not set"):
        Settings.read()


def test_what_follows_from_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    set_option(monkeypatch, bucket="my-bucket", prefix="0a1b", notebook_dir="/Shared/x/")
    settings = Settings.read()
    assert settings.topic("pin") == "0a1b.pin"
    assert settings.stream("geo") == "streaming-0a1b-geo"
    assert settings.notebook("queries") == "/Shared/x/queries"
    assert settings.progress_key == "streams/0a1b/pinterest/progress.json"
    assert settings.connector_name == "0a1b-s3-sink"


def test_each_schema_has_a_progress_object_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the path that the stream notebook writes to: ``Lake.progress_path``."""
    set_option(monkeypatch, bucket="my-bucket", prefix="p", catalog="main", schema="dev")
    assert Settings.read().progress_key == "streams/p/main.dev/progress.json"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("bucket", "No_Bucket", "the name of an S3 bucket"),
        ("prefix", "with-dash", "letters, digits and underscores"),
        ("schema", "a b", "letters, digits and underscores"),
        ("catalog", "a.b", "empty, or letters"),
        ("storage", "bucket", "s3://bucket, or a path"),
        ("mount_point", "/elsewhere", "a path under /mnt/"),
        ("notebook_dir", "Shared", "starts with /"),
        ("kinesis_endpoint_url", "localhost:4566", "empty, or a URL"),
        ("alarm_topic_arn", "alarms", "the ARN of an SNS topic"),
        ("poll_seconds", "0", "at least 1"),
        ("poll_seconds", "61", "at least 1, at most 60, not 61"),
        ("poll_seconds", "soon", "a whole number is needed, not 'soon'"),
        ("topic_partitions", "0", "at least 1, or -1"),
        ("topic_replication", "-2", "at least 1, or -1"),
        ("may_delete_streams", "no", "true or false is needed, not 'no'"),
        ("topic_partition", "3", "no such option; there are bucket, prefix,"),
        ("compute", "{", "not valid JSON"),
        ("compute", "[]", "a JSON object is needed"),
        ("compute", "{}", "exactly one of"),
        ("compute", '{"cluster": "x"}', "'cluster' is none of"),
        ("compute", '{"serverless": true, "existing_cluster_id": "x"}', "exactly one of"),
        ("compute", '{"serverless": "yes"}', "serverless is true or false"),
        ("compute", '{"new_cluster": "x"}', "new_cluster is a JSON object"),
        ("stream_compute", '{"existing_cluster_id": 7}', "existing_cluster_id is text"),
        ("stream_compute", '{"serverless": true}', "serverless compute runs no continuous stream"),
        ("compute", '{"new_cluster": {"num_workers": 1}}', "new_cluster has no data_security_mode"),
        ("stream_compute", '{"new_cluster": {"num_workers": 1}}', "new_cluster has no data_security_mode"),
        (
            "stream_compute",
            '{"new_cluster": {"data_security_mode": "USER_ISOLATION"}}',
            "'USER_ISOLATION' does not run the stream's foreachBatch",
        ),
    ],
)
def test_a_bad_option_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    set_option(monkeypatch, **{"bucket": "my-bucket", name: value})
    with pytest.raises(SettingError) as raised:
        Settings.read()
    assert str(raised.value).startswith(f"[pinterest] {name}: ")
    assert says in str(raised.value)


ADDRESSES = {
    "s3://my-bucket": True,
    "s3a://my-bucket/some/folder/": True,
    "/mnt/pinterest": True,
    "/Volumes/main/pinterest/bucket": True,
    "dbfs:/pinterest/checkpoints": True,
    "/mnt/.hidden/a..b/=x": True,
    "": False,
    "/": False,
    "dbfs:/": False,
    "pinterest": False,
    "file:/etc": False,
    "file:///etc": False,
    "hdfs://host/x": False,
    "s3://": False,
    "s3://UPPER": False,
    "s3://my-bucket/../other": False,
    "/mnt/pinterest/../../..": False,
    "/mnt/pinterest/..": False,
    "/mnt/./pinterest": False,
    "dbfs:/mnt/..": False,
    "//etc": False,
    "/mnt//x": False,
    "/mnt/a b": False,
    "/mnt/x\n": False,
    "/mnt/*": False,
    "/mnt/{a,b}": False,
    "/mnt/%2e%2e": False,
    "s3a://KEY:secret@my-bucket": False,
    "s3a://KEY:sec/ret@my-bucket": False,
    "KEY:secret@my-bucket": False,
}


@pytest.mark.parametrize(("address", "accepted"), ADDRESSES.items())
def test_which_storage_is_accepted(address: str, accepted: bool) -> None:
    assert (re.fullmatch(config.FOLDER, address) is not None) == accepted


def test_the_notebooks_accept_the_same_addresses() -> None:
    """Neither may import the other."""
    assert (config.FOLDER, config.ENDPOINT) == (addresses.FOLDER, addresses.ENDPOINT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("storage", "s3a://AKIAKEY:secret@my-bucket"),
        ("storage", "s3a://AKIAKEY:sec/ret@my-bucket"),
        ("storage", "AKIAKEY:secret"),
        ("checkpoint_dir", "s3a://AKIAKEY:secret@my-bucket/x"),
        ("bucket", "AKIAKEY:secret@my-bucket"),
        ("prefix", "s3a://AKIAKEY:secret@my-bucket"),
        ("kinesis_endpoint_url", "https://AKIAKEY:secret@kinesis"),
        ("kinesis_endpoint_url", "https://kinesis?AKIAKEY=secret"),
        ("compute", '{"new_cluster": "spark.hadoop.fs.s3a.secret.key secret, AKIAKEY"}'),
        ("compute", '["AKIAKEY", "secret"]'),
        ("compute", '{"new_cluster": "AKIAKEY secret'),
    ],
)
def test_credentials_in_an_option_are_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    set_option(monkeypatch, **{"bucket": "my-bucket", name: value})
    with pytest.raises(SettingError, match=rf"^\[pinterest\] {name}: ") as raised:
        Settings.read()
    assert "AKIAKEY" not in str(raised.value)
    assert "ret" not in str(raised.value).replace("credentials", "")


@pytest.mark.parametrize(
    ("option", "as_task"),
    [
        ({"existing_cluster_id": "1-2"}, {"existing_cluster_id": "1-2"}),
        (
            {"new_cluster": {"data_security_mode": "USER_ISOLATION"}},
            {"new_cluster": {"data_security_mode": "USER_ISOLATION"}},
        ),
        ({"new_cluster": {"policy_id": "x"}}, {"new_cluster": {"policy_id": "x"}}),
        ({"serverless": True}, {}),
    ],
)
def test_compute_as_keys_of_a_task(
    monkeypatch: pytest.MonkeyPatch, option: dict[str, object], as_task: dict[str, object]
) -> None:
    set_option(monkeypatch, bucket="my-bucket", compute=json.dumps(option))
    assert Settings.read().compute.as_task() == as_task


def test_source_urls() -> None:
    sqlite = Connection(conn_id="source", conn_type="sqlite", host="/data/source.db")
    assert source_url(sqlite).render_as_string() == "sqlite:////data/source.db"
    mysql = Connection(
        conn_id="source", conn_type="mysql", host="db", schema="pinterest", login="me", password="p@ss/word"
    )
    url = source_url(mysql)
    assert url.render_as_string(hide_password=False) == (
        "mysql+pymysql://me:p%40ss%2Fword@db:3306/pinterest?charset=utf8mb4"
    )
    assert "p@ss" not in str(url) and "p%40ss" not in str(url)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        (
            {"conn_type": "mysql", "extra": {"ssl_ca": "/a/ca.pem", "charset": "latin1"}},
            "mysql+pymysql://me:hush@db:3306/posts?charset=latin1&ssl_ca=%2Fa%2Fca.pem",
        ),
        (
            {"conn_type": "mysql", "extra": {"ssl": {"ca": "/a/ca.pem", "check_hostname": False}}},
            "mysql+pymysql://me:hush@db:3306/posts?charset=utf8mb4&ssl_ca=%2Fa%2Fca.pem&ssl_check_hostname=false",
        ),
        (
            {"conn_type": "mysql", "port": 3307, "extra": {"connect_timeout": 10, "local_infile": True}},
            "mysql+pymysql://me:hush@db:3307/posts?charset=utf8mb4&connect_timeout=10&local_infile=true",
        ),
        ({"conn_type": "mariadb"}, "mariadb+pymysql://me:hush@db:3306/posts?charset=utf8mb4"),
        (
            {"conn_type": "mysql", "host": None, "extra": {"unix_socket": "/run/mysqld.sock"}},
            "mysql+pymysql://me:hush@:3306/posts?charset=utf8mb4&unix_socket=%2Frun%2Fmysqld.sock",
        ),
        ({"conn_type": "mysql+pymysql"}, "mysql+pymysql://me:hush@db/posts"),
        (
            {"conn_type": "mariadb+pymysql", "extra": {"a": ["1", "2"]}},
            "mariadb+pymysql://me:hush@db/posts?a=1&a=2",
        ),
    ],
)
def test_the_extra_is_the_query_of_the_url(fields: dict[str, object], url: str) -> None:
    given = {"host": "db", "schema": "posts", "login": "me", "password": "hush", **fields}
    connection = Connection(conn_id="source", **{**given, "extra": json.dumps(given.get("extra", {}))})
    assert source_url(connection).render_as_string(hide_password=False) == url


def test_the_uri_form_of_a_connection_is_as_good() -> None:
    connection = Connection(
        conn_id="source", uri="mysql://me:p%40ss@db:3307/posts?ssl_ca=%2Fa%2Fca.pem&compress=true"
    )
    assert source_url(connection).render_as_string(hide_password=False) == (
        "mysql+pymysql://me:p%40ss@db:3307/posts?charset=utf8mb4&compress=true&ssl_ca=%2Fa%2Fca.pem"
    )


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ('{"cursor": {"a": "hush"}}', "extra cursor is no parameter of a URL"),
        ('{"ssl": {"ca": null}}', "extra ssl_ca is no parameter of a URL"),
        ('{"ssl": "hush", "a": []}', "extra a is no parameter of a URL"),
        ("hush", "extra is no JSON object"),
        ("[]", "extra is no JSON object"),
    ],
)
def test_an_extra_that_cannot_be_a_query_is_named(extra: str, says: str) -> None:
    connection = Connection(conn_id="source", conn_type="mysql", host="db", schema="posts", extra=extra)
    with pytest.raises(SettingError, match=f"^Connection source: {says}") as raised:
        source_url(connection)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        (Connection(conn_id="source", conn_type="postgres", host="db"), "sqlite or mysql is needed"),
        (Connection(conn_id="source", conn_type="sqlite"), "host is empty"),
        (Connection(conn_id="source", conn_type="mysql", host="db"), "host and schema"),
    ],
)
def test_a_bad_source_is_named(connection: Connection, says: str) -> None:
    with pytest.raises(SettingError, match=says) as raised:
        source_url(connection)
    assert "source" in str(raised.value)
