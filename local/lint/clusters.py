"""What is described as a cluster states its access mode, and a runtime of long-term support.

`python -m local.lint.clusters PATH…` names each place that does not. Without an access mode a cluster has no Unity
Catalog, and a key that names a minor version is out of support as soon as the next one is out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from local.databricks.compute import RUNTIMES

KINDS = {".py", ".toml", ".yaml", ".json"}
_RUNTIME = re.compile(r"\b\d+(?:\.\d+)?\.x(?:-[a-z0-9.]+)+\b|\b1[89]\.\d+\.x\b")
_MODES = {"data_security_mode", "policy_id"}
_NO_MODE = "a cluster without data_security_mode has no Unity Catalog: SINGLE_USER is dedicated access mode"
# a cluster in a text (TOML, YAML, JSON or JSON within them), whose keys may be quoted
_TEXT_CLUSTER = re.compile(
    r"\{[^{}]*\bspark_version\b(?:[^{}]|\{[^{}]*\})*\}|\bnew_cluster\b\W*=\s*\{[^{}]*\}"
)


def wrong(text: str, kind: str) -> Iterator[tuple[int, str]]:
    """Yield line and fault of each runtime without support, and of each cluster without an access mode.

    :param kind: suffix of the file.
    """
    for match in _RUNTIME.finditer(text):
        if match[0] not in RUNTIMES:
            yield (
                _line(text, match.start()),
                f"{match[0]} is no runtime of long-term support: {next(iter(RUNTIMES))}",
            )
    found = _in_python(ast.parse(text)) if kind == ".py" else _in_text(text)
    yield from ((line, _NO_MODE) for line in found)


def _in_python(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of clusters without an access mode: dictionaries, and calls with keywords."""
    for node in ast.walk(tree):
        names: set[object] = set()
        if isinstance(node, ast.Dict):
            names = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            yield from _bare(node)
        elif isinstance(node, ast.Call):
            names = {keyword.arg for keyword in node.keywords}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # JSON in a text
            yield from (node.lineno for _ in _in_text(node.value))
        if "spark_version" in names and not _MODES & names:
            assert isinstance(node, ast.expr)
            yield node.lineno


def _bare(node: ast.Dict) -> Iterator[int]:
    """Yield the lines of clusters that do not even say their runtime."""
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == "new_cluster" and isinstance(value, ast.Dict):
            names = {each.value for each in value.keys if isinstance(each, ast.Constant)}
            if value.keys and not {"spark_version", *_MODES} & names:
                yield value.lineno


def _in_text(text: str) -> Iterator[int]:
    for match in _TEXT_CLUSTER.finditer(text):
        if not any(mode in match[0] for mode in _MODES):
            yield _line(text, match.start())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def main(paths: list[str]) -> int:
    """Print each place; return 1 if there is one."""
    files = [
        file
        for path in paths
        for file in ([Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*")))
        if file.suffix in KINDS
    ]
    found = [
        f"{file}:{line}: {fault}"
        for file in files
        for line, fault in wrong(file.read_text("utf-8"), file.suffix)
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
