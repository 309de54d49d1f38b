"""The driver of ``bench batch``, in the notebooks' environment: python -m bench._batch_driver FOLDER POSTS ..."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pyspark.sql import SparkSession

from local.databricks import session
from pinterest_lake import answers
from pinterest_lake.batch import take_in
from pinterest_lake.lake import Lake, prepare
from pinterest_lake.objects import FolderLister
from pinterest_lake.schemas import TABLES, TOPICS

ROOT = Path(__file__).parents[1]
LINES = 10_000
"""Of an object, as many as the sink writes."""
DAY = 100
"""A day is this part of history."""
WARM_UP = 2_000


class World:
    """A bucket (a folder) that fills, and a schema it is taken into."""

    def __init__(self, spark: SparkSession, folder: Path, name: str, lines: dict[str, list[bytes]]) -> None:
        self.spark = spark
        self.bucket = folder / name
        self.name = name
        self.lines = lines
        self.next = 0

    def add(self, posts: int) -> None:
        """Puts further posts, as the sink would."""
        for table in TABLES:
            topic = f"pinterest.{table}"
            folder = self.bucket / "topics" / topic / "partition=0"
            folder.mkdir(parents=True, exist_ok=True)
            known = self.lines[table]
            for first in range(self.next, self.next + posts, LINES):
                numbers = range(first, min(first + LINES, self.next + posts))
                text = b"".join(known[number % len(known)] % number + b"\n" for number in numbers)
                (folder / f"{topic}+0+{first:010d}.json").write_bytes(text)
        self.next += posts

    def run(self, run_id: str) -> tuple[float, float]:
        """One batch run: seconds of the three cleans, one after the other, and of the answers."""
        lake = Lake(str(self.bucket), "pinterest", "", self.name, run_id)
        lister = FolderLister(lake.storage, _ls)
        cleans = sum(_timed(lambda table=table: take_in(self.spark, lake, table, lister)) for table in TABLES)

        def ask() -> None:
            moment = answers.snapshot(self.spark, lake, TOPICS)
            facts = answers.facts(moment)
            assert facts["pin"].total.clean == self.next, facts
            answers.write(self.spark, lake, TOPICS, answers.ask(moment))

        return cleans, _timed(ask)


def _timed(work: Callable[[], Any]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def _ls(path: str) -> list[Any]:
    return [
        SimpleNamespace(path=f"file:{item}", name=item.name + "/" * item.is_dir(), size=item.stat().st_size)
        for item in Path(path).iterdir()
    ]


def main(folder: Path, sizes: list[int]) -> None:
    settings = session.Settings(
        home=str(folder / "home"),
        warehouse=str(folder / "warehouse"),
        jars=[str(jar) for jar in sorted((ROOT / ".jars" / "spark").glob("*.jar"))],
        s3_endpoint_url="",
        region="us-east-1",
        driver_memory="4g",
        scratch=str(folder / "scratch"),
        legacy_features=True,
        catalogs=(),
        warm=True,
    )
    spark = session.start(settings, {})
    prepare(spark)
    lines = {table: (folder / table).read_bytes().splitlines() for table in TABLES}
    warm_up = World(spark, folder, "warm_up", lines)
    for number in range(2):
        warm_up.add(WARM_UP)
        warm_up.run(str(number))
    for size in sizes:
        world = World(spark, folder, f"of_{size}", lines)
        world.add(size)
        print(
            f"history of {size:,} posts, on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True
        )
        full = world.run("full")
        world.add(size // DAY)
        day = world.run("day")
        nothing = world.run("nothing")
        print(f"{'':<30} {'cleans':>8} {'answers':>8} {'both':>8} {'of full':>8}")
        for what, times in (
            ("all of it", full),
            (f"a day of {size // DAY:,} more", day),
            ("nothing new", nothing),
        ):
            share = sum(times) / sum(full)
            print(
                f"{what:<30} {times[0]:>6.1f} s {times[1]:>6.1f} s {sum(times):>6.1f} s {share:>8.2f}",
                flush=True,
            )
        shutil.rmtree(world.bucket)
        spark.sql(f"DROP SCHEMA `{world.name}` CASCADE")
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
