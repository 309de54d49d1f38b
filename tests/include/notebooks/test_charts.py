"""Charts are well-formed, to scale, and show what the data say and nothing that it does."""

from __future__ import annotations

from xml.etree import ElementTree

from pyspark.sql import Row

from pinterest_lake import charts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(html: str) -> tuple[list[str], list[float]]:
    """The texts and the widths of the bars."""
    tree = ElementTree.fromstring(f"<div>{html}</div>")
    return [text.text or "" for text in tree.iter(f"{SVG}text")], [
        float(bar.attrib["width"]) for bar in tree.iter(f"{SVG}rect")
    ]


def test_bars_are_to_scale() -> None:
    rows = [Row(year=2015, group="<b>&", median=1000.5), Row(year=2016, group=None, median=2001.0)]
    texts, widths = drawn(charts.bars("medians & more", rows))
    assert texts == ["2015 · <b>&", "1,000.5", "2016 · –", "2,001.0"]
    assert widths == [210, 420]


def test_nothing_zero_and_too_much() -> None:
    assert drawn(charts.bars("none", [])) == ([], [])
    assert drawn(charts.bars("zero", [Row(year=2015, count=0)])) == (["2015", "0"], [1])
    html = charts.bars("many", [Row(year=year, count=1) for year in range(charts.MOST_BARS + 5)])
    assert len(drawn(html)[1]) == charts.MOST_BARS
    assert "and 5 more" in html


def test_a_name_from_the_data_is_shown_and_obeyed_by_nothing() -> None:
    rows = [
        Row(country="\x1b[2J\u202e\x00\ufeff</text><script>", count=1),
        Row(country="x" * 1_000_000, count=1),
    ]
    texts, _ = drawn(charts.bars("q", rows))
    assert texts == [r"\x1b[2J\u202e\x00\ufeff</text><script>", "1", "x" * 39 + "…", "1"]
