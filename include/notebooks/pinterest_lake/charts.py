"""Answers as bar charts, in plain SVG: any notebook shows it, and no library is needed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pyspark.sql import Row

MOST_BARS = 30
MOST_CHARACTERS = 40
"""Of a name: more has no room beside the bar."""
_BAR, _GAP, _LABELS, _WIDTH = 16, 6, 220, 420


def bars(title: str, rows: Sequence[Row]) -> str:
    """An answer as one bar a row: its last column is the measure, the others name the bar. HTML."""
    shown = rows[:MOST_BARS]
    most = max((float(row[-1]) for row in shown), default=0) or 1.0
    drawn = "".join(_bar(number, row, most) for number, row in enumerate(shown))
    rest = f"<p>and {len(rows) - len(shown)} more</p>" if len(rows) > len(shown) else ""
    height = (_BAR + _GAP) * max(len(shown), 1)
    return (
        f"<h4>{escape(title)}</h4>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABELS + _WIDTH + 120}" height="{height}" '
        f'font-family="sans-serif" font-size="12">{drawn}</svg>{rest}'
    )


def _bar(number: int, row: Row, most: float) -> str:
    *names, value = row
    label = " · ".join("–" if name is None else _printable(str(name)) for name in names)
    top = number * (_BAR + _GAP)
    width = max(_WIDTH * float(value) / most, 1)
    return (
        f'<text x="{_LABELS - 6}" y="{top + 12}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{_LABELS}" y="{top}" width="{width:.0f}" height="{_BAR}" fill="#4477aa"/>'
        f'<text x="{_LABELS + width + 6:.0f}" y="{top + 12}">{value:,}</text>\n'
    )


def _printable(name: str) -> str:
    """The beginning of a text from the data, with what would be obeyed or hidden (text direction, say) as escapes."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name[: MOST_CHARACTERS + 1])
    return shown if len(shown) <= MOST_CHARACTERS else shown[: MOST_CHARACTERS - 1] + "…"
