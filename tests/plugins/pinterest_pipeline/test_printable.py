"""Text from elsewhere, in logs, messages and pages."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinterest_pipeline.printable import printable


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\x1b[2J\x9b\x00\n\u202e\u200b\ud83d", r"\x1b[2J\x9b\x00\n\u202e\u200b\ud83d"),
        ("Côte d’Ivoire 😀", "Côte d’Ivoire 😀"),
        (1.5, "1.5"),
        ("x" * 1_000_000, "x" * 1_999 + "…"),
    ],
)
def test_what_would_be_obeyed_is_an_escape(value: object, shown: str) -> None:
    assert printable(value) == shown


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_becomes_one_line_that_utf8_has(text: str) -> None:
    shown = printable(text)
    shown.encode()
    assert not {each for each in shown if unicodedata.category(each)[0] == "C" or each in "\u2028\u2029"}
