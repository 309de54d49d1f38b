"""What a person gives to a command: taken, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from local.stack.errors import StackError
from local.stack.parameters import conf_of, whole_number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "POSTS= is not a whole number. POSTS is one from 1 to 1,000,000."),
        ("many", "POSTS=many is not a whole number. POSTS is one from 1 to 1,000,000."),
        ("1e3", "POSTS=1e3 is not a whole number. POSTS is one from 1 to 1,000,000."),
        ("٣", "POSTS=٣ is not a whole number. POSTS is one from 1 to 1,000,000."),
        ("\x1b[2J", r"POSTS=\x1b[2J is not a whole number. POSTS is one from 1 to 1,000,000."),
        ("0", "POSTS=0: at least 1 is needed."),
        ("-5", "POSTS=-5: at least 1 is needed."),
        ("1000001", "POSTS=1000001: at most 1,000,000 is possible."),
        ("9" * 5000, f"POSTS={'9' * 39}…: at most 1,000,000 is possible."),
        ("-" + "9" * 5000, f"POSTS=-{'9' * 38}…: at least 1 is needed."),
    ],
)
def test_a_number_that_is_none_or_out_of_bounds_is_refused_with_the_bounds(text: str, message: str) -> None:
    with pytest.raises(StackError) as refused:
        whole_number("POSTS", text, 1, 1_000_000)
    assert str(refused.value) == message


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("1000000", 1_000_000), (" 020", 20)])
def test_a_number_within_its_bounds_is_taken(text: str, number: int) -> None:
    assert whole_number("POSTS", text, 1, 1_000_000) == number


@pytest.mark.parametrize(
    ("text", "conf"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"posts": 100, "rate": 1.5, "name": "é\\ud800"}', {"posts": 100, "rate": 1.5, "name": "é\ud800"}),
    ],
)
def test_one_json_object_is_taken(text: str, conf: dict[str, Any]) -> None:
    assert conf_of(text) == conf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "CONF is not JSON: Expecting property name enclosed in double quotes"),
        ("{} {}", "CONF is not JSON: Extra data"),
        ("{'posts': 1}", "CONF is not JSON: "),
        ("\ufeff{}", "CONF is not JSON: "),
        ("\xa0{}", "CONF is not JSON: "),
        ("[1]", "CONF must be a JSON object, for example CONF="),
        ("null", "CONF must be a JSON object, for example CONF="),
        ("[" * 20_000, "CONF is nested too deeply. It is a JSON object, for example CONF="),
        (
            '{"a":' * 20_000 + "1" + "}" * 20_000,
            "CONF is nested too deeply. It is a JSON object, for example CONF=",
        ),
        ('{"posts": NaN}', "CONF is not JSON: NaN is no number that JSON has."),
        ('{"posts": -Infinity}', "CONF is not JSON: -Infinity is no number that JSON has."),
        ('{"posts": 1e999}', "CONF holds a number that is too large: 1e999"),
        (
            f'{{"posts": {"9" * 5000}}}',
            "CONF is not JSON that can be sent: a number in it has thousands of digits.",
        ),
        ('{"posts": 1, "posts": 2}', "CONF names 'posts' more than once."),
        ('{"a": [{"\\u001b": 1, "\\u001b": 2}]}', r"CONF names '\x1b' more than once."),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(StackError) as refused:
        conf_of(text)
    assert str(refused.value).startswith(message)
    assert "Traceback" not in str(refused.value)
