"""Carrying a request to its back end and the answer home, as an integration says."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.api_gateway.definition import AwsAction, HttpProxy, ResponseRule
from local.api_gateway.errors import (
    BadBody,
    IntegrationFailure,
    IntegrationTimeout,
    UnsupportedMediaType,
)
from local.api_gateway.templates import TemplateFault, render

LOG = logging.getLogger("local.api_gateway")

LARGEST_PAYLOAD = 10 * 1024**2
# Of one connection and not of the request (RFC 9110, 7.6.1), or made anew for the next connection.
HOP_BY_HOP = frozenset({
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "content-length",
})
# The caller's signature is for this API: API Gateway does not hand it on where IAM checks it.
NOT_PASSED_ON = HOP_BY_HOP | {"authorization"}
# The server of this gateway writes its own.
NOT_PASSED_BACK = HOP_BY_HOP | {"date", "server"}
REMAPPED = {"www-authenticate": "x-amzn-remapped-www-authenticate"}


@dataclass(frozen=True)
class Call:
    """One request as an integration sees it. Path parameters are still URL-encoded; header names are lower case."""

    method: str
    path_parameters: Mapping[str, str]
    query_string: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    context: dict[str, Any]

    @property
    def media_type(self) -> str:
        """The content type without its parameters; API Gateway takes a request without one for JSON."""
        given = dict(self.headers).get("content-type", "application/json")
        return given.partition(";")[0].strip().lower()

    def parameters(self) -> dict[str, dict[str, str]]:
        """Decoded parameters by kind, as `$input.params()` shows them."""
        return {
            "path": {name: unquote(value) for name, value in self.path_parameters.items()},
            "querystring": dict(httpx.QueryParams(self.query_string)),
            "header": dict(self.headers),
        }


@dataclass(frozen=True)
class Reply:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Integrations:
    """Runs integrations over one pool of kept connections."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        credentials: Credentials,
        region: str,
        aws_endpoint_url: str,
        stage_variables: Mapping[str, str],
    ) -> None:
        self._client = client
        self._credentials = credentials
        self._region = region
        self._aws_endpoint_url = aws_endpoint_url.rstrip("/") + "/"
        self._stage_variables = stage_variables

    async def run(self, integration: HttpProxy | AwsAction, call: Call) -> Reply:
        """Answer a call.

        :raises GatewayError: what the caller is told when there is no answer to pass on.
        """
        try:
            async with asyncio.timeout(integration.timeout_seconds):
                if isinstance(integration, HttpProxy):
                    return await self._http_proxy(integration, call)
                return await self._aws_action(integration, call)
        except TimeoutError:
            raise IntegrationTimeout from None
        except (httpx.HTTPError, httpx.InvalidURL, TemplateFault) as error:
            LOG.warning("%s %s: %s: %s", call.method, call.context["path"], type(error).__name__, error)
            raise IntegrationFailure from None

    async def _http_proxy(self, integration: HttpProxy, call: Call) -> Reply:
        path = self._mapped_parameters(integration, call, "path")
        query = [
            quote(name) + "=" + quote(value)
            for name, value in self._mapped_parameters(integration, call, "querystring").items()
        ]
        headers = self._mapped_parameters(integration, call, "header")
        url = httpx.URL(_filled(integration.uri, path, self._stage_variables))
        if call.query_string:
            query.insert(0, call.query_string)
        request = httpx.Request(
            call.method if integration.http_method == "ANY" else integration.http_method,
            url.copy_with(query="&".join(query).encode()) if query else url,
            headers=[*_kept(call.headers, NOT_PASSED_ON | headers.keys()), *headers.items()],
            content=call.body,
        )
        reply = await self._send(request)
        return Reply(reply.status, tuple(_remapped(_kept(reply.headers, NOT_PASSED_BACK))), reply.body)

    async def _aws_action(self, integration: AwsAction, call: Call) -> Reply:
        body = self._request_body(integration, call)
        headers = {
            "content-type": integration.content_type,
            **self._mapped_parameters(integration, call, "header"),
            "x-amz-target": integration.target,
        }
        signed = AWSRequest(method="POST", url=self._aws_endpoint_url, data=body, headers=headers)
        SigV4Auth(self._credentials, integration.service, self._region).add_auth(signed)
        request = httpx.Request(
            "POST", self._aws_endpoint_url, headers=list(signed.headers.items()), content=body
        )
        reply = await self._send(request)
        rule = integration.rule(reply.status)
        if rule is None:
            raise TemplateFault(f"{integration.action} answered {reply.status}, which no response is for")
        return self._mapped(rule, reply, call)

    def _request_body(self, integration: AwsAction, call: Call) -> bytes:
        template = integration.templates.get(call.media_type)
        if template is None:
            wanted = bool(integration.templates) and integration.passthrough == "when_no_templates"
            if wanted or integration.passthrough == "never":
                raise UnsupportedMediaType
            return call.body
        rendered = render(
            template,
            body=call.body,
            parameters=call.parameters(),
            context=call.context,
            stage_variables=self._stage_variables,
        )
        return rendered.encode("utf-8", "replace")

    def _mapped(self, rule: ResponseRule, reply: Reply, call: Call) -> Reply:
        """An answer under its response rule. A rule without a template for JSON passes the body as it is."""
        headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
        template = rule.templates.get("application/json")
        if template is None:
            return Reply(rule.status, headers, reply.body)
        override: dict[str, Any] = {"header": {}}
        try:
            text = render(
                template,
                body=reply.body,
                parameters=call.parameters(),
                context={**call.context, "responseOverride": override},
                stage_variables=self._stage_variables,
            )
        except BadBody as error:
            raise TemplateFault(f"the back end's answer: {error}") from None
        headers += tuple((str(name).lower(), str(value)) for name, value in override["header"].items())
        return Reply(
            int(override.get("status", rule.status)), headers, text.strip().encode("utf-8", "replace")
        )

    async def _send(self, request: httpx.Request) -> Reply:
        response = await self._client.send(request, stream=True)
        try:
            chunks, size = [], 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > LARGEST_PAYLOAD:
                    raise TemplateFault(f"the back end's answer is larger than {LARGEST_PAYLOAD} bytes")
                chunks.append(chunk)
        finally:
            await response.aclose()
        headers = tuple((name.lower(), value) for name, value in response.headers.multi_items())
        return Reply(response.status_code, headers, b"".join(chunks))

    def _mapped_parameters(self, integration: HttpProxy | AwsAction, call: Call, kind: str) -> dict[str, str]:
        """What `requestParameters` sets in the path, query string or headers of the request to the back end."""
        sources = {name: source for (place, name), source in integration.parameters.items() if place == kind}
        values = {name: self._source(source, call) for name, source in sources.items()}
        lower = kind == "header"
        return {
            (name.lower() if lower else name): value for name, value in values.items() if value is not None
        }

    def _source(self, source: str, call: Call) -> str | None:
        """The value a request parameter is mapped from; None leaves the parameter out."""
        if source.startswith("'"):
            return source[1:-1]
        root, _, rest = source.partition(".")
        if root == "stageVariables":
            return self._stage_variables.get(rest)
        if root == "context":
            node: Any = call.context
            for name in rest.split("."):
                node = node.get(name) if isinstance(node, dict) else None
            return None if node is None else str(node)
        kind, _, name = source.removeprefix("method.request.").partition(".")
        if kind == "path":
            return call.path_parameters.get(name)
        if kind == "header":
            return dict(call.headers).get(name.lower())
        return call.parameters()["querystring"].get(name)


def _filled(uri: str, path: Mapping[str, str], stage_variables: Mapping[str, str]) -> str:
    for name, value in stage_variables.items():
        uri = uri.replace(f"${{stageVariables.{name}}}", value)
    for name, value in path.items():
        uri = uri.replace(f"{{{name}}}", value)
    return uri


def _kept(headers: Iterable[tuple[str, str]], dropped: frozenset[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name not in dropped]


def _remapped(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(REMAPPED.get(name, name), value) for name, value in headers]
