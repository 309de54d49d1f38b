"""A list of brokers has no order until it is sorted: MSK answers in another one each time.

`python -m local.lint.brokers FOLDER…` names each place that takes such a list from an answer without sorting it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MEMBERS = "BootstrapBrokerString"


def unsorted(source: str) -> Iterator[int]:
    """Yield each line of a module that takes a list of brokers from an answer other than as an argument of sorted()."""
    tree = ast.parse(source)
    inside = {
        id(node)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"sorted", "set"}
        for argument in call.args
        for node in ast.walk(argument)
    }
    for node in ast.walk(tree):
        key: ast.AST | None = node.slice if isinstance(node, ast.Subscript) else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            key = next(iter(node.args), None)
        if isinstance(key, ast.Constant) and str(key.value).startswith(MEMBERS) and id(node) not in inside:
            yield key.lineno


def main(folders: list[str]) -> int:
    """Print each place; return 1 if there is one."""
    found = [
        f"{path}:{line}: brokers are handed on in the order of one answer: sort them"
        for folder in folders
        for path in sorted(Path(folder).rglob("*.py"))
        for line in unsorted(path.read_text("utf-8"))
    ]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
