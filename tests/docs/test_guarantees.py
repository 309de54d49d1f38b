"""Every test that docs/guarantees.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()


def test_the_named_tests_exist() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    functions = {name for path in files for name in re.findall(r"def (test_\w+)\(", path.read_text())}
    named = set(re.findall(r"\b(test_\w+)(?!\w*\.py)\b", TEXT))
    assert len(named) > 20
    assert named - functions == set()
    assert set(re.findall(r"\b(test_\w+\.py)", TEXT)) <= {path.name for path in files}


def test_the_named_tests_of_the_sink_exist() -> None:
    folder = ROOT / "msk" / "s3_sink" / "src" / "test" / "java" / "pinterest" / "s3sink"
    classes = {
        path.stem: set(re.findall(r"void (\w+)\(", path.read_text())) for path in folder.glob("*Test.java")
    }
    unknown, current = [], ""
    for found in re.finditer(r"`(?:(\w+Test)|…)\.(\w+)`", TEXT):
        current = found[1] or current
        if found[2] not in classes.get(current, set()):
            unknown.append(f"{current}.{found[2]}")
    assert current
    assert unknown == []
