"""make quarantine: what cannot be read, how much of it and why, with an example or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from include.emulation import terminal

EXAMPLES = 2
"""Records shown for each table and reason."""
WIDTH = 80

RETRY = """make dag DAG=pinterest_daily_batch CONF='{"retry_quarantined": true}'"""

Kind = tuple[str, str]
"""Table and reason."""


def show(lake: Path, say: Callable[[str], None]) -> None:
    """Print what the quarantine of a lake (a folder of Delta tables) holds, in lines of 80 columns."""
    counts: Counter[Kind] = Counter()
    examples: dict[Kind, list[dict[str, Any]]] = {}
    for row in _rows(lake / "quarantine"):
        kind = terminal.printable(row["table"]), terminal.printable(row["reason"])
        counts[kind] += 1
        if len(kept := examples.setdefault(kind, [])) < EXAMPLES:
            kept.append(row)
    if not counts:
        say("Nothing is held in quarantine: every record that was read is a row, or older than one.")
        return
    table_width = max(len(table) for table, _ in counts)
    say(f"{counts.total():,} records are held in quarantine:\n")
    for (table, reason), count in sorted(counts.items()):
        say(f"  {table:<{table_width}}  {reason:<16} {count:>9,}")
    say("\nSuch as, by table, reason and position (topic, partition @ offset; or stream, shard @ number):")
    for (table, reason), kept in sorted(examples.items()):
        say(f"\n  {table} · {reason}")
        for row in kept:
            say(terminal.printable(f"    {row['source']} {row['shard']}@{row['position']}"))
            say(f"      {printable(row['raw'])}")
    say(f"\nWhen a rule has changed, what is held in pin, geo and user can be read again:\n  {RETRY}")


def printable(raw: bytes | None, width: int = WIDTH - 6) -> str:
    """Return the beginning of a record's bytes, as text that no terminal obeys."""
    if raw is None:
        return "(no value)"
    longest = 4 * (width + 1)  # in UTF-8
    text = raw[:longest].decode("utf-8", "backslashreplace")
    return terminal.printable(text, width) if text.strip(" ") else f"(blank, {len(raw)} bytes)"


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    from deltalake import DeltaTable

    if not (folder / "_delta_log").is_dir():
        return
    columns = ["table", "reason", "source", "shard", "position", "raw"]
    for batch in DeltaTable(str(folder)).to_pyarrow_dataset().to_batches(columns=columns, batch_size=1000):
        yield from batch.to_pylist()
