"""How the stream notebook reaches Kinesis: by options that Databricks knows, and by one login at most."""

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from local.databricks.kinesis_source import Options
from pinterest_lake.lake import SettingsError
from pinterest_lake.streaming import Kinesis
from tests.include.notebooks.conftest import FakeDbutils

GIVEN = {
    "streamName": "streaming-pinterest-pin",
    "region": "eu-west-1",
    "initialPosition": "earliest",
    "maxFetchDuration": "2s",
    "fetchBufferSize": "200mb",
}
KEYS = {"aws_access_key_id": "AKIA", "aws_secret_access_key": "hidden"}


class Reader:
    """``spark.readStream``, which keeps what it is told."""

    def format(self, name: str) -> "Reader":
        self.name = name
        return self

    def options(self, **given: str) -> "Reader":
        self.given = given
        return self

    def load(self) -> "Reader":
        return self


def options(**widgets: str) -> dict[str, str]:
    dbutils: Any = FakeDbutils(region="eu-west-1", **widgets)
    dbutils.secrets = SimpleNamespace(get=lambda scope, key: KEYS[key])
    spark: Any = SimpleNamespace(readStream=Reader())
    kinesis = Kinesis.from_widgets(dbutils)
    assert "hidden" not in repr(kinesis)
    read: Any = kinesis.read(spark, "streaming-pinterest-pin")
    assert read.name == "kinesis"
    Options.of({
        name.lower(): value for name, value in read.given.items()
    })  # refuses what Databricks does not know
    return dict(read.given)


@pytest.mark.parametrize(
    ("widgets", "login"),
    [
        ({}, {}),
        ({"service_credential": " kinesis "}, {"serviceCredential": "kinesis"}),
        ({"secret_scope": "aws"}, {"awsAccessKey": "AKIA", "awsSecretKey": "hidden"}),
        ({"endpoint_url": "http://127.0.0.1:1"}, {"endpoint": "http://127.0.0.1:1"}),
    ],
)
def test_the_options_are_those_of_databricks(widgets: dict[str, str], login: dict[str, str]) -> None:
    assert options(**widgets) == {**GIVEN, **login}


def test_two_logins_are_one_too_many() -> None:
    with pytest.raises(SettingsError, match="'secret_scope' and 'service_credential' exclude each other"):
        options(secret_scope="aws", service_credential="kinesis")


def test_a_look_at_a_stream_logs_in_as_its_reader_does(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    session = SimpleNamespace(client=mock.Mock(side_effect=LookupError))
    monkeypatch.setattr("boto3.Session", lambda **how: given.append(how) or session)
    for widgets in ({}, {"secret_scope": "aws"}, {"service_credential": "kinesis"}):
        dbutils: Any = FakeDbutils(region="eu-west-1", **widgets)
        dbutils.secrets = SimpleNamespace(get=lambda scope, key: KEYS[key])
        dbutils.credentials = SimpleNamespace(getServiceCredentialsProvider="session of {}".format)
        with pytest.raises(LookupError):
            Kinesis.from_widgets(dbutils).view("streaming-pinterest-pin")
    nothing = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key", "botocore_session"))
    by_keys = {**nothing, "aws_access_key_id": "AKIA", "aws_secret_access_key": "hidden"}
    assert given == [nothing, by_keys, {**nothing, "botocore_session": "session of kinesis"}]
