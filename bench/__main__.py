"""Figures, each against something measured in the same run: ``python -m bench [NAME ...]``; all without a name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from include.emulation.terminal import accept_any_text, printable

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def main(names: list[str]) -> int:
    accept_any_text()
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"bench: there is no {printable(unknown[0], 60)}; there is {', '.join(NAMES)}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(HERE.parent / "plugins"))
    for name in names or NAMES:
        print(f"== {name}", flush=True)
        importlib.import_module(f"bench.{name}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
