"""The OpenAPI file, read into what the gateway serves: routes, and for each method its integration.

Whatever the file asks for that this gateway cannot do as AWS does it is an error at the start, with its path, and not
a surprise at the first request.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import airspeed
import botocore.session
import jsonschema
import yaml
from botocore.exceptions import BotoCoreError

from local.part import StartError

METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
ANY = "x-amazon-apigateway-any-method"
INTEGRATION = "x-amazon-apigateway-integration"
LONGEST_TIMEOUT_MS = 29_000
ACTION_URI = re.compile(
    r"arn:[\w-]+:apigateway:(?P<region>[\w-]+):(?P<service>[\w-]+):action/(?P<action>\w+)"
)
PARAMETER_TARGET = re.compile(r"integration\.request\.(path|querystring|header)\.([\w.-]+)")
PARAMETER_SOURCE = re.compile(
    r"method\.request\.(?:path|querystring|header)\.[\w.-]+|'[^']*'|stageVariables\.\w+|context\.[\w.]+"
)


@dataclass(frozen=True)
class HttpProxy:
    """Passes a request on as it is. `uri` holds {path parameters} and ${stageVariables.…}."""

    uri: str
    http_method: str  # ANY: the caller's own
    parameters: Mapping[tuple[str, str], str]  # (path | querystring | header, name) → source
    timeout_seconds: float


@dataclass(frozen=True)
class ResponseRule:
    """What becomes of a backend's answer whose status matches `pattern` (None: any that no other rule matches)."""

    pattern: re.Pattern[str] | None
    status: int
    templates: Mapping[str, airspeed.Template]


@dataclass(frozen=True)
class AwsAction:
    """Calls one action of an AWS service with a body made by a mapping template."""

    service: str
    action: str
    target: str  # X-Amz-Target
    content_type: str
    templates: Mapping[str, airspeed.Template]  # by the request's media type
    passthrough: str  # when_no_match | when_no_templates | never
    parameters: Mapping[tuple[str, str], str]
    responses: tuple[ResponseRule, ...]
    timeout_seconds: float

    def rule(self, status: int) -> ResponseRule | None:
        """The rule for a backend's status: the first pattern that matches it whole, else the default."""
        fallback = None
        for rule in self.responses:
            if rule.pattern is None:
                fallback = rule
            elif rule.pattern.fullmatch(str(status)):
                return rule
        return fallback


@dataclass(frozen=True)
class Method:
    """One method of one resource. `schemas`: what a body must be, by media type (empty: not checked)."""

    resource: str
    integration: HttpProxy | AwsAction
    schemas: Mapping[str, jsonschema.Draft4Validator] = field(default_factory=dict)


@dataclass(frozen=True)
class Resource:
    """A path of the API, matched segment by segment; {name+} at the end takes all that is left."""

    path: str
    methods: Mapping[str, Method]

    @property
    def segments(self) -> list[str]:
        return self.path.strip("/").split("/")

    def match(self, path: str) -> dict[str, str] | None:
        """The path parameters, still URL-encoded, or None when this is not the resource."""
        wanted, given = self.segments, path.removeprefix("/").split("/")
        found: dict[str, str] = {}
        for index, segment in enumerate(wanted):
            if segment.endswith("+}"):
                rest = "/".join(given[index:])
                return {**found, segment[1:-2]: rest} if rest else None
            if index >= len(given):
                return None
            if segment.startswith("{") and given[index]:
                found[segment[1:-1]] = given[index]
            elif segment != given[index]:
                return None
        return found if len(given) == len(wanted) else None


@dataclass(frozen=True)
class Api:
    """What the file describes, the most exact paths first."""

    resources: tuple[Resource, ...]

    def find(self, method: str, path: str) -> tuple[Method, dict[str, str]] | None:
        """The method for a request and its path parameters (URL-encoded), or None."""
        for resource in self.resources:
            parameters = resource.match(path)
            if parameters is not None:
                found = resource.methods.get(method) or resource.methods.get("ANY")
                return None if found is None else (found, parameters)
        return None


class DefinitionError(StartError):
    """Something in the file that the gateway cannot serve; `where` is its path and method."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


def load(path: str | Path, region: str) -> Api:
    """Read the API of an OpenAPI 3.0 file.

    :param region: the value of ${AWS::Region}.
    :raises StartError: the file cannot be read, or asks for what the gateway cannot do.
    """
    try:
        document = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise StartError(f"{path}: not YAML: {error}") from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3.0"):
        raise StartError(f"{path}: not an OpenAPI 3.0 document")
    reader = _Reader(_substituted(document, {"AWS::Region": region, "AWS::Partition": "aws"}))
    return Api(tuple(sorted(reader.resources(), key=_exactness)))


def _exactness(resource: Resource) -> list[tuple[int, str]]:
    """Sorts a plain segment before a {parameter}, and that before a {greedy+} one."""
    return [(2 if s.endswith("+}") else 1 if s.startswith("{") else 0, s) for s in resource.segments]


def _substituted(node: Any, values: Mapping[str, str]) -> Any:
    """Resolve Fn::Sub. What it names beyond `values`, roles above all, is CloudFormation's and stays as it is."""
    if isinstance(node, dict):
        if node.keys() == {"Fn::Sub"}:
            return re.sub(r"\$\{([\w:.]+)\}", lambda m: values.get(m[1], m[0]), node["Fn::Sub"])
        return {key: _substituted(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_substituted(value, values) for value in node]
    return node


class _Reader:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._session = botocore.session.get_session()
        self._validators = document.get("x-amazon-apigateway-request-validators", {})
        schemes = document.get("components", {}).get("securitySchemes", {})
        self._signed = {
            name
            for name, scheme in schemes.items()
            if scheme.get("x-amazon-apigateway-authtype") == "awsSigv4"
        }

    def resources(self) -> Iterator[Resource]:
        for path, item in self._document.get("paths", {}).items():
            methods = {
                "ANY" if key == ANY else key.upper(): self._method(path, key, operation)
                for key, operation in item.items()
                if key in METHODS or key == ANY
            }
            yield Resource(path, methods)

    def _method(self, path: str, key: str, operation: dict[str, Any]) -> Method:
        where = f"{'ANY' if key == ANY else key.upper()} {path}"
        if not any(scheme.keys() & self._signed for scheme in operation.get("security", [])):
            raise DefinitionError(
                where, "must have a security scheme of authtype awsSigv4: no method may be open"
            )
        integration = operation.get(INTEGRATION)
        if not isinstance(integration, dict):
            raise DefinitionError(where, f"has no {INTEGRATION}")
        return Method(path, self._integration(where, integration), self._schemas(where, operation))

    def _integration(self, where: str, integration: dict[str, Any]) -> HttpProxy | AwsAction:
        kind = str(integration.get("type", "")).lower()
        if kind == "http_proxy":
            return _http_proxy(where, integration)
        if kind == "aws":
            return self._aws_action(where, integration)
        raise DefinitionError(where, f"integration type {kind or 'missing'!r} is not one this gateway knows")

    def _aws_action(self, where: str, integration: dict[str, Any]) -> AwsAction:
        uri = str(integration.get("uri", ""))
        named = ACTION_URI.fullmatch(uri)
        if named is None:
            raise DefinitionError(where, f"uri {uri!r} must be arn:…:apigateway:REGION:SERVICE:action/ACTION")
        service, action = named["service"], named["action"]
        try:
            model = self._session.get_service_model(service)
        except BotoCoreError as error:
            raise DefinitionError(where, f"uri names an unknown service: {error}") from None
        if model.metadata["protocol"] != "json":
            raise DefinitionError(
                where, f"{service} is not called with JSON, the one form this gateway speaks"
            )
        if action not in model.operation_names:
            raise DefinitionError(where, f"{service} has no action {action}")
        return AwsAction(
            service=model.signing_name,
            action=action,
            target=f"{model.metadata['targetPrefix']}.{action}",
            content_type=f"application/x-amz-json-{model.metadata['jsonVersion']}",
            templates=_templates(where, integration.get("requestTemplates", {})),
            passthrough=_passthrough(where, integration),
            parameters=_parameters(where, integration),
            responses=tuple(_response_rules(where, integration.get("responses", {}))),
            timeout_seconds=_timeout(where, integration),
        )

    def _schemas(self, where: str, operation: dict[str, Any]) -> dict[str, jsonschema.Draft4Validator]:
        name = operation.get("x-amazon-apigateway-request-validator")
        if name is None:
            return {}
        if name not in self._validators:
            raise DefinitionError(
                where, f"names request validator {name!r}, which the document does not define"
            )
        if not self._validators[name].get("validateRequestBody"):
            return {}
        content = operation.get("requestBody", {}).get("content", {})
        return {
            media_type: jsonschema.Draft4Validator(self._resolved(where, body.get("schema", {})))
            for media_type, body in content.items()
        }

    def _resolved(self, where: str, schema: Any) -> Any:
        """A schema with its `$ref`s into this document put in."""
        if isinstance(schema, list):
            return [self._resolved(where, part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" not in schema:
            return {key: self._resolved(where, value) for key, value in schema.items()}
        node: Any = self._document
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            node = node.get(part) if isinstance(node, dict) else None
        if node is None:
            raise DefinitionError(where, f"{schema['$ref']} leads nowhere")
        return self._resolved(where, node)


def _http_proxy(where: str, integration: dict[str, Any]) -> HttpProxy:
    uri = str(integration.get("uri", ""))
    if not uri.startswith(("http://", "https://")):
        raise DefinitionError(where, f"uri {uri!r} must begin with http:// or https://")
    return HttpProxy(
        uri=uri,
        http_method=str(integration.get("httpMethod", "ANY")).upper(),
        parameters=_parameters(where, integration),
        timeout_seconds=_timeout(where, integration),
    )


def _parameters(where: str, integration: dict[str, Any]) -> dict[tuple[str, str], str]:
    mapping = {}
    for target, source in integration.get("requestParameters", {}).items():
        place = PARAMETER_TARGET.fullmatch(target)
        if place is None or not PARAMETER_SOURCE.fullmatch(str(source)):
            raise DefinitionError(
                where, f"request parameter {target}: {source} is not a mapping this gateway knows"
            )
        mapping[place[1], place[2]] = str(source)
    return mapping


def _templates(where: str, templates: dict[str, str]) -> dict[str, airspeed.Template]:
    compiled = {}
    for media_type, text in templates.items():
        template = airspeed.Template(text, filename=where)
        try:
            template.ensure_compiled()
        except Exception as error:
            raise DefinitionError(where, f"mapping template for {media_type}: {error}") from None
        compiled[media_type] = template
    return compiled


def _passthrough(where: str, integration: dict[str, Any]) -> str:
    behaviour = str(integration.get("passthroughBehavior", "when_no_match")).lower()
    if behaviour not in ("when_no_match", "when_no_templates", "never"):
        raise DefinitionError(where, f"passthroughBehavior {behaviour!r} is unknown")
    return behaviour


def _response_rules(where: str, responses: dict[str, dict[str, Any]]) -> Iterator[ResponseRule]:
    for selection, response in responses.items():
        if unknown := response.keys() - {"statusCode", "responseTemplates"}:
            raise DefinitionError(where, f"response {selection}: {', '.join(unknown)} is not supported")
        try:
            pattern = None if selection == "default" else re.compile(selection)
        except re.error as error:
            raise DefinitionError(where, f"response {selection}: no regular expression: {error}") from None
        templates = _templates(where, response.get("responseTemplates", {}))
        yield ResponseRule(pattern, int(response["statusCode"]), templates)


def _timeout(where: str, integration: dict[str, Any]) -> float:
    milliseconds = integration.get("timeoutInMillis", LONGEST_TIMEOUT_MS)
    if not isinstance(milliseconds, int) or not 50 <= milliseconds <= LONGEST_TIMEOUT_MS:
        raise DefinitionError(where, f"timeoutInMillis must be 50 to {LONGEST_TIMEOUT_MS}")
    return milliseconds / 1000
