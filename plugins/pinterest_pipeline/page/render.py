"""From what was published to HTML. Every value is escaped: nothing in it is obeyed, and all of it is text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pinterest_pipeline.config import TABLES
from pinterest_pipeline.printable import printable

TITLES = {
    "q1": "1 · Most popular category in each country",
    "q2_counts": "2 · Posts by category and year",
    "q2_winners": "2 · Most popular category in each year",
    "q3_per_country": "3 · Most followed user in each country",
    "q3_top_country": "3 · Country with the most followed user",
    "q4": "4 · Most popular category by age group",
    "q5": "5 · Median follower count by age group",
    "q6": "6 · Users joined by year",
    "q7": "7 · Median follower count by joining year",
    "q8": "8 · Median follower count by joining year and age group",
}

LEDGER_COLUMNS = ("read", "clean", "superseded", "quarantined")

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { text-align: left; padding: .15rem .9rem .15rem 0; border-bottom: 1px solid #8884; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
details { margin-bottom: .5rem; } summary { cursor: pointer; font-weight: 600; }
.note { border-left: 4px solid #d97706; padding: .5rem 1rem; }
""".strip()


def render_answers(published: Mapping[str, Any], notes: Iterable[str] = ()) -> str:
    """
    Return the page of what was published.

    :param notes: what is to be said first.
    :raises KeyError, TypeError, ValueError: it is not what the batch publishes.
    """
    answers = published["answers"]
    missing = [name for name in TITLES if name not in answers]
    if missing:
        raise ValueError(f"no answers to {', '.join(missing)}")
    parts = [
        *_notes(notes),
        f"<p>Run <code>{_text(published['run_id'])}</code>, published {_text(published['generated_at'])}.</p>",
        "<h2>Ledger</h2>",
        _ledger("This run", published["ledger"]["run"]),
        _ledger("All runs", published["ledger"]["total"]),
        *_quality(published.get("quality", [])),
        "<h2>Answers</h2>",
        *(_answer(title, answers[name]) for name, title in TITLES.items()),
    ]
    return _page(parts)


def render_note(note: str, notes: Iterable[str] = ()) -> str:
    """Return a page that says why there are no answers to see; `notes` are said first."""
    return _page([*_notes(notes), *_notes([note])])


def _notes(notes: Iterable[str]) -> list[str]:
    return [f'<p class="note">{_text(note)}</p>' for note in notes]


def _page(parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Pinterest pipeline</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>Pinterest pipeline</h1>\n{body}\n</body>\n</html>\n"
    )


def _ledger(caption: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for table in TABLES:
        counts = tables[table]
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts["by_reason"].items()))
        rows.append({
            "table": table,
            **{name: counts[name] for name in LEDGER_COLUMNS},
            "why quarantined": reasons or "–",
            "unparsable follower counts": counts.get("unparsable_follower_counts", "–"),
        })
    return _table(rows, caption)


def _quality(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the quality gate found; nothing for answers that passed none."""
    if not results:
        return []
    rows = [
        {
            "expectation": result["expectation"].replace("_", " "),
            "table": result["table"],
            "found": "–" if result["observed"] is None else round(result["observed"], 4),
            "at most": result["at_most"],
            "why": result["detail"],
        }
        for result in results
    ]
    return ["<h2>Quality gate</h2>", _table(rows, "All were met, or nothing would be published")]


def _answer(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return f"<details><summary>{_text(title)}: no rows</summary></details>"
    count = f"{len(rows)} row{'s' if len(rows) != 1 else ''}"
    is_open = " open" if len(rows) <= 20 else ""
    return f"<details{is_open}><summary>{_text(title)}: {count}</summary>{_table(rows)}</details>"


def _table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> str:
    columns = list(rows[0])
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(_cell(row.get(column)) for column in columns) + "</tr>" for row in rows)
    title = f"<caption>{_text(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td class="number">{_text(value)}</td>'
    return f"<td>{_text(value)}</td>"


def _text(value: Any) -> str:
    return "" if value is None else escape(printable(value))
