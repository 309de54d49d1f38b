"""Mapping templates: the variables that API Gateway gives to VTL, over airspeed."""

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import airspeed

from local.api_gateway.errors import BadBody

HALF_A_PAIR = re.compile("[\ud800-\udfff]")
JSON_PATH = re.compile(
    r"\.(?P<name>[\w-]+)|\[(?:'(?P<quoted>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<index>\d+))\]"
)


class TemplateFault(Exception):
    """A template that cannot be rendered: the definition's fault, not the caller's."""


def render(
    template: airspeed.Template,
    *,
    body: bytes,
    parameters: Mapping[str, Mapping[str, str]],
    context: dict[str, Any],
    stage_variables: Mapping[str, str],
) -> str:
    """Render a template over a body.

    :param parameters: `path`, `querystring` and `header`, each by name.
    :param context: `$context`; a template may set `$context.responseOverride.status` in it.
    :raises BadBody: the template reads the body as JSON and it is not.
    :raises TemplateFault: anything else that goes wrong in it.
    """
    names = {
        "input": Input(body, parameters),
        "util": Util(),
        "context": context,
        "stageVariables": dict(stage_variables),
    }
    try:
        return str(template.merge(names))
    except airspeed.TemplateExecutionError as error:
        if isinstance(error.__cause__, BadBody):
            raise error.__cause__ from None
        raise TemplateFault(str(error)) from None


class Input:
    """`$input`: the body and the parameters of a request, or the body of an answer."""

    def __init__(self, body: bytes, parameters: Mapping[str, Mapping[str, str]]) -> None:
        self._bytes = body
        self._parameters = parameters
        self._parsed: Any = None
        self._is_parsed = False

    @property
    def body(self) -> str:
        """The body as it came."""
        return self._bytes.decode("utf-8", "replace")

    def path(self, expression: str) -> Any:
        """The object at a JSONPath; None where there is none."""
        return next(self._at(expression), None)

    def json(self, expression: str) -> str:
        """The object at a JSONPath as JSON text, a string in its quotes; no text where there is none."""
        return next((_dumps(node) for node in self._at(expression)), "")

    def params(self, name: str | None = None) -> Any:
        """A parameter by name, looked for in path, query string and header; or all of them."""
        if name is None:
            return {kind: dict(values) for kind, values in self._parameters.items()}
        for kind in ("path", "querystring", "header"):
            values = self._parameters.get(kind, {})
            found = values.get(name.lower() if kind == "header" else name)
            if found is not None:
                return found
        return ""

    def _at(self, expression: str) -> Iterator[Any]:
        """What lies at a JSONPath: one object, which may be null, or nothing."""
        node = self._document()
        for step in _steps(expression):
            try:
                node = node[step]
            except (KeyError, IndexError, TypeError):
                return
        yield node

    def _document(self) -> Any:
        if not self._is_parsed:
            self._parsed = parse_json(self._bytes)
            self._is_parsed = True
        return self._parsed


class Util:
    """`$util`, named as API Gateway names it."""

    def escapeJavaScript(self, text: str) -> str:
        """Escape as JavaScript: quotes, ' and / too, control characters, everything beyond ASCII."""
        return json.dumps(_string(text))[1:-1].replace("'", "\\'").replace("/", "\\/")

    def parseJson(self, text: str) -> Any:
        """The object that JSON text stands for."""
        return json.loads(_string(text))

    def urlEncode(self, text: str) -> str:
        """application/x-www-form-urlencoded text."""
        return quote_plus(_string(text))

    def urlDecode(self, text: str) -> str:
        """The reverse of urlEncode."""
        return unquote_plus(_string(text))

    def base64Encode(self, text: str) -> str:
        """The UTF-8 bytes of a text in base64."""
        return base64.b64encode(_string(text).encode("utf-8")).decode("ascii")

    def base64Decode(self, text: str) -> str:
        """The reverse of base64Encode."""
        return base64.b64decode(_string(text)).decode("utf-8", "replace")


def parse_json(body: bytes) -> Any:
    """Read a body as strict JSON; an empty one is an empty object, as for API Gateway.

    API Gateway keeps one value of a repeated key, and its templates write half a surrogate pair as `?`. Both change
    what was sent in silence, so both are refused here.

    :raises BadBody: it is not JSON, or holds what cannot be carried on as it is.
    """
    if not body.strip():
        return {}
    try:
        parsed = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            object_pairs_hook=_each_key_once,
        )
        _check_unicode(parsed, body)
    except (ValueError, RecursionError) as error:
        raise BadBody(f"Could not parse request body into json: {error}") from None
    return parsed


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {json.dumps(key)[:100]} is repeated")
    return found


def _check_unicode(parsed: Any, body: bytes) -> None:
    """Refuse half a surrogate pair, which only an escape can bring into JSON in UTF-8."""
    if b"\\u" in body and (half := HALF_A_PAIR.search(json.dumps(parsed, ensure_ascii=False))):
        raise ValueError(f"\\u{ord(half[0]):04x} is half a surrogate pair")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is out of range")
    return number


def _dumps(node: Any) -> str:
    return json.dumps(node, ensure_ascii=False, separators=(",", ":"))


def _string(value: Any) -> str:
    # In Java these functions take a String and nothing else.
    if not isinstance(value, str):
        raise TypeError(f"a text is wanted, not a {type(value).__name__}")
    return value


@lru_cache(maxsize=256)
def _steps(expression: str) -> tuple[str | int, ...]:
    """The names and indexes of a JSONPath: $, .name, ['name'] and [0]."""
    if not expression.startswith("$"):
        raise TemplateFault(f"JSONPath {expression!r} must begin with $")
    steps: list[str | int] = []
    position = 1
    while position < len(expression):
        step = JSON_PATH.match(expression, position)
        if step is None:
            raise TemplateFault(f"JSONPath {expression!r}: only .name, ['name'] and [0] are supported")
        index = step["index"]
        steps.append(
            int(index) if index is not None else step["name"] or step["quoted"] or step["double"] or ""
        )
        position = step.end()
    return tuple(steps)
