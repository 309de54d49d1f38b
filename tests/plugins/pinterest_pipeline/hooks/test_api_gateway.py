from __future__ import annotations

import json
from unittest import mock

import pytest

from pinterest_pipeline.exceptions import SettingError
from pinterest_pipeline.hooks.api_gateway import ApiGatewayHook


def connection(monkeypatch: pytest.MonkeyPatch, host: str, **extra: str) -> None:
    value = {"conn_type": "http", "host": host, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_PINTEREST_API", json.dumps(value))


@pytest.mark.parametrize("extra", [{}, {"aws_conn_id": "aws_default", "region_name": "us-east-1"}])
def test_the_client_signs_with_the_aws_connection(
    aws: str, monkeypatch: pytest.MonkeyPatch, extra: dict[str, str]
) -> None:
    connection(monkeypatch, "http://127.0.0.1:1/prod/", **extra)
    with mock.patch("pinterest_pipeline.gateway.GatewayClient", autospec=True) as client:
        ApiGatewayHook().get_conn()
    url, credentials, region = client.call_args.args
    assert (url, region) == ("http://127.0.0.1:1/prod", "us-east-1")
    assert (credentials.access_key, credentials.secret_key) == ("key", "secret")


def test_the_region_of_the_api_may_differ(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, "http://127.0.0.1:1/prod", region_name="eu-west-1")
    with mock.patch("pinterest_pipeline.gateway.GatewayClient", autospec=True) as client:
        ApiGatewayHook().get_conn()
    assert client.call_args.args[2] == "eu-west-1"


def test_a_host_that_is_no_url_is_named(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, "api.example")
    with pytest.raises(SettingError, match=r"pinterest_api: host is 'api\.example'"):
        ApiGatewayHook().get_conn()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"port": 8443, "login": "me", "password": "hush"}, "login, password, port"),
        ({"schema": "prod"}, "schema"),
        ({"extra": {"verify": False, "region_name": "us-east-1"}}, "verify"),
    ],
)
def test_what_would_not_be_used_is_refused(
    aws: str, monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], named: str
) -> None:
    value = {"conn_type": "http", "host": "https://api.example/prod", **fields}
    monkeypatch.setenv("AIRFLOW_CONN_PINTEREST_API", json.dumps(value))
    with pytest.raises(SettingError) as raised:
        ApiGatewayHook().get_conn()
    assert str(raised.value).startswith(f"Connection pinterest_api: {named} would not be used.")
    assert "hush" not in str(raised.value)
