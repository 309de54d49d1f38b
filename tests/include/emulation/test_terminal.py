"""No text from elsewhere commands the terminal that shows it."""

from __future__ import annotations

import io
import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from include.emulation.terminal import accept_any_text, harmless_json, printable, printable_lines

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # halves of surrogate pairs too
EVIL = "\x00\x07\x1b]0;title\x07\x1b[2J\x9b31m\x7f\r\n\t\u200b\u202e\u2066\u2028\ufeff\ud83d\U000e0041[/b][red]:smile:"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[/b] [red]x[/red]", "[/b] [red]x[/red]"),
        ("\x1b]0;t\x07\x1b[2J", r"\x1b]0;t\x07\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\r\nb\tc\x7f\x00", r"a\r\nb\tc\x7f\x00"),
        ("\u202eevil\u2069", r"\u202eevil\u2069"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("\ud83d half", r"\ud83d half"),
        ("Côte d’Ivoire 😀 中文", "Côte d’Ivoire 😀 中文"),
        (None, "None"),
        (1.5, "1.5"),
    ],
)
def test_what_a_terminal_would_obey_is_an_escape(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_cut() -> None:
    assert printable("x" * 1_000_000, 10) == "x" * 9 + "…"
    assert printable("x" * 10, 10) == "x" * 10
    assert printable("\x1b" * 10, 10) == "\\x1b\\x1b\\…"
    assert len(printable("x" * 1_000_000)) == 2_000


@given(ANY_TEXT)
@example(EVIL)
def test_no_text_holds_what_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert {unicodedata.category(each)[0] for each in shown} & {"C"} == set()
    assert not {"\u2028", "\u2029", "\n", "\r"} & set(shown)
    shown.encode()
    assert printable_lines(text).replace("\n", "").isprintable()
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.lists(ANY_TEXT, min_size=1, max_size=3))
@example([EVIL])
def test_rich_shows_exactly_what_is_printable(values: list[str]) -> None:
    shown = [printable(value) for value in values]
    out = io.StringIO()
    table = Table(box=None, show_header=False, padding=0, pad_edge=False)
    for value in shown:
        table.add_row(Text(value))
    Console(file=out, width=20_000, highlight=False, force_terminal=True).print(table)
    assert [line.rstrip() for line in out.getvalue().removesuffix("\n").split("\n")] == [
        value.rstrip() for value in shown
    ]


@given(st.recursive(ANY_TEXT | st.none() | st.floats(allow_nan=False, allow_infinity=False), st.lists))
@example([EVIL])
def test_json_keeps_its_values_and_commands_no_terminal(value: object) -> None:
    for ensure_ascii in (True, False):
        text = json.dumps(value, ensure_ascii=ensure_ascii, indent=1)
        for encoding in ("ascii", "utf-8"):
            harmless = harmless_json(text, encoding)
            assert json.loads(harmless) == value
            assert harmless.replace("\n", "").isprintable()
            assert harmless.encode(encoding)


def test_json_that_is_readable_stays_as_it_is() -> None:
    text = '{\n  "country": "Côte d’Ivoire 😀",\n  "n": 1.50\n}\n'
    assert harmless_json(text, "utf-8") == text
    assert harmless_json(text, "ascii") == (
        '{\n  "country": "C\\u00f4te d\\u2019Ivoire \\ud83d\\ude00",\n  "n": 1.50\n}\n'
    )


def test_any_text_can_be_written_whatever_the_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    accept_any_text()
    print("é → 😀", flush=True)
    assert raw.getvalue() == rb"\xe9 \u2192 \U0001f600" + b"\n"
