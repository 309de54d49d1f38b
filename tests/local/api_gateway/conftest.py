"""The gateway as a process, and a client that signs what it sends."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ROOT = Path(__file__).parents[3]
OPENAPI = ROOT / "mwaa" / "cloudformation" / "openapi.yaml"


@dataclass
class Api:
    """A signing client of one stage. `call` sends a body as JSON unless it is bytes."""

    url: str
    credentials: Credentials
    session: requests.Session = field(default_factory=requests.Session)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        service: str = "execute-api",
        region: str = "us-east-1",
        credentials: Credentials | None = None,
        sent: bytes | None = None,
    ) -> requests.Response:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.url}{path}"
        request = AWSRequest(
            method, url, data=data, headers={"Content-Type": "application/json", **(headers or {})}
        )
        SigV4Auth(credentials or self.credentials, service, region).add_auth(request)
        signed = dict(request.headers)
        return self.session.request(
            method, url, data=data if sent is None else sent, headers=signed, timeout=120
        )


@pytest.fixture(scope="session")
def start_gateway(start_part: Callable[..., Any], key: Credentials) -> Callable[..., Api]:
    """A gateway over an OpenAPI file, by default the project's own; the same wishes give the same gateway."""

    @functools.cache
    def start(aws_url: str, rest_proxy: str = "127.0.0.1:9", openapi: Path = OPENAPI) -> Api:
        part = start_part(
            "local.api_gateway",
            {
                "host": "127.0.0.1",
                "port": 0,
                "openapi": str(openapi),
                "stage": "test",
                "stage_variables": {
                    "restProxy": rest_proxy.removeprefix("http://"),
                    "restProxyAuthorization": "Basic cHJveHk6bG9naW4=",
                    "vpcLinkId": "none",
                },
                "access_key_id": key.access_key,
                "secret_access_key": key.secret_key,
                "region": "us-east-1",
                "aws_endpoint_url": aws_url,
            },
        )
        return Api(f"{part.url}/test", key)

    return start


@pytest.fixture(scope="session")
def api(aws: Any, start_gateway: Callable[..., Api]) -> Api:
    """The project's API in front of the AWS stand-in, one for all tests."""
    return start_gateway(aws.url)


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's OpenAPI file with time limits short enough to wait for."""
    path = tmp_path_factory.mktemp("api") / "openapi.yaml"
    path.write_text(OPENAPI.read_text().replace("timeoutInMillis: 29000", "timeoutInMillis: 300"))
    return path
