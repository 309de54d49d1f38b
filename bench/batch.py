"""What a day costs, beside all of history: an incremental batch run against a full one, over invented posts.

History is BENCH_POSTS posts (100000,1000000), cleaned and asked in one run; the day is another hundredth of it, in a
second run. Both are the code of the notebooks, in one warm driver, over a folder that holds what the sink writes; what
comes first is not counted: a run over a few posts, which has the JVM load what it needs. A million posts take 1.2 GB
of disk in a temporary folder, which is deleted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench._settings import whole_numbers
from include.emulation import synthetic

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".venv" / "databricks" / "bin" / "python"


def run() -> None:
    sizes = whole_numbers("BENCH_POSTS", "100000,1000000", 100, 100_000_000)
    paths = [str(ROOT), str(ROOT / "include" / "notebooks")]
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as folder:
        write_lines(Path(folder))
        command = [str(PYTHON), "-m", "bench._batch_driver", folder, *map(str, sizes)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
    if done.returncode:
        sys.stderr.write(done.stderr[-4000:])
        raise SystemExit("bench batch: the driver failed")


def write_lines(folder: Path) -> None:
    """Writes invented records into a file for each table, a line each, with ``%d`` in the place of the number."""
    for table, records in synthetic.posts().items():
        key = "index" if table == "pin" else "ind"
        with (folder / table).open("w", encoding="utf-8") as file:
            for record in records:
                rest = {name: value for name, value in record.items() if name != key}
                text = json.dumps(rest, ensure_ascii=False).replace("%", "%%")
                file.write(f'{{"{key}": %d, {text[1:]}\n')
