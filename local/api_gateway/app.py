"""The gateway as an ASGI app: find the method, check the signature and the body, run the integration."""

import json
import logging
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
from botocore.credentials import Credentials
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from local.api_gateway.definition import Api, Method, load
from local.api_gateway.errors import (
    BadBody,
    BadPath,
    GatewayError,
    IntegrationFailure,
    NotAuthorized,
    TooLarge,
    UnknownRoute,
    UnknownStage,
)
from local.api_gateway.integrations import LARGEST_PAYLOAD, Call, Integrations, Reply
from local.api_gateway.templates import parse_json
from local.sigv4 import SignatureError, Verifier

LOG = logging.getLogger("local.api_gateway")

# API Gateway keeps this path for health checks; it is the one that needs no signature.
PING_PATH = "/ping"
# As it stands, and decoded as often as servers in a row may do it.
DECODINGS = 4


@dataclass(frozen=True)
class Settings:
    """The config file of `python -m local.api_gateway`."""

    host: str
    port: int
    openapi: str
    stage: str
    access_key_id: str
    secret_access_key: str
    region: str
    aws_endpoint_url: str
    stage_variables: dict[str, str] = field(default_factory=dict)


def create_app(settings: Settings) -> Starlette:
    """The app that serves the API of `settings.openapi`. Raises StartError when that file cannot be served."""
    gateway = Gateway(settings, load(settings.openapi, settings.region))
    methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
    return Starlette(
        routes=[
            Route(PING_PATH, _ping, methods=["GET"]),
            Route("/{path:path}", gateway.answer, methods=methods),
        ],
        lifespan=gateway.lifespan,
        exception_handlers={status: _no_route for status in (404, 405)},
    )


async def _no_route(_: Request, error: Exception) -> Response:
    """Answer what Starlette has no route for (a line break in the path, an unknown method) as API Gateway does."""
    reply = _refused(UnknownRoute())
    return Response(reply.body, reply.status, dict(reply.headers))


def _refused(error: GatewayError) -> Reply:
    kind = getattr(error, "error_type", error.kind)
    body = json.dumps({"message": str(error)}).encode()
    return Reply(error.status, (("content-type", "application/json"), ("x-amzn-errortype", kind)), body)


async def _ping(_: Request) -> Response:
    return PlainTextResponse("healthy")


class Gateway:
    """Answers the requests of one stage."""

    def __init__(self, settings: Settings, api: Api) -> None:
        self._settings = settings
        self._api = api
        self._verifier = Verifier(settings.access_key_id, settings.secret_access_key, settings.region)

    def lifespan(self, _: Starlette) -> AbstractAsyncContextManager[None]:
        """Hold the connections to the back ends as long as the app runs."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[None]:
        settings = self._settings
        # Each integration has its own time limit, over all of its call.
        async with httpx.AsyncClient(timeout=None, trust_env=False) as client:  # noqa: S113
            self._integrations = Integrations(
                client,
                Credentials(settings.access_key_id, settings.secret_access_key),
                settings.region,
                settings.aws_endpoint_url,
                settings.stage_variables,
            )
            yield

    async def answer(self, request: Request) -> Response:
        """Answer one request, in AWS' words where there is nothing to pass on."""
        request_id = str(uuid.uuid4())
        try:
            reply = await self._reply(request, request_id)
        except GatewayError as error:
            reply = _refused(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            LOG.exception("%s %s", request.method, request.scope["raw_path"].decode("latin-1"))
            reply = _refused(IntegrationFailure())
        response = Response(reply.body, reply.status)
        names = {name for name, _ in reply.headers}
        response.raw_headers = [
            *(pair for pair in response.raw_headers if pair[0].decode() not in names),
            *((name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in reply.headers),
            (b"x-amzn-requestid", request_id.encode()),
        ]
        return response

    async def _reply(self, request: Request, request_id: str) -> Reply:
        path = request.scope["raw_path"].decode("latin-1")
        body = await _body(request)
        stage, _, rest = path.removeprefix("/").partition("/")
        if stage != self._settings.stage:
            raise UnknownStage
        found = self._api.find(request.method, f"/{rest}")
        if found is None:
            raise UnknownRoute
        self._check_signature(request, body)
        _check_path(rest)
        method, path_parameters = found
        call = Call(
            method=request.method,
            path_parameters=path_parameters,
            query_string=request.scope["query_string"].decode("latin-1"),
            headers=tuple(
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in request.headers.raw
            ),
            body=body,
            context=self._context(request, method, path, request_id),
        )
        _check_body(method, call)
        return await self._integrations.run(method.integration, call)

    def _check_signature(self, request: Request, body: bytes) -> None:
        try:
            self._verifier.verify(request.scope, body, service="execute-api")
        except SignatureError as error:
            raise NotAuthorized(error) from None

    def _context(self, request: Request, method: Method, path: str, request_id: str) -> dict[str, Any]:
        return {
            "apiId": "local",
            "httpMethod": request.method,
            "identity": {
                "accessKey": self._settings.access_key_id,
                "sourceIp": request.client.host if request.client else "",
            },
            "path": path,
            "requestId": request_id,
            "resourcePath": method.resource,
            "stage": self._settings.stage,
        }


def _check_path(path: str) -> None:
    """Refuse `.` and `..` as a segment, however they are written.

    A server behind an HTTP integration may take them for steps, and slashes in any form for the ends of segments; then
    the request would reach what its resource is not.
    """
    for _ in range(DECODINGS):
        if {".", ".."} & {*re.split(r"[/\\]", path)}:
            raise BadPath
        path = unquote(path)


async def _body(request: Request) -> bytes:
    """The whole body, up to API Gateway's limit."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > LARGEST_PAYLOAD:
        raise TooLarge
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_PAYLOAD:
            raise TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


def _check_body(method: Method, call: Call) -> None:
    schema = method.schemas.get(call.media_type)
    if schema is not None and not schema.is_valid(parse_json(call.body)):
        raise BadBody
