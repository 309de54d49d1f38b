"""What make demo prints of what was published, whatever the source tables held."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from local.stack import demo
from local.stack.errors import StackError

EVIL = "[/b][link=file:///etc/passwd]x[/link][red]\x1b]0;t\x07\x1b[2J\x9b31m\u202e\ud83d:smile:"
SHOWN = r"[/b][link=file:///etc/passwd]x[/link][red]\x1b]0;t\x07\x1b[2J\x9b31m\u202e\ud83d:smile:"
COUNTS = {"read": 3, "clean": 1, "superseded": 1, "quarantined": 1, "by_reason": {"[/i]\x1b": 1}}


def printed(show: Any) -> str:
    out = io.StringIO()
    show(Console(file=out, width=400, highlight=False, force_terminal=True, color_system="truecolor"))
    return (
        out
        .getvalue()
        .replace("\x1b[1m", "")
        .replace("\x1b[0m", "")
        .replace("\x1b[3m", "")
        .replace("\x1b[2m", "")
    )


def test_an_answer_is_shown_as_it_is_and_obeyed_by_nothing() -> None:
    rows = [{EVIL: EVIL, "count": 12345}, {EVIL: "[/b]", "count": 1.0}, {EVIL: None, "count": 2.5}]
    text = printed(lambda console: demo._print_answer(console, "1  a question", rows))
    assert text.count(SHOWN) == 2
    assert [word for word in ("12,345", "[/b] ", "2.5") if word not in text] == []
    assert not [each for each in text if not each.isprintable() and each != "\n"]


def test_a_ledger_is_shown_as_it_is_and_obeyed_by_nothing() -> None:
    ledger = {name: {**COUNTS, "[/b]\x1b[2J": name} for name in demo.TABLES} | {"geo": {"read": 1}}
    text = printed(lambda console: console.print(demo._ledger_table("A ledger", ledger)))
    assert r"[/b]\x1b[2J" in text
    assert r"[/i]\x1b" in text
    assert not [each for each in text if not each.isprintable() and each != "\n"]


def test_a_text_of_a_megabyte_is_cut() -> None:
    text = printed(lambda console: demo._print_answer(console, "q", [{"category": "x" * 1_000_000}]))
    assert "x" * 199 + "…" in text
    assert len(text) < 5_000


def published(**changes: Any) -> str:
    tables = {name: COUNTS for name in demo.TABLES}
    answers: dict[str, Any] = {key: [] for key in demo.QUESTIONS}
    return json.dumps({"ledger": {"run": tables, "total": tables}, "answers": answers, **changes})


def test_what_the_batch_publishes_is_taken() -> None:
    assert demo._published(published())["ledger"]["run"]["pin"] == COUNTS


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"text"',
        "null",
        "{}",
        published(answers={}),
        published(ledger={"run": {}}),
        published(answers={**{key: [] for key in demo.QUESTIONS}, "q1": [1]}),
        published(answers=dict.fromkeys(demo.QUESTIONS)),
    ],
)
def test_what_it_does_not_publish_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(
        StackError, match=r"^answers/latest\.json is not what the batch publishes\. Publish it again"
    ):
        demo._published(text)
