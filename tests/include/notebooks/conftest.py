"""One Spark session with Delta for all tests of the notebooks, and a workspace to run them in."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pyspark", reason="the notebooks are tested with .venv/databricks")

from pyspark.sql import SparkSession
from pyspark.sql.utils import is_remote

from pinterest_lake.lake import Lake

ROOT = Path(__file__).parents[3]
NOTEBOOKS = ROOT / "include" / "notebooks"
JARS = ROOT / ".jars" / "spark"


def delta_jars() -> list[Path]:
    """Return the jars of Delta and S3; sets what a driver takes from the environment."""
    jars = sorted(JARS.glob("*.jar"))
    if not any(jar.name.startswith("delta-spark") for jar in jars):
        pytest.fail(f"no Delta jars in {JARS}; run: make install", pytrace=False)
    os.environ.update(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1", TZ="UTC")
    time.tzset()
    return jars


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    jars = delta_jars()
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for key, value in spark_settings(jars, tmp_path_factory.mktemp("spark")).items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def spark_settings(jars: list[Path], home: Path) -> dict[str, str]:
    """Return the configuration of a driver for tests, as the laptop's where it matters."""
    return {
        "spark.driver.memory": "2g",
        "spark.driver.extraClassPath": ":".join(str(jar) for jar in jars),
        # Many small queries, each planned anew: to compile them costs more than it saves. What is worth compiling is
        # the planner, by both of Java's compilers: the quick one alone has too little room, and compiles it again.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.extraJavaOptions": f"-XX:+UseSerialGC -Duser.timezone=UTC -Dderby.system.home={home}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.log.level": "ERROR",
        "spark.ui.enabled": "false",
        # as on the laptop
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
        "spark.delta.logStore.file.impl": "pinterest.databricks.LinkLogStore",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        "spark.sql.warehouse.dir": f"file:{home}/warehouse",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "1",
    }


class NotebookExit(BaseException):
    """What ``dbutils.notebook.exit`` does to a notebook."""


class FakeDbutils:
    """``dbutils`` over local folders: widgets, exit, and the file commands the notebooks use."""

    def __init__(self, **widgets: str) -> None:
        self._given = widgets
        self._defaults: dict[str, str] = {}
        self._mounts: dict[str, str] = {}
        self.widgets = SimpleNamespace(text=self._declare, dropdown=self._declare, get=self._get)
        self.notebook = SimpleNamespace(exit=self._exit)
        self.fs = SimpleNamespace(
            ls=self._ls,
            head=self._head,
            put=self._put,
            mounts=self._list_mounts,
            mount=self._mount,
            unmount=self._mounts.pop,
        )

    def _declare(self, name: str, default: str, *_: Any) -> None:
        self._defaults[name] = default

    def _get(self, name: str) -> str:
        return self._given.get(name, self._defaults[name])

    def _exit(self, value: str) -> None:
        raise NotebookExit(value)

    def _ls(self, path: str) -> list[Any]:
        folder = Path(path)
        return [
            SimpleNamespace(path=str(item), name=item.name + "/" * item.is_dir(), size=item.stat().st_size)
            for item in sorted(folder.iterdir())
        ]

    def _head(self, path: str, most: int = 65536) -> str:
        return Path(path).read_bytes()[:most].decode()

    def _put(self, path: str, text: str, overwrite: bool = False) -> bool:
        target = Path(path)
        if target.exists() and not overwrite:
            raise FileExistsError(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return True

    def _list_mounts(self) -> list[Any]:
        return [SimpleNamespace(mountPoint=point, source=source) for point, source in self._mounts.items()]

    def _mount(self, source: str, mount_point: str) -> bool:
        if mount_point in self._mounts:
            raise RuntimeError(f"Directory already mounted: {mount_point}")
        self._mounts[mount_point] = source
        return True


class Workspace:
    """A bucket (a folder), an empty schema, and the notebooks to run over them."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark = spark
        self.storage = folder
        folder.mkdir(parents=True)
        self.schema = f"t{uuid.uuid4().hex[:12]}"
        self.runs = 0
        self.shown: list[str] = []

    def lake(self, run_id: str = "test") -> Lake:
        return Lake(str(self.storage), "pinterest", "", self.schema, run_id)

    def put(self, table: str, first: int, lines: list[bytes], partition: int = 0) -> Path:
        """Puts one object of the sink: lines at the offsets from ``first`` on."""
        topic = f"pinterest.{table}"
        folder = self.storage / "topics" / topic / f"partition={partition}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{topic}+{partition}+{first:010d}.json"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    def set_aside(self, table: str, first: int, values: list[bytes | None], partition: int = 0) -> Path:
        """Puts one object of what the sink could not write as lines, at the offsets from ``first`` on."""
        reasons = ["null_value" if value is None else "line_break" for value in values]
        raws = [None if value is None else base64.b64encode(value).decode() for value in values]
        envelopes = [{"reason": why, "raw": raw} for why, raw in zip(reasons, raws, strict=True)]
        return self.put(
            f"{table}.dead-letters", first, [json.dumps(item).encode() for item in envelopes], partition
        )

    def run(self, notebook: str, **widgets: str) -> dict[str, Any]:
        """Runs a notebook as a job does; gives what it hands to ``dbutils.notebook.exit``."""
        self.runs += 1
        given = {"storage": str(self.storage), "schema": self.schema, "run_id": f"run-{self.runs}", **widgets}
        path = NOTEBOOKS / f"{notebook}.py"
        names = {
            "__name__": "__main__",
            # a Spark Connect session has no newSession: there the notebooks share one
            "spark": self.spark if is_remote() else self.spark.newSession(),
            "dbutils": FakeDbutils(**given),
            "display": lambda frame: frame.collect(),
            "displayHTML": self.shown.append,
        }
        try:
            exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
        except NotebookExit as end:
            return dict(json.loads(str(end)))
        raise AssertionError(f"{notebook} ended without dbutils.notebook.exit")

    def version(self, table: str) -> int:
        history = self.spark.sql(f"DESCRIBE HISTORY {self.lake().table(table)} LIMIT 1")
        return int(history.select("version").collect()[0][0])

    def rows(self, table: str) -> list[dict[str, Any]]:
        return [row.asDict() for row in self.spark.table(self.lake().table(table)).collect()]


@contextmanager
def workspace_in(spark: SparkSession, folder: Path) -> Iterator[Workspace]:
    """A workspace for one test, or for one example of a test, that leaves nothing behind."""
    made = Workspace(spark, folder / "bucket")
    try:
        yield made
    finally:
        spark.sql(f"DROP SCHEMA IF EXISTS `{made.schema}` CASCADE")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workspace(spark: SparkSession, tmp_path: Path) -> Iterator[Workspace]:
    with workspace_in(spark, tmp_path) as made:
        yield made
