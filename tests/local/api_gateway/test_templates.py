"""The variables of mapping templates, as AWS documents them."""

import json
from typing import Any

import airspeed
import pytest

from local.api_gateway.errors import BadBody
from local.api_gateway.templates import TemplateFault, render

PARAMETERS = {
    "path": {"a": "from path"},
    "querystring": {"a": "q", "b": "from query"},
    "header": {"c": "from header"},
}
BODY = {"text": 'say "é"', "list": [{"n-1": 1.5}, None], "none": None, "big": 2**70}


def rendered(template: str, body: Any = BODY, **context: Any) -> str:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return render(
        airspeed.Template(template),
        body=content,
        parameters=PARAMETERS,
        context=context,
        stage_variables={"v": "1"},
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$input.json('$.text')", '"say \\"é\\""'),
        ("$input.json('$.list')", '[{"n-1":1.5},null]'),
        ("$input.json('$.list[0]')", '{"n-1":1.5}'),
        ("$input.json(\"$['list'][0]['n-1']\")", "1.5"),
        ("$input.json('$.big')", str(2**70)),
        ("$input.json('$.absent')", ""),
        ("$input.json('$.none')", "null"),
        ("$input.path('$.text')", 'say "é"'),
        ("$input.path('$.list')[0].n-1", "1.5"),
        ("$input.path('$.absent.deeper')", ""),
        ("$input.params('a')", "from path"),
        ("$input.params('b')", "from query"),
        ("$input.params('C')", "from header"),
        ("$input.params('d')", ""),
        ("$input.params().querystring.b", "from query"),
        ('$util.escapeJavaScript("it\'s a/b")', "it\\'s a\\/b"),
        ("$util.base64Encode('é😀')", "w6nwn5iA"),
        ("$util.base64Decode('w6nwn5iA')", "é😀"),
        ("$util.urlEncode('a b&é')", "a+b%26%C3%A9"),
        ("$util.urlDecode('a+b%26')", "a b&"),
        ("$util.parseJson('[7]')[0]", "7"),
        ("$context.stage ${stageVariables.v}", "test 1"),
    ],
)
def test_variables(template: str, expected: str) -> None:
    assert rendered(template, stage="test") == expected


def test_the_body_as_it_came() -> None:
    assert rendered("$input.body", b"<raw/>") == "<raw/>"


def test_no_body_is_an_empty_object() -> None:
    assert rendered("$input.json('$')", b"") == "{}"


@pytest.mark.parametrize("body", [b"{", b"NaN", b'{"a": 1e999}', b"\xff"])
def test_what_is_no_json_is_the_callers_fault(body: bytes) -> None:
    with pytest.raises(BadBody, match="Could not parse request body into json"):
        rendered("$input.json('$')", body)


@pytest.mark.parametrize(
    "template", ["$input.json('$..x')", "$input.path('x')", "$util.base64Encode($input.path('$'))"]
)
def test_what_a_template_cannot_do_is_its_own_fault(template: str) -> None:
    with pytest.raises(TemplateFault):
        rendered(template)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"Data": {"index": 2, "index": 3}}', 'the key "index" is repeated'),
        (b'{"Data": 1, "Data": 1}', 'the key "Data" is repeated'),
        (b'{"a": [{"b": {"c": 1, "d": 2, "c": 3}}]}', 'the key "c" is repeated'),
        (b'{"\\u0061": 1, "a": 2}', 'the key "a" is repeated'),
        (b'{"": 1, "": 2}', 'the key "" is repeated'),
        (b'{"a": "\\ud83d"}', "\\ud83d is half a surrogate pair"),
        (b'{"a": "\\ude00\\ud83d"}', "\\ude00 is half a surrogate pair"),
        (b'{"a": ["x", {"\\uDBFF": 1}]}', "\\udbff is half a surrogate pair"),
        (b'"\\udc00"', "\\udc00 is half a surrogate pair"),
        (b'{"a": "\xed\xa0\xbd"}', "'utf-8' codec can't decode byte 0xed"),
    ],
)
def test_what_json_parsers_would_change_in_silence_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(BadBody, match=r"^Could not parse request body into json: ") as refused:
        rendered("$input.json('$')", body)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": "\\ud83d\\ude00"}', '{"a":"\U0001f600"}'),
        (b'{"a": "\\\\ud83d"}', '{"a":"\\\\ud83d"}'),
        (b'{"a": {"a": {"a": 1}}, "A": 2}', '{"a":{"a":{"a":1}},"A":2}'),
    ],
)
def test_what_only_looks_like_it_passes(body: bytes, expected: str) -> None:
    assert rendered("$input.json('$')", body) == expected
