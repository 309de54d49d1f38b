"""MSK Connect's ListConnectors and DescribeConnector, answered by the laptop's Kafka Connect.

Connect's own REST API is the backend: nothing is remembered here, and a connector's ARN and version follow from its
name and configuration.
"""

import base64
import hashlib
import json
import logging
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote

import httpx
from starlette.responses import JSONResponse, Response

from local.aws.errors import json_error
from local.sigv4 import Scope

LOG = logging.getLogger("local.aws")

ACCOUNT = "000000000000"
LARGEST_PAGE = 100
TIMEOUT_SECONDS = 10.0
SECRET_KEY = re.compile(r"password|secret|jaas|credential", re.IGNORECASE)


@dataclass(frozen=True)
class KafkaConnectSettings:
    """Where Kafka Connect answers, and the login of its REST API."""

    connect_url: str
    username: str
    password: str


class ConnectError(Exception):
    """What a caller of MSK Connect is told: an HTTP status, AWS' error code and a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class KafkaConnectRoutes:
    """The `kafkaconnect` routes; an async context that holds the connections to Connect."""

    def __init__(self, settings: KafkaConnectSettings, region: str) -> None:
        self._settings = settings
        self._region = region

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(
            base_url=self._settings.connect_url,
            auth=(self._settings.username, self._settings.password),
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def answer(self, scope: Scope) -> Response:
        """Answer one request that has been proved to come from the stack."""
        try:
            return JSONResponse(await self._route(scope))
        except ConnectError as error:
            return json_error(error.status, error.code, str(error))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            LOG.warning("%s: Kafka Connect's answer: %r", scope["raw_path"].decode("latin-1"), error)
            return json_error(
                500, "InternalServerErrorException", "Kafka Connect's answer is not one of its REST API."
            )

    async def _route(self, scope: Scope) -> dict[str, Any]:
        path = scope["raw_path"].decode("latin-1").rstrip("/")
        if scope["method"] == "GET" and path == "/v1/connectors":
            sent = parse_qs(scope["query_string"].decode("utf-8", "replace"))
            query = {key: values[-1] for key, values in sent.items()}
            return self._page(await self._connectors(), query)
        if scope["method"] == "GET" and path.startswith("/v1/connectors/"):
            return self._described(await self._connectors(), unquote(path.removeprefix("/v1/connectors/")))
        raise ConnectError(
            400,
            "BadRequestException",
            "The laptop offers ListConnectors and DescribeConnector; use Kafka Connect's REST API for the rest.",
        )

    async def _connectors(self) -> dict[str, dict[str, Any]]:
        """Every connector by name, each with Connect's `info` and `status`."""
        try:
            reply = await self._client.get("/connectors", params={"expand": ["info", "status"]})
        except httpx.HTTPError:
            raise ConnectError(503, "ServiceUnavailableException", "Kafka Connect does not answer.") from None
        if reply.status_code == 401:
            raise ConnectError(
                500, "InternalServerErrorException", "Kafka Connect refuses the stack's login."
            )
        if not reply.is_success:  # 409 while Connect rebalances, 5xx while it starts or stops
            raise ConnectError(
                503, "ServiceUnavailableException", f"Kafka Connect answers {reply.status_code}; try again."
            )
        connectors: dict[str, dict[str, Any]] = reply.json()
        return dict(sorted(connectors.items()))

    def _page(self, connectors: Mapping[str, dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        size = query.get("maxResults", str(LARGEST_PAGE))
        if not re.fullmatch("[0-9]{1,3}", size) or not 1 <= int(size) <= LARGEST_PAGE:
            raise ConnectError(400, "BadRequestException", f"maxResults must be 1 to {LARGEST_PAGE}.")
        prefix, after = query.get("connectorNamePrefix", ""), _last_name(query.get("nextToken"))
        names = [name for name in connectors if name.startswith(prefix) and (after is None or name > after)]
        shown = names[: int(size)]
        page: dict[str, Any] = {"connectors": [self._summary(name, connectors[name]) for name in shown]}
        if len(names) > len(shown):
            page["nextToken"] = base64.urlsafe_b64encode(shown[-1].encode()).decode()
        return page

    def _described(self, connectors: Mapping[str, dict[str, Any]], arn: str) -> dict[str, Any]:
        for name, connector in connectors.items():
            if self._arn(name) == arn:
                configuration = connector["info"]["config"]
                description = self._summary(name, connector)
                description["connectorConfiguration"] = {
                    key: "******" if SECRET_KEY.search(key) else value for key, value in configuration.items()
                }
                if failure := _failure(connector["status"]):
                    description["stateDescription"] = {"code": "ConnectorFailed", "message": failure}
                return description
        raise ConnectError(404, "NotFoundException", f"The connector does not exist: {arn}")

    def _summary(self, name: str, connector: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "connectorArn": self._arn(name),
            "connectorName": name,
            "connectorState": connector_state(connector["status"]),
            "currentVersion": _version(connector["info"]["config"]),
            "capacity": {
                "provisionedCapacity": {
                    "mcuCount": 1,
                    "workerCount": len({task["worker_id"] for task in connector["status"]["tasks"]}) or 1,
                }
            },
        }

    def _arn(self, name: str) -> str:
        identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"kafkaconnect:{name}")
        return f"arn:aws:kafkaconnect:{self._region}:{ACCOUNT}:connector/{name}/{identifier}-1"


def connector_state(status: Mapping[str, Any]) -> str:
    """MSK Connect's state of a connector, from Connect's status of it and its tasks.

    RUNNING only when all of it runs; FAILED when anything has failed; CREATING until tasks are assigned; UPDATING
    while it is paused, stopped or restarting.
    """
    states = {status["connector"]["state"], *(task["state"] for task in status["tasks"])}
    if "FAILED" in states:
        return "FAILED"
    if states & {"PAUSED", "STOPPED", "RESTARTING"}:
        return "UPDATING"
    if "UNASSIGNED" in states or not status["tasks"]:
        return "CREATING"
    return "RUNNING"


def _failure(status: Mapping[str, Any]) -> str:
    """The first line of the first failure, which is what went wrong."""
    traces = [part["trace"] for part in (status["connector"], *status["tasks"]) if part.get("trace")]
    return str(traces[0]).splitlines()[0] if traces else ""


def _version(configuration: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).digest()
    return "K" + base64.b32encode(digest).decode()[:13]


def _last_name(token: str | None) -> str | None:
    try:
        return None if token is None else base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise ConnectError(
            400, "BadRequestException", "nextToken is not one that ListConnectors gave."
        ) from None
