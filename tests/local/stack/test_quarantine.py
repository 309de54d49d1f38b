"""make quarantine, over a table that Delta wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from local.stack import quarantine


def told(lake: Path) -> list[str]:
    lines: list[str] = []
    quarantine.show(lake, lines.append)
    return "\n".join(lines).splitlines()


def held(table: str, reason: str, position: int, raw: bytes | None) -> dict[str, Any]:
    return {
        "table": table,
        "reason": reason,
        "source": f"pinterest.{table}",
        "shard": "0",
        "position": str(position),
        "raw": raw,
    }


def test_what_is_held_and_why(tmp_path: Path) -> None:
    rows = [held("geo", "not_json", number, b'{"ind": %d, "country": "' % number) for number in range(1234)]
    rows += [held("geo", "null_value", 2000, None), held("pin", "not_utf8", 7, b"\xff\x1b[31m" + b"x" * 500)]
    schema = pa.schema([(name, pa.binary() if name == "raw" else pa.string()) for name in rows[0]])
    write_deltalake(str(tmp_path / "quarantine"), pa.Table.from_pylist(rows, schema=schema))
    lines = told(tmp_path)
    assert lines[0] == "1,236 records are held in quarantine:"
    assert "  geo  not_json             1,234" in lines
    assert "    pinterest.geo 0@2000" in lines
    assert "      (no value)" in lines
    assert sum(line.startswith('      {"ind"') for line in lines) == quarantine.EXAMPLES
    assert any(line.startswith(r"      \xff\x1b[31mxxx") and line.endswith("…") for line in lines)
    assert max(len(line) for line in lines if "such as" not in line.lower()) <= quarantine.WIDTH


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (None, "(no value)"),
        (b"", "(blank, 0 bytes)"),
        (b" \t", r" \t"),
        ("é😀".encode(), "é😀"),
        (b"a\nb\x1b[2J", r"a\nb\x1b[2J"),
        (b"x" * 12, "xxxxxxxxxxxx"),
        (b"x" * 13, "xxxxxxxxxxx…"),
    ],
)
def test_no_record_can_command_a_terminal(raw: bytes | None, shown: str) -> None:
    assert quarantine.printable(raw, 12) == shown


def test_nothing_held_is_said(tmp_path: Path) -> None:
    assert told(tmp_path) == [
        "Nothing is held in quarantine: every record that was read is a row, or older than one."
    ]
